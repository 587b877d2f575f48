"""What an export may write over: nothing but an export's own files."""

import os
from pathlib import Path

import pytest

pytest.importorskip("torch")

from typer.testing import CliRunner

from gclf_export import ExportError
from gclf_export.cli import app
from gclf_export.delivery import CARD_START, require_places
from gclf_export.precision import Choice
from gclf_export.production import name_files, possible_files

CARD = CARD_START + b"m.onnx\n"


def export(run: Path, *options: str | Path) -> str:
    """Run the command where it is to fail, and return what it says."""
    result = CliRunner().invoke(app, [str(run / "model.pt"), *map(str, options)])
    assert isinstance(result.exception, ExportError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_a_device_is_not_replaced_by_a_file(run: Path, tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.onnx")  # as a device is, and harmless if this fails

    said = export(run, "--output", tmp_path / "pipe.onnx")

    assert "pipe.onnx cannot be written (it is no regular file). Name another --output" in said
    assert (tmp_path / "pipe.onnx").is_fifo()


def test_a_device_in_the_place_of_a_card_is_not_replaced(tmp_path: Path):
    os.mkfifo(tmp_path / "m.card.md")

    with pytest.raises(ExportError, match=r"m\.card\.md cannot be written \(it is no regular"):
        require_places([tmp_path / "m.onnx"], [tmp_path / "m.card.md"])


def test_a_triton_repository_that_is_no_folder_is_refused_before_the_export(
    run: Path, tmp_path: Path
):
    (tmp_path / "models").write_text("a file")

    said = export(run, "--output", tmp_path / "m.onnx", "--triton", tmp_path / "models")

    assert "models cannot be written (it is no folder). Name another --triton" in said
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("name", ["model.fp32.pt", "model.fp32.onnx"])
def test_the_checkpoint_is_not_replaced_by_one_of_several_precisions(
    run: Path, tmp_path: Path, name: str
):
    checkpoint, output = tmp_path / name, tmp_path / f"model{Path(name).suffix}"
    content = (run / "model.pt").read_bytes()
    checkpoint.write_bytes(content)
    options = ["--validation", run.parent / "pictures", "--output", output]
    options += ["--precision", "fp32", "--precision", "int8"]
    result = CliRunner().invoke(app, [str(checkpoint), *map(str, options)])

    assert f"{name} is the checkpoint itself. Name another --output" in str(result.exception)
    assert checkpoint.read_bytes() == content


@pytest.mark.parametrize("name", ["last.pt", "validation.csv", "README.md"])
def test_what_no_export_wrote_is_not_replaced(run: Path, tmp_path: Path, name: str):
    (tmp_path / name).write_text("somebody's")

    said = export(run, "--output", tmp_path / name)

    assert f"{name} is there, and not named .onnx: it is not replaced. Remove it, or name" in said
    assert (tmp_path / name).read_text() == "somebody's"


def test_only_a_model_card_is_replaced_by_one(run: Path, tmp_path: Path):
    (tmp_path / "m.card.md").write_text("# My own notes\n")

    said = export(run, "--output", tmp_path / "m.onnx")

    assert "m.card.md is there, and no model card: it is not replaced" in said
    assert [path.name for path in tmp_path.iterdir()] == ["m.card.md"]


def test_what_an_export_wrote_is_replaced_and_so_is_a_link_to_it(tmp_path: Path):
    (tmp_path / "m.onnx").write_bytes(b"an older model")
    (tmp_path / "link.onnx").symlink_to(tmp_path / "m.onnx")
    (tmp_path / "m.card.md").write_bytes(CARD)

    require_places([tmp_path / "m.onnx", tmp_path / "link.onnx"], [tmp_path / "m.card.md"])


def test_a_name_that_no_disk_takes_is_refused_in_one_line(tmp_path: Path):
    with pytest.raises(ExportError, match=r"cannot be written \(File name too long\)"):
        require_places([tmp_path / ("m" * 300 + ".onnx")], [])


def names(*asked: Choice) -> list[str]:
    return [path.name for path in possible_files(Path("m.onnx"), asked)]


def test_every_name_that_an_export_may_give_is_looked_at():
    assert names("fp32") == ["m.onnx"]
    assert names("fp32", "int8") == ["m.fp32.onnx", "m.int8.onnx"]
    alone = [f"m.{precision}.onnx" for precision in ("fp32", "int8", "fp16", "bf16")]
    assert names("auto") == [*alone, "m.onnx"]
    assert name_files(Path("m.onnx"), ["auto"], ["int8"])["int8"].name in names("auto")
