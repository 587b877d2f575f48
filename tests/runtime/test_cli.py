import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

COMMAND = str(Path(sys.executable).with_name("gclf-infer"))


def infer(*arguments: str | Path | int) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, a broken one, a text and a hidden file."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (30, 30), (250, 0, 0)).save(folder / "a.png")
    Image.new("RGB", (30, 30), (0, 0, 250)).save(folder / "c.jpg")
    (folder / "b.jpg").write_bytes(b"\xff\xd8\xff broken")
    (folder / "notes.txt").write_text("no picture", encoding="utf-8")
    (folder / ".hidden.png").touch()
    return folder


def test_pictures_are_answered_with_their_best_classes(folder: Path, colours: Path):
    run = infer(folder / "a.png", "--model", colours, "--top-k", 2)

    assert run.returncode == 0
    assert run.stdout.startswith("red    100.0%  ")
    assert "a.png" in run.stdout
    assert "green 0.0%" in run.stdout
    assert "blue" not in run.stdout
    assert "1 file: 1 red" in run.stderr
    assert "CPUExecutionProvider" in run.stderr


def test_a_picture_that_fails_has_its_line_and_the_exit_code(folder: Path, colours: Path):
    run = infer(folder / "a.png", folder / "b.jpg", folder / "absent.jpg", "--model", colours)

    assert run.returncode == 3
    lines = run.stdout.splitlines()
    assert len(lines) == 3
    assert "damaged JPEG" in lines[1]
    assert "absent.jpg: no such file" in lines[2]


def test_a_batch_without_output_prints_a_line_per_file(folder: Path, colours: Path):
    run = infer("--batch", folder, "--model", colours)

    assert run.returncode == 3
    assert [line.split()[0] for line in run.stdout.splitlines()] == ["red", "error", "blue"]


def test_a_batch_writes_a_csv_row_per_file_and_a_summary(folder: Path, colours: Path):
    output = folder.parent / "out.csv"
    run = infer("--batch", folder, "--model", colours, "--output", output)

    assert run.returncode == 3
    assert run.stdout == ""
    rows = list(csv.DictReader(output.read_text(encoding="utf-8").splitlines()))
    assert [Path(row["path"]).name for row in rows] == ["a.png", "b.jpg", "c.jpg"]
    assert [row["label"] for row in rows] == ["red", "", "blue"]
    assert [row["error"] for row in rows] == ["", "corrupt", ""]
    assert "3 files: 1 blue, 1 red" in run.stderr
    assert "1 could not be read" in run.stderr
    assert "1 skipped: not an image" in run.stderr
    assert "1 skipped: hidden" in run.stderr


def test_a_batch_writes_json_lines(folder: Path, colours: Path):
    output = folder.parent / "out.jsonl"
    (folder / "b.jpg").unlink()
    run = infer("--batch", folder, "--model", colours, "--output", output)

    assert run.returncode == 0
    lines = output.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["label"] for line in lines] == ["red", "blue"]


def test_a_name_that_is_not_utf_8_keeps_its_bytes(folder: Path, colours: Path):
    strange = os.fsencode(folder) + b"/\xff.png"
    os.rename(folder / "a.png", strange)
    output = folder.parent / "out.csv"
    run = infer("--batch", folder, "--model", colours, "--output", output)

    assert run.returncode == 3
    assert strange in output.read_bytes()
    assert infer(os.fsdecode(strange), "--model", colours).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "absent.onnx", "a.png"], "error: no model at absent.onnx. Export one"),
        (["a.png", "--output", "out.txt"], "error: out.txt names no form of rows"),
        (["a.png", "--output", "absent/out.csv"], "error: absent/out.csv cannot be written"),
        (["--batch", "empty"], "error: no picture below empty"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path: Path, arguments: list[str], message: str):
    (tmp_path / "empty").mkdir()
    run = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, cwd=tmp_path)

    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith(message)
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    "arguments",
    [[], ["a.png", "--batch", "."], ["--batch", "absent"], ["a.png", "--top-k", "0"], ["--no"]],
    ids=str,
)
def test_wrong_usage_exits_2(arguments: list[str]):
    assert infer(*arguments).returncode == 2


def test_exit_codes_are_in_the_help():
    run = infer("--help")

    assert run.returncode == 0
    assert "Exit codes" in run.stdout


def test_an_older_output_survives_when_there_is_nothing_to_do(tmp_path: Path, colours: Path):
    (tmp_path / "empty").mkdir()
    output = tmp_path / "out.csv"
    output.write_text("older", encoding="utf-8")
    run = infer("--batch", tmp_path / "empty", "--model", colours, "--output", output)

    assert run.returncode == 1
    assert output.read_text(encoding="utf-8") == "older"


def test_a_name_cannot_forge_a_line_or_command_the_terminal(folder: Path, colours: Path):
    forged = folder / "x\nred    100.0%  y\x1b[2J.png"
    (folder / "a.png").rename(forged)
    run = infer(forged, "--model", colours)

    assert len(run.stdout.splitlines()) == 1
    assert "\x1b" not in run.stdout


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_terminal_of_another_encoding_loses_a_sign_and_no_more(
    folder: Path, colours: Path, encoding: str
):
    run = subprocess.run(
        [COMMAND, str(folder / "a.png"), "--model", str(colours)],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )

    assert run.returncode == 0
    assert run.stdout.startswith(b"red    100.0%")


def test_answers_that_cannot_be_printed_are_one_line(folder: Path, colours: Path):
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [COMMAND, str(folder / "a.png"), "--model", str(colours)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )

    assert run.returncode == 1
    assert run.stderr.startswith("error: the answers cannot be written (No space left on device)")
    assert len(run.stderr.splitlines()) == 1


def test_a_full_disk_is_one_line_and_not_a_success(folder: Path, colours: Path):
    full = folder.parent / "out.csv"
    full.symlink_to("/dev/full")
    run = infer("--batch", folder, "--model", colours, "--output", full)

    assert run.returncode == 1
    assert "No space left on device" in run.stderr.splitlines()[-1]
