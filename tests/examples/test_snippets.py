"""The model card's code, run as it stands."""

import io
import itertools
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("torch")

import onnx

from gclf_export import snippets
from gclf_runtime import Classifier, InputSpec, ModelSpec
from gclf_runtime.model_file import seal
from gclf_runtime.spec import SPEC_KEY, Fit, Interpolation

ROOT = Path(__file__).resolve().parent.parent.parent
GENDER = ROOT / "runtime" / "gclf_runtime" / "models" / "gender.onnx"
FACE = ROOT / "examples" / "faces" / "male_30-39.jpg"
_IN_FULL: list[tuple[Fit, Interpolation, int]] = [("stretch", "bilinear", 0)]


def printed(command: list[Any], folder: Path) -> dict[str, float]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def fitting(model: Path, to: Path, spec: InputSpec) -> Classifier:
    """Write a model again that fits pictures in another way."""
    proto = onnx.load(model)
    whole = replace(Classifier(model).spec, input=spec)
    onnx.helper.set_model_props(proto, {SPEC_KEY: whole.to_json()})
    to.write_bytes(seal(proto.SerializeToString()))
    return Classifier(to, device="cpu")


def pictures() -> dict[str, bytes]:
    face = Image.open(FACE).convert("RGB")
    sideways = Image.Exif()
    sideways[0x0112] = 6
    made: dict[str, bytes] = {}
    for name, image, format, options in (
        ("plain", face, "PNG", {}),
        ("wide", face.resize((301, 77)), "PNG", {}),
        ("tall", face.resize((40, 133)), "JPEG", {"exif": sideways}),
        ("large", face.resize((1000, 800)), "JPEG", {}),
        ("grey", face.convert("L"), "PNG", {}),
        ("ink", face.convert("CMYK"), "JPEG", {}),
    ):
        file = io.BytesIO()
        image.save(file, format, **options)
        made[name] = file.getvalue()
    return made


def test_the_python_code_gives_the_very_answers_of_the_runtime(tmp_path: Path, colours: Path):
    """Each way to fit and each filter, on pictures of every kind, in one process for all."""
    code, expected = [], dict[str, NDArray[np.float32]]()
    ways = [*itertools.product(get_args(Fit), get_args(Interpolation), [3]), *_IN_FULL]
    for fit, filter, margin in ways:
        spec = InputSpec(
            height=16, width=16, fit=fit, interpolation=filter, jpeg_scale_margin=margin
        )
        model = f"{fit}-{filter}-{margin}.onnx"
        classifier = fitting(colours, tmp_path / model, spec)
        for name, content in pictures().items():
            picture = f"{name}-{model}.png"
            (tmp_path / picture).write_bytes(content)
            lines = snippets.python(classifier.spec, model)
            code.append(lines.replace(json.dumps(snippets.PICTURE), json.dumps(picture)))
            answer = classifier.predict_images([content])[0]
            expected[picture] = answer.probabilities_k
    (tmp_path / "use.py").write_text("".join(code), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "use.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    answers = [json.loads(line) for line in done.stdout.splitlines()]

    assert len(answers) == 19 * 6
    found = np.array([list(answer.values()) for answer in answers], np.float32)
    np.testing.assert_array_equal(found, np.stack(list(expected.values())))


@pytest.mark.parametrize("write", [snippets.python, snippets.javascript, snippets.csharp])
@pytest.mark.parametrize("fit", get_args(Fit))
def test_a_model_is_used_in_ten_lines(write: Any, fit: Fit):
    spec = ModelSpec(label_names=("a", "b"), input=InputSpec(fit=fit))

    lines = [line for line in write(spec, "m.onnx").splitlines() if line.strip()]

    assert len(lines) <= 10
    assert max(map(len, lines)) <= 160


def test_the_python_code_runs_on_the_embedded_model(tmp_path: Path):
    shutil.copy(GENDER, tmp_path / 'a "model".onnx')
    shutil.copy(FACE, tmp_path / snippets.PICTURE)
    classifier = Classifier(GENDER, device="cpu")
    code = snippets.python(classifier.spec, 'a "model".onnx')

    answer = printed([sys.executable, "-W", "error", "-c", code], tmp_path)

    expected = classifier.predict_images([FACE])[0]
    assert answer == dict(zip(classifier.spec.label_names, expected.probabilities_k, strict=True))


@pytest.mark.web
@pytest.mark.parametrize("fit", get_args(Fit))
def test_the_javascript_code_gives_the_answers_of_the_runtime(
    node_modules: Path, tmp_path: Path, colours: Path, fit: Fit
):
    (tmp_path / "node_modules").symlink_to(node_modules, target_is_directory=True)
    for script in (ROOT / "examples" / "web").glob("*.js"):
        shutil.copy(script, tmp_path)
    spec = InputSpec(height=16, width=16, fit=fit)
    classifier = fitting(colours, tmp_path / "colours.onnx", spec)
    (tmp_path / snippets.PICTURE).write_bytes(pictures()["tall"])
    code = snippets.javascript(classifier.spec, "colours.onnx")
    (tmp_path / "use.mjs").write_text(code, encoding="utf-8")

    answer = printed(["node", "use.mjs"], tmp_path)

    expected = classifier.predict_images([tmp_path / snippets.PICTURE])[0]
    found = [answer[label] for label in classifier.spec.label_names]
    np.testing.assert_allclose(found, expected.probabilities_k, rtol=0, atol=1e-4)


def test_the_csharp_code_answers(tmp_path: Path, colours: Path):
    if not shutil.which("dotnet"):
        pytest.skip("needs dotnet, and packages from its index")
    project = """<Project Sdk="Microsoft.NET.Sdk"><PropertyGroup>
      <OutputType>Exe</OutputType><TargetFramework>net8.0</TargetFramework>
      <ImplicitUsings>enable</ImplicitUsings></PropertyGroup><ItemGroup>
      <PackageReference Include="Microsoft.ML.OnnxRuntime" Version="1.*" />
      <PackageReference Include="SixLabors.ImageSharp" Version="3.*" />
    </ItemGroup></Project>"""
    shutil.copy(colours, tmp_path / "colours.onnx")
    Image.new("RGB", (20, 20), (250, 10, 10)).save(tmp_path / snippets.PICTURE)
    (tmp_path / "use.csproj").write_text(project, encoding="utf-8")
    spec = Classifier(colours).spec
    (tmp_path / "use.cs").write_text(snippets.csharp(spec, "colours.onnx"), encoding="utf-8")

    command = ["dotnet", "run", "--project", tmp_path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)

    assert done.returncode == 0, done.stdout
    shares = dict(line.split(": ") for line in done.stdout.splitlines())
    assert list(shares) == list(spec.label_names)
    assert float(shares["red"].rstrip(" %").replace(",", ".")) > 50
