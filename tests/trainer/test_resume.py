import csv
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("torch")

import torch

from gclf_runtime import InputSpec, ModelSpec
from gclf_trainer import Augmentation, Recipe, RunError, Trained, View, checkpoint, train
from gclf_trainer.networks import build
from gclf_trainer.recipe import Epoch

SMALL = InputSpec(height=16, width=16)
RECIPE: dict[str, Any] = {"epochs": 3, "batch_size": 32, "precision": "fp32", "ema": 0.9}
TIMES = ("images_per_second", "seconds")


class Stop(View):
    """Ends a training after so many epochs, or does something else then."""

    def __init__(self, after: int, act: Callable[[], None] | None = None) -> None:
        self.after, self.act = after, act

    def epoch_ended(self, epoch: Epoch, *, is_best: bool) -> None:
        if epoch.number == self.after:
            if self.act is None:
                raise InterruptedError
            self.act()


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two threads that share their cores with others wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    torch.set_num_threads(threads)


def recipe_of(**changes: Any) -> Recipe:
    return Recipe(**(RECIPE | changes))


def small(
    data: Path,
    run: Path,
    *,
    resume: bool = False,
    view: View | None = None,
    weights: str = "",
    tensorboard: bool = False,
    **changes: Any,
) -> Trained:
    return train(
        data, run, network="cnn", spec=SMALL, recipe=recipe_of(**changes), val_split=0.2,
        device="cpu", resume=resume, view=view, weights=weights, tensorboard=tensorboard,
    )  # fmt: skip


def left_by(run: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, str]], str]:
    """Return what has to be the same: weights, metrics but for the times, answers."""
    weights = torch.load(run / "model.pt", weights_only=True)["weights"]
    rows = list(csv.DictReader((run / "metrics.csv").read_text("utf-8").splitlines()))
    metrics = [{name: row[name] for name in row if name not in TIMES} for row in rows]
    return weights, metrics, (run / "validation.csv").read_text("utf-8")


def assert_same(run: Path, undisturbed: Path) -> None:
    (weights, *others), (expected, *expected_others) = left_by(run), left_by(undisturbed)
    assert others == expected_others
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    assert not list(run.glob(".*"))


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd", "schedule": "constant", "ema": 0.0},
        {"optimizer": "adam", "balance": "sampler"},
        {"balance": "loss", "augmentation": Augmentation(rotate=5, zoom=0.1, erase=0.2, mixup=0.2)},
        {"precision": "bf16"},
        {"precision": "auto"},
        {"patience": 1, "optimizer": "sgd", "learning_rate": 1e-9, "schedule": "constant"},
    ],
    ids=str,
)
def test_a_stopped_run_goes_on_to_the_same_bits(
    pictures: Path, tmp_path: Path, changes: dict[str, Any]
):
    run, whole = tmp_path / "run", tmp_path / "whole"
    with pytest.raises(InterruptedError):
        small(pictures, run, view=Stop(1), **changes)
    record = torch.load(run / "last.pt", weights_only=True)
    resumed = small(pictures, run, resume=True, **changes)
    if changes.get("precision") == "auto":
        changes = {"precision": chosen_precision(run)}
    undisturbed = small(pictures, whole, **changes)

    assert len(record["epochs"]) == 1
    assert resumed.val.loss == undisturbed.val.loss
    assert_same(run, whole)


def chosen_precision(run: Path) -> str:
    return "bf16" if '"precision": "bf16"' in (run / "config.json").read_text("utf-8") else "fp32"


def test_a_run_killed_at_random_moments_ends_in_the_same_bits(pictures: Path, tmp_path: Path):
    """Forked from a process that has torch already, so that a start costs milliseconds."""
    whole, seen, chance = tmp_path / "whole", list[int](), random.Random(0)
    small(pictures, whole, epochs=4)
    spawning = multiprocessing.get_context("forkserver")
    spawning.set_forkserver_preload(["gclf_trainer.training", "pytest"])
    keywords = {
        "network": "cnn", "spec": SMALL, "recipe": recipe_of(epochs=4),
        "val_split": 0.2, "device": "cpu", "resume": True,
    }  # fmt: skip
    for number in range(5):
        run = tmp_path / f"run{number}"
        for epochs in sorted(chance.choices(range(4), k=2)):
            child = spawning.Process(target=train, args=(pictures, run), kwargs=keywords)
            child.start()
            while epochs_kept(run) < epochs or not (run / "config.json").exists():
                time.sleep(0.005)
            time.sleep(chance.uniform(0, 0.1))
            child.kill()
            child.join()
            seen.append(epochs_kept(run))
        small(pictures, run, resume=True, epochs=4)
        assert_same(run, whole)

    assert len(seen) == 10
    assert len(set(seen)) > 2


def epochs_kept(run: Path) -> int:
    path = run / "metrics.csv"
    return len(path.read_text("utf-8").splitlines()) - 1 if path.exists() else 0


def test_a_run_stopped_at_any_file_that_it_writes_is_put_right(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = tmp_path / "whole"
    rename, names = os.replace, list[str]()

    def stopping(before: Path, after: Path) -> None:
        if len(names) == stop_at:
            raise InterruptedError
        names.append(Path(after).name)
        rename(before, after)

    stop_at = -1
    monkeypatch.setattr(os, "replace", stopping)
    small(pictures, whole, epochs=2)
    writes = len(names)
    for number in range(writes):
        run = tmp_path / f"run{number}"
        names, stop_at = list[str](), number
        with pytest.raises(InterruptedError):
            small(pictures, run, epochs=2)
        if (run / "model.pt").exists():
            exportable(run)
        stop_at = -1
        small(pictures, run, resume=True, epochs=2)
        assert_same(run, whole)

    assert writes >= 9


def exportable(run: Path) -> None:
    """Check what gclf-export needs beside a model.pt: its answers and pictures to quantise with."""
    metrics = checkpoint.load(run / "model.pt").spec.metrics
    rows = list(csv.DictReader((run / "validation.csv").read_text("utf-8").splitlines()))
    assert len(rows) == metrics["val_count"]
    assert (run / "calibration.csv").is_file()


def test_an_interrupted_run_has_the_answers_of_its_best_epoch(pictures: Path, tmp_path: Path):
    run = tmp_path / "run"
    with pytest.raises(InterruptedError):
        small(pictures, run, epochs=6, view=Stop(4))

    exportable(run)
    rows = list(csv.DictReader((run / "validation.csv").read_text("utf-8").splitlines()))
    right = sum(row["label"] == row["predicted"] for row in rows) / len(rows)
    assert right == checkpoint.load(run / "model.pt").spec.metrics["val_accuracy"]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99], ids=str)
def test_a_full_disk_loses_nothing_that_was_kept(pictures: Path, tmp_path: Path, share: float):
    run, whole, kept = tmp_path / "run", tmp_path / "whole", dict[str, bytes]()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        kept.update({name: (run / name).read_bytes() for name in ("last.pt", "model.pt")})
        size = int(share * len(kept["last.pt"]))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    try:
        with pytest.raises(OSError, match="File too large") as caught:
            small(pictures, run, view=Stop(1, fill))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert Path(caught.value.filename).parent == run
    assert {name: (run / name).read_bytes() for name in kept} == kept
    assert checkpoint.load(run / "model.pt").spec.metrics
    small(pictures, run, resume=True)
    small(pictures, whole)
    assert_same(run, whole)


def test_weights_from_elsewhere_are_read_once(pictures: Path, tmp_path: Path):
    """Those of last.pt are gone on with, and the normalisation that they were trained with."""
    run, whole, weights = tmp_path / "run", tmp_path / "whole", tmp_path / "weights.pt"
    grey, wide = (0.25, 0.25, 0.25), (0.5, 0.5, 0.5)
    promise = ModelSpec(label_names=("a", "b"), input=SMALL, mean=grey, std=wide)
    checkpoint.save(weights, "cnn", build("cnn", 2, SMALL), promise)
    changes: dict[str, Any] = {"weights": str(weights), "unfreeze_at": (2, 3)}
    small(pictures, whole, **changes)
    with pytest.raises(InterruptedError):
        small(pictures, run, view=Stop(2), **changes)
    checkpoint.save(weights, "cnn", build("cnn", 2, SMALL), replace(promise, mean=wide, std=grey))
    with pytest.raises(InterruptedError):
        small(pictures, run, resume=True, view=Stop(3), **changes)
    weights.unlink()
    small(pictures, run, resume=True, **changes)

    assert_same(run, whole)
    spec = checkpoint.load(run / "model.pt").spec
    assert (spec.mean, spec.std) == (grey, wide)


def test_what_an_earlier_run_left_does_not_end_a_new_one(pictures: Path, tmp_path: Path):
    run, left = tmp_path / "run", ("result.json", "report.html", "test.csv")
    run.mkdir()
    for name in left:
        (run / name).write_text("{}", encoding="utf-8")
    with pytest.raises(InterruptedError):
        small(pictures, run, view=Stop(1), epochs=2)
    after_one = {path.name for path in run.iterdir()}
    small(pictures, run, resume=True, epochs=2)

    assert after_one.isdisjoint(left)
    assert '"epochs": 2' in (run / "result.json").read_text("utf-8")


def test_events_hold_every_epoch_once_also_after_a_stop(pictures: Path, tmp_path: Path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import (  # pyright: ignore[reportMissingTypeStubs]
        EventAccumulator,
    )

    run = tmp_path / "run"
    with pytest.raises(InterruptedError):
        small(pictures, run, tensorboard=True, view=Stop(2))
    small(pictures, run, tensorboard=True, resume=True)

    read = EventAccumulator(str(run / "events"))
    read.Reload()
    assert [event.step for event in read.Scalars("accuracy/validation")] == [1, 2, 3]


def test_a_finished_run_is_left_as_it_is(pictures: Path, tmp_path: Path):
    class Watch(View):
        said = ""

        def was_finished(self, output: Path) -> None:
            self.said = output.name

    run, watch = tmp_path / "run", Watch()
    trained = small(pictures, run)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.iterdir()}
    again = small(pictures, run, resume=True, view=watch)

    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.iterdir()} == before
    assert watch.said == "run"
    assert again.val.loss == trained.val.loss


def test_a_run_without_an_epoch_begins_anew(pictures: Path, tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text('{"network": "other"}', encoding="utf-8")
    small(pictures, run, resume=True, epochs=1)
    small(pictures, tmp_path / "absent", resume=True, epochs=1)

    assert_same(run, tmp_path / "absent")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 9}, "recipe.epochs was 3, now 9"),
        ({"augmentation": Augmentation(pad=1)}, "recipe.augmentation.pad was 4, now 1"),
        ({"precision": "bf16"}, 'recipe.precision was "fp32", now "bf16"'),
        ({"seed": 1, "ema": 0.5}, "recipe.ema was 0.9, now 0.5; recipe.seed was 0, now 1"),
    ],
    ids=str,
)
def test_a_run_begun_otherwise_is_refused(
    pictures: Path, tmp_path: Path, changes: dict[str, Any], message: str
):
    run = tmp_path / "run"
    with pytest.raises(InterruptedError):
        small(pictures, run, view=Stop(1))

    with pytest.raises(RunError, match=r"begun otherwise: .*Resume it with the options") as caught:
        small(pictures, run, resume=True, **changes)
    assert message in str(caught.value)


def test_a_run_of_other_pictures_is_refused(pictures: Path, tmp_path: Path):
    run = tmp_path / "run"
    with pytest.raises(InterruptedError):
        small(pictures, run, view=Stop(1))
    (pictures / "red" / "new.png").write_bytes((pictures / "red" / "000.png").read_bytes())

    with pytest.raises(RunError, match=r"pictures.train was 96, now 97.*dataset_sha256.train was"):
        small(pictures, run, resume=True)
    with pytest.raises(RunError, match=r"holds a run already. Go on with it: --resume"):
        small(pictures, run)


def test_a_run_of_other_validation_pictures_is_refused(pictures: Path, tmp_path: Path):
    run, data = tmp_path / "run", tmp_path / "data"
    for name in ("blue", "green", "red"):
        (data / "val" / name).mkdir(parents=True)
        (pictures / name / "000.png").rename(data / "val" / name / "000.png")
    pictures.rename(data / "train")
    with pytest.raises(InterruptedError):
        small(data, run, view=Stop(1))
    Image.new("RGB", (20, 20), "red").save(data / "val" / "red" / "000.png")

    with pytest.raises(RunError, match=r"otherwise: dataset_sha256.val was"):
        small(data, run, resume=True)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 broken zip"], ids=repr)
def test_a_damaged_state_is_refused_in_one_line(pictures: Path, tmp_path: Path, content: bytes):
    (tmp_path / "last.pt").write_bytes(content)

    with pytest.raises(RunError, match=r"is not the state of a training: .* Train anew:") as caught:
        small(pictures, tmp_path, resume=True)
    assert "\n" not in str(caught.value)


def test_a_run_whose_files_are_of_another_is_refused(pictures: Path, tmp_path: Path):
    small(pictures, tmp_path / "run", epochs=1)
    run, other = tmp_path / "run", dict[str, Any]()
    (run / "result.json").unlink()
    state = torch.load(run / "last.pt", weights_only=True)
    state["training"]["network"] = other
    torch.save(state, run / "last.pt")
    with pytest.raises(RunError, match=r"last.pt is the state of another training .* --output"):
        small(pictures, run, epochs=1, resume=True)
    (run / "config.json").write_text('{"recipe": 3}', encoding="utf-8")

    with pytest.raises(RunError, match="was begun otherwise"):
        small(pictures, run, epochs=1, resume=True, precision="auto")


def test_a_model_without_its_state_cannot_go_on(pictures: Path, tmp_path: Path):
    (tmp_path / "model.pt").touch()

    with pytest.raises(RunError, match=r"has a model.pt and no last.pt"):
        small(pictures, tmp_path, resume=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)
def test_a_signal_ends_the_command_in_one_line(pictures: Path, tmp_path: Path, number: int):
    run = tmp_path / "run"
    arguments = [
        pictures, "--output", run, "--network", "cnn", "--size", "16", "--epochs", "100000",
        "--precision", "fp32", "--val-split", "0.2", "--cache", tmp_path,
    ]  # fmt: skip
    command = Path(sys.executable).with_name("gclf-train")
    with subprocess.Popen([command, *arguments], stdout=PIPE, stderr=PIPE, text=True) as process:
        wait_for(run / "model.pt", process)
        process.send_signal(number)
        start = time.perf_counter()
        _, said = process.communicate(timeout=10)

    assert time.perf_counter() - start < 2
    assert process.returncode == 128 + number
    assert said == f"stopped; {run} holds every whole epoch. Go on with --resume\n"
    assert checkpoint.load(run / "model.pt").spec.metrics


@pytest.mark.parametrize("resume", [[], ["--resume"]], ids=["anew", "resumed"])
def test_two_trainings_never_write_one_folder(pictures: Path, tmp_path: Path, resume: list[str]):
    run = tmp_path / "run"
    command = [
        Path(sys.executable).with_name("gclf-train"), pictures, "--output", run, "--network", "cnn",
        "--size", "16", "--epochs", "100000", "--precision", "fp32", "--cache", tmp_path,
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) as first:
        wait_for(run / "model.pt", first)
        second = subprocess.run([*command, *resume], capture_output=True, text=True)
        first.kill()
        first.communicate()
    (run / "last.pt").unlink()
    (run / "model.pt").unlink()
    third = small(pictures, run, epochs=1)

    assert second.returncode == 1
    assert second.stderr.startswith(f"error: {run} is being written by another training. Wait for")
    assert third.checkpoint.exists()
    assert not (run / ".lock").exists()


@pytest.mark.parametrize(
    ("module", "code"),
    [("gclf_runtime", -signal.SIGINT), ("torch", 128 + signal.SIGINT)],
    ids=["before its own handlers", "while torch is imported"],
)
def test_an_early_ctrl_c_leaves_no_traceback(tmp_path: Path, module: str, code: int):
    """Python itself tells on stderr which modules it has imported."""
    command = [sys.executable, "-X", "importtime", "-m", "gclf_trainer", tmp_path, "--output", "x"]
    with subprocess.Popen(command, stderr=PIPE, text=True, cwd=tmp_path) as process:
        assert process.stderr
        while f"| {module}" not in " ".join(process.stderr.readline().split()):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)

    assert process.returncode == code
    assert "Traceback" not in said


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
