"""What is refused before a training starts, and what is then told of one that was not."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from typer.testing import CliRunner

from gclf_runtime import InputSpec
from gclf_trainer import DatasetError, Recipe, RunError, Trained, checkpoint, train
from gclf_trainer.cli import app

SMALL = InputSpec(height=16, width=16)


def small(data: Path, run: Path, *, recipe: Recipe | None = None, **options: Any) -> Trained:
    short = recipe or Recipe(epochs=1, batch_size=16, precision="fp32")
    settings: dict[str, Any] = {"network": "cnn", "spec": SMALL, "val_split": 0.2, "device": "cpu"}
    return train(data, run, recipe=short, **(settings | options))


@pytest.fixture
def leaked(pictures: Path, tmp_path: Path) -> Path:
    """Return a set whose validation pictures are its training pictures."""
    (tmp_path / "data").mkdir()
    pictures.rename(tmp_path / "data" / "train")
    shutil.copytree(tmp_path / "data" / "train", tmp_path / "data" / "val")
    return tmp_path / "data"


def test_what_the_audit_refuses_is_not_trained_on_unless_asked(leaked: Path, tmp_path: Path):
    run = tmp_path / "run"
    with pytest.raises(
        DatasetError, match=r"the audit refuses .* same command and --audit, .*--ignore-audit"
    ):
        small(leaked, run)
    is_left = run.exists()
    small(leaked, run, ignore_audit=True)

    assert not is_left
    assert "refusal" in (run / "audit.json").read_text("utf-8")


@pytest.mark.parametrize("output", ["run", "red/deep/run", "."])
def test_a_run_among_the_pictures_is_refused_before_anything_is_written(
    pictures: Path, output: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(pictures)

    with pytest.raises(RunError, match=r"lies inside DATA, .* Name a folder elsewhere"):
        small(Path(), Path(output))
    assert sorted(path.name for path in pictures.iterdir()) == ["blue", "green", "red"]


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run gclf-train in a folder."""
    program = Path(sys.executable).with_name("gclf-train")
    return subprocess.run([program, *arguments], capture_output=True, text=True, cwd=folder)


def test_an_empty_output_is_not_the_current_folder(pictures: Path, tmp_path: Path):
    (tmp_path / "here").mkdir()
    result = command(tmp_path / "here", str(pictures), "--output", "")

    assert result.returncode == 1
    assert result.stderr.startswith("error: --output is empty, or the current folder. Name a")
    assert not list((tmp_path / "here").iterdir())


def test_an_unusable_cache_is_said_once_and_the_next_command_is_quoted(
    pictures: Path, tmp_path: Path
):
    (tmp_path / "file").touch()
    run, cache = tmp_path / "flo w's", tmp_path / "file" / "cache"
    options = "--size 16 --network cnn --epochs 1 --batch-size 16 --device cpu --precision fp32"
    places = ("--output", str(run), "--cache", str(cache))
    result = command(tmp_path, str(pictures), *places, *options.split())

    assert result.stdout.count(f"pixels are not kept: {cache} cannot be written (Not a dir") == 1
    assert shlex.split(result.stdout.splitlines()[-1])[-1] == str(run / "model.pt")


def test_the_audit_alone_exits_by_what_it_finds(leaked: Path, tmp_path: Path):
    options = ["--size", "16", "--audit", "--cache", str(tmp_path / "cache")]
    refused = CliRunner().invoke(app, [str(leaked), *options])
    sound = CliRunner().invoke(app, [str(leaked / "train"), *options])

    assert (refused.exit_code, sound.exit_code) == (1, 0)
    assert "refusal: " in refused.stdout
    assert "refusal: " not in sound.stdout


def test_groups_of_a_table_are_in_the_report(pictures: Path, tmp_path: Path):
    rows = [f"{name}/{n:03}.png,{n % 2}" for name in ("blue", "green", "red") for n in range(40)]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["file,parity", *rows]), encoding="utf-8")
    small(pictures, tmp_path / "run", attributes=table)

    assert "Accuracy on the validation pictures by the columns of" in (
        tmp_path / "run" / "report.html"
    ).read_text("utf-8")


@pytest.mark.parametrize(
    ("rows", "message"),
    [("absent/1.png,1", "names none of the 24 pictures"), ("0.png,1\n1.png,2", "names none of")],
    ids=["absent", "by half a name"],
)
def test_a_table_that_fits_nothing_is_refused_before_the_first_epoch(
    pictures: Path, tmp_path: Path, rows: str, message: str
):
    (tmp_path / "table.csv").write_text(f"file,age\n{rows}", encoding="utf-8")

    with pytest.raises(DatasetError, match=message):
        small(pictures, tmp_path / "run", attributes=tmp_path / "table.csv")
    assert not (tmp_path / "run").exists()


def test_fresh_weights_are_not_frozen(pictures: Path, tmp_path: Path):
    for recipe in (Recipe(freeze=True), Recipe(unfreeze_at=(2,))):
        with pytest.raises(ValueError, match=r"fresh weights cannot be frozen.* Pass --weights"):
            small(pictures, tmp_path / "run", recipe=recipe)


def test_weights_from_elsewhere_are_frozen_until_they_are_opened(pictures: Path, tmp_path: Path):
    small(pictures, tmp_path / "first")
    weights = checkpoint.load(tmp_path / "first" / "model.pt").network.state_dict()
    changed: list[bool] = []
    for name, opened in (("frozen", ()), ("opened", (1,))):
        recipe = Recipe(epochs=1, batch_size=16, precision="fp32", freeze=True, unfreeze_at=opened)
        small(pictures, tmp_path / name, recipe=recipe, weights=str(tmp_path / "first/model.pt"))
        after = checkpoint.load(tmp_path / name / "model.pt").network.state_dict()
        assert not after["classifier.4.weight"].equal(weights["classifier.4.weight"])
        changed.append(not after["features.0.weight"].equal(weights["features.0.weight"]))

    assert changed == [False, True]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"epochs": 3, "unfreeze_at": (2, 4)}, "opens at epoch 4 of 3.*--epochs"),
    ],
    ids=str,
)
def test_a_recipe_that_cannot_train_is_refused(numbers: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Recipe(**numbers)


def test_the_command_in_the_report_names_the_precision_that_was_chosen(
    pictures: Path, tmp_path: Path
):
    small(
        pictures, tmp_path / "run", recipe=Recipe(epochs=1, batch_size=16), command="gclf-train x"
    )
    config = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))
    page = (tmp_path / "run" / "report.html").read_text("utf-8")

    assert f"gclf-train x --precision {config['recipe']['precision']}</pre>" in page
    assert f"<bdi>{config['recipe']['precision']}</bdi>" in page


def test_a_file_that_is_not_of_the_run_is_named(tmp_path: Path):
    """The system itself refuses a name of 300 characters."""
    result = command(tmp_path, "d" * 300, "--output", "run")

    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "d" * 300 in result.stderr
    assert "the run cannot be written" not in result.stderr
