"""The command as a user types it: that all of it runs, not how fast."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.publishing import publish_folder
from benchmarks.workplace import Workplace

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("network", "decoding", "files_to_rows", "startup")


@pytest.mark.slow
def test_the_quick_questions_run_and_are_published(tmp_path: Path):
    output = tmp_path / "results"
    command = [sys.executable, "-m", "benchmarks", "run", "--quick", "--output", str(output)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (tmp_path / "docs").mkdir()
    for page in ("README.md", "docs/benchmarks.md"):
        shutil.copyfile(ROOT / page, tmp_path / page)

    written = publish_folder(output, tmp_path)

    assert {path.stem for path in output.glob("*.json")} == set(QUICK)
    pages = [tmp_path / "docs" / "benchmarks.md", tmp_path / "README.md"]
    assert {path.stem for path in written if path not in pages} == set(QUICK)
    assert "gclf, embedded int8" in pages[1].read_text(encoding="utf-8")
    for path in output.glob("*.json"):
        said = json.loads(path.read_text(encoding="utf-8"))["conditions"]
        assert str(tmp_path) not in said["command"]
        assert said["rule"]["most"] == 1
        assert said["source_pictures"] == 12
        assert said["rule"]["budget_s"] == (8.0 if path.stem == "network" else None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["speed"], "no question 'speed'"),
        (["memory", "--device", "cuda"], "Name those for cuda: training gpu"),
        (["--data", "."], "Leave --data out"),
        (["--checkpoint", "cnn=absent.pt"], "is not NETWORK=FILE"),
        (["--checkpoint", "mlp=README.md"], "is not NETWORK=FILE, of cnn or resnet10"),
        (["training", "--device", "tpu"], "'tpu' is not one of"),
        (["--most", "0"], "--most"),
        (["--output", "README.md"], "README.md is a file"),
    ],
    ids=["question", "device", "data", "checkpoint", "network", "tpu", "rounds", "output"],
)
def test_what_cannot_be_asked_is_refused(words: list[str], said: str):
    found = CliRunner().invoke(app, ["run", *words], env={"COLUMNS": "300", "TERM": "dumb"})

    assert found.exit_code == 2
    assert said in found.output


def test_a_question_that_fails_is_named_and_the_others_are_answered(tmp_path: Path):
    place = Workplace(tmp_path / "scratch", tmp_path, tmp_path / "no-data")
    shutil.rmtree(next(place.faces(1).iterdir()))  # nothing to start on
    words = ["startup", "decoding", "--quick", "--scratch", str(place.scratch)]

    found = CliRunner().invoke(app, ["run", *words, "--output", str(tmp_path / "results")])

    assert found.exit_code == 1
    assert "error: startup was not answered: " in found.output
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["decoding.json"]


def test_a_question_without_its_data_leaves_no_result(tmp_path: Path):
    found = CliRunner().invoke(app, ["run", "training", "--quick", "--output", str(tmp_path)])

    assert (found.exit_code, list(tmp_path.iterdir())) == (0, [])
    assert "training was not measured" in found.output


@pytest.mark.parametrize(
    "files",
    [{}, {"startup.json": "{"}, {"startup.json": '{"schema": 9}'}],
    ids=["empty", "cut", "another schema"],
)
def test_what_cannot_be_published_is_one_line(tmp_path: Path, files: dict[str, str]):
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    found = CliRunner().invoke(app, ["publish", str(tmp_path)])

    assert found.exit_code == 1
    assert found.output.startswith("error: ")
    assert len(found.output.strip().splitlines()) == 1
