import importlib.util
import os
import shutil
import subprocess
import sys
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

    text = (target.parent / "config.pbtxt").read_text(encoding="utf-8")
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
    assert target == tmp_path / "new" / "models" / "colours" / "1"
    assert (target / "model.onnx").read_bytes() == colours.read_bytes()
    labels = (target.parent / "labels.txt").read_text(encoding="utf-8")
    assert tuple(labels.splitlines()) == spec.label_names
    assert Classifier(target / "model.onnx").spec == spec


def test_height_comes_before_width(schema: Any):
    spec = ModelSpec(label_names=("a",), input=InputSpec(height=20, width=30))

    parsed = text_format.Parse(config(spec, "m"), schema.ModelConfig())

    assert list(parsed.input[0].dims) == [20, 30, 3]


@pytest.mark.parametrize(
    ("precision", "kind"),
    [("fp32", "KIND_AUTO"), ("fp16", "KIND_GPU"), ("bf16", "KIND_AUTO"), ("int8", "KIND_CPU")],
)
def test_a_precision_is_served_where_it_is_meant_to_run(schema: Any, precision: Any, kind: str):
    spec = ModelSpec(label_names=("a",), precision=precision)

    parsed = text_format.Parse(config(spec, "m"), schema.ModelConfig())

    assert parsed.instance_group[0].kind == getattr(schema.ModelInstanceGroup, kind)


def test_a_newer_export_of_a_model_is_its_next_version(tmp_path: Path, colours: Path):
    spec = Classifier(colours).spec
    models, newer = tmp_path / "models", tmp_path / "colours.onnx"
    write_repository(models, colours, spec)
    newer.write_bytes(colours.read_bytes() + b"newer")

    added = write_repository(models, newer, replace(spec, precision="int8"))

    assert added == models / "colours" / "2"
    assert (added / "model.onnx").read_bytes() == newer.read_bytes()
    assert (models / "colours" / "1" / "model.onnx").read_bytes() == colours.read_bytes()
    assert "KIND_CPU" in (models / "colours" / "config.pbtxt").read_text()
    assert write_repository(models, newer, spec) == added
    assert [path.name for path in models.iterdir()] == ["colours"]


def test_a_config_that_somebody_has_changed_stays(tmp_path: Path, colours: Path):
    spec = Classifier(colours).spec
    path = write_repository(tmp_path, colours, spec).parent / "config.pbtxt"
    mine = path.read_text().replace("count: 1", "count: 4")
    path.write_text(mine)
    other = tmp_path / "colours.onnx"
    other.write_bytes(b"another")

    assert write_repository(tmp_path, other, replace(spec, precision="int8")).name == "2"
    assert path.read_text() == mine


def test_what_a_kill_has_left_is_removed_by_a_later_run(tmp_path: Path, colours: Path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = tmp_path / f".colours.{ended.pid}.0a1b2c3d.partial"
    (left / "1").mkdir(parents=True)
    os.utime(left, (0, 0))

    write_repository(tmp_path, colours, Classifier(colours).spec)

    assert [path.name for path in tmp_path.iterdir()] == ["colours"]


def test_the_same_model_twice_is_no_error_and_another_is(tmp_path: Path, colours: Path):
    spec = Classifier(colours).spec
    target = write_repository(tmp_path, colours, spec).parent
    assert write_repository(tmp_path, colours, spec) == target / "1"
    before = {name: (target / name).read_bytes() for name in files_of(target)}

    with pytest.raises(ExportError, match=r"colours holds another model\. Remove it"):
        write_repository(tmp_path, colours, replace(spec, label_names=("x", "y", "z")))

    assert {name: (target / name).read_bytes() for name in files_of(target)} == before
    assert [path.name for path in tmp_path.iterdir()] == ["colours"]
    with pytest.raises(ExportError, match="holds another model"):
        write_repository(tmp_path, colours, replace(spec, input=InputSpec(height=8, width=16)))
    (target / "labels.txt").unlink()
    with pytest.raises(ExportError, match="holds another model"):
        write_repository(tmp_path, colours, spec)


def test_a_file_name_becomes_a_name_for_triton(tmp_path: Path, colours: Path):
    spec = Classifier(colours).spec
    shutil.copy(colours, tmp_path / "ñ my model (2).onnx")

    target = write_repository(tmp_path / "models", tmp_path / "ñ my model (2).onnx", spec)

    assert target.parent.name == "my_model_2"
    with pytest.raises(ExportError, match=r"is no name for Triton"):
        write_repository(tmp_path / "models", colours, spec, name="../up")
    for label in ("a\nb", "a\n"):
        with pytest.raises(ExportError, match=r"has a line break"):
            write_repository(tmp_path, colours, replace(spec, label_names=(label, "c")))


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
    served = tmp_path / "models" / "mine"
    assert (served / "1" / "model.onnx").read_bytes() == output.read_bytes()
    again = CliRunner().invoke(app, [str(run / "model.pt"), *options])
    assert again.exit_code == 0, again.output
    assert "added mine, version 2" in again.output
    assert (served / "2" / "model.onnx").read_bytes() == output.read_bytes()

    before = output.read_bytes()
    (served / "labels.txt").write_text("other\n")
    refused = CliRunner().invoke(app, [str(run / "model.pt"), *options])
    assert isinstance(refused.exception, ExportError)
    assert output.read_bytes() == before
