import importlib.util
import shutil
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from google.protobuf import text_format
from typer.testing import CliRunner

from gclf_export import ExportError
from gclf_export.cli import app
from gclf_export.triton import config, write_repository
from gclf_runtime import Classifier, InputSpec, ModelSpec


@pytest.fixture(scope="module")
def schema() -> Any:
    """Return the generated code of Triton's own model_config.proto."""
    try:
        package = distribution("tritonclient")
    except PackageNotFoundError:
        pytest.skip("needs tritonclient")
    # Not by its name: tritonclient.grpc imports grpc, which nothing here needs.
    path = Path(str(package.locate_file("tritonclient/grpc/model_config_pb2.py")))
    found = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def files_of(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_the_config_is_what_tritons_schema_and_the_model_say(
    tmp_path: Path, colours: Path, schema: Any
):
    spec = Classifier(colours).spec

    target = write_repository(tmp_path / "models", colours, spec)

    text = (target / "config.pbtxt").read_text(encoding="utf-8")
    parsed = text_format.Parse(text, schema.ModelConfig())
    assert (parsed.name, parsed.backend) == ("colours", "onnxruntime")
    assert [(i.name, list(i.dims)) for i in parsed.input] == [("images", [16, 16, 3])]
    assert parsed.input[0].data_type == schema.TYPE_UINT8
    outputs = [(o.name, list(o.dims), o.label_filename) for o in parsed.output]
    assert outputs == [("probabilities", [3], "labels.txt"), ("logits", [3], "labels.txt")]
    assert {o.data_type for o in parsed.output} == {schema.TYPE_FP32}
    assert max(parsed.dynamic_batching.preferred_batch_size) <= parsed.max_batch_size == 32
    assert parsed.dynamic_batching.max_queue_delay_microseconds == 1000
    assert parsed.instance_group[0].kind == schema.ModelInstanceGroup.KIND_AUTO
    assert parsed.parameters["cudnn_conv_algo_search"].string_value == "1"


def test_the_repository_holds_the_file_and_its_labels(tmp_path: Path, colours: Path):
    spec = Classifier(colours).spec

    target = write_repository(tmp_path / "new" / "models", colours, spec)

    assert files_of(tmp_path) == [
        f"new/models/colours/{name}" for name in ("1/model.onnx", "config.pbtxt", "labels.txt")
    ]
    assert (target / "1" / "model.onnx").read_bytes() == colours.read_bytes()
    labels = (target / "labels.txt").read_text(encoding="utf-8")
    assert tuple(labels.splitlines()) == spec.label_names
    assert Classifier(target / "1" / "model.onnx").spec == spec


def test_height_comes_before_width(schema: Any):
    spec = ModelSpec(label_names=("a",), input=InputSpec(height=20, width=30))

    parsed = text_format.Parse(config(spec, "m"), schema.ModelConfig())

    assert list(parsed.input[0].dims) == [20, 30, 3]


def test_the_same_model_twice_is_no_error_and_another_is(tmp_path: Path, colours: Path):
    spec = Classifier(colours).spec
    target = write_repository(tmp_path, colours, spec)
    assert write_repository(tmp_path, colours, spec) == target
    before = {name: (target / name).read_bytes() for name in files_of(target)}

    with pytest.raises(ExportError, match=r"colours holds another model\. Remove it"):
        write_repository(tmp_path, colours, replace(spec, label_names=("x", "y", "z")))

    assert {name: (target / name).read_bytes() for name in files_of(target)} == before
    assert [path.name for path in tmp_path.iterdir()] == ["colours"]
    (target / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match="holds another model"):
        write_repository(tmp_path, colours, spec)


def test_a_file_name_becomes_a_name_for_triton(tmp_path: Path, colours: Path):
    spec = Classifier(colours).spec
    shutil.copy(colours, tmp_path / "ñ my model (2).onnx")

    target = write_repository(tmp_path / "models", tmp_path / "ñ my model (2).onnx", spec)

    assert target.name == "my_model_2"
    with pytest.raises(ExportError, match=r"is no name for Triton"):
        write_repository(tmp_path / "models", colours, spec, name="../up")
    with pytest.raises(ExportError, match=r"has a line break"):
        write_repository(tmp_path, colours, replace(spec, label_names=("a\nb", "c")))


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, colours: Path):
    (tmp_path / "taken").write_text("a file")
    spec = Classifier(colours).spec

    with pytest.raises(ExportError, match=r"cannot be written .* --triton"):
        write_repository(tmp_path / "taken", colours, spec)
    with pytest.raises(ExportError, match=r"cannot be written .* --triton"):
        write_repository(tmp_path / "models", tmp_path / "absent.onnx", spec)

    assert files_of(tmp_path) == ["taken"]
    assert not (tmp_path / "models").exists()


def test_the_command_adds_what_it_exported(run: Path, tmp_path: Path):
    output = tmp_path / "mine.onnx"
    options = ["--output", str(output), "--triton", str(tmp_path / "models")]

    result = CliRunner().invoke(app, [str(run / "model.pt"), *options])

    assert result.exit_code == 0, result.output
    assert f"tritonserver --model-repository {tmp_path / 'models'}" in result.output
    served = tmp_path / "models" / "mine" / "1" / "model.onnx"
    assert served.read_bytes() == output.read_bytes()
