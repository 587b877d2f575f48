import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from gclf_runtime import InputSpec
from gclf_trainer import Augmentation, Recipe, View, train
from gclf_trainer.parallel import Ranks, check_batch, synchronised
from gclf_trainer.recipe import Epoch
from gclf_trainer.torchrun import processes

RECIPE = Recipe(
    epochs=2,
    batch_size=33,
    optimizer="sgd",
    ema=0.9,
    precision="fp32",
    augmentation=Augmentation(mixup=0.2, erase=0.2),
)
OPTIONS = (
    "--size 16 --network resnet10 --batch-size 33 --optimizer sgd --ema 0.9 --precision fp32 "
    "--mixup 0.2 --erase 0.2 --val-split 0.2 --device cpu"
)


def start(data: Path, run: Path, *more: str, epochs: int) -> "subprocess.Popen[str]":
    folder = Path(sys.executable).parent
    where = [data, "--output", run, "--cache", data.parent / "cache", "--epochs", str(epochs)]
    launcher = [folder / "torchrun", "--nproc-per-node", "2", folder / "gclf-train"]
    return subprocess.Popen(
        [*launcher, *where, *OPTIONS.split(), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def losses(run: Path) -> list[float]:
    rows = csv.DictReader((run / "metrics.csv").read_text("utf-8").splitlines())
    return [float(row[name]) for row in rows for name in ("train_loss", "val_loss")]


def test_two_processes_train_what_one_does(pictures: Path, tmp_path: Path):
    """The order of additions alone differs: 2.4e-7 in the weights after these four steps."""
    one, two = tmp_path / "one", tmp_path / "two"
    spec = InputSpec(height=16, width=16)
    train(pictures, one, spec=spec, recipe=RECIPE, val_split=0.2, device="cpu")
    with start(pictures, two, epochs=2) as process:
        out, err = process.communicate(timeout=120)

    assert (process.returncode, err) == (0, "")
    assert out.count("val acc") == 1
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    weights, expected = (
        torch.load(run / "model.pt", weights_only=True)["weights"] for run in (two, one)
    )
    for name in expected:
        torch.testing.assert_close(weights[name], expected[name], rtol=1e-4, atol=1e-5)
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}


def test_two_processes_go_on_with_what_one_began(pictures: Path, tmp_path: Path):
    """With the sampler, for both have to draw the same pictures."""

    class Stop(View):
        def epoch_ended(self, epoch: Epoch, *, is_best: bool) -> None:
            raise InterruptedError

    one, two, spec = tmp_path / "one", tmp_path / "two", InputSpec(height=16, width=16)
    recipe = replace(RECIPE, balance="sampler")
    train(pictures, one, spec=spec, recipe=recipe, val_split=0.2, device="cpu")
    with pytest.raises(InterruptedError):
        train(pictures, two, spec=spec, recipe=recipe, val_split=0.2, device="cpu", view=Stop())
    with start(pictures, two, "--balance", "sampler", "--resume", epochs=2) as process:
        _, err = process.communicate(timeout=240)

    assert (process.returncode, err) == (0, "")
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)


def test_a_refusal_is_said_once(pictures: Path, tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir()
    pictures.rename(data / "train")
    shutil.copytree(data / "train", data / "val")
    with start(data, tmp_path / "run", epochs=1) as process:
        _, err = process.communicate(timeout=240)

    assert process.returncode == 1
    assert err.count("error: the audit refuses") == 1
    assert not (tmp_path / "run").exists()


def test_a_scheduler_is_not_taken_for_torchrun(monkeypatch: pytest.MonkeyPatch):
    for name, value in {
        "WORLD_SIZE": "6",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_WORLD_SIZE": "3",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    scheduled = processes()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")

    assert scheduled == (1, 1)
    assert processes() == (2, 3)


def test_a_batch_that_cannot_be_trained_on_is_refused():
    network, ranks = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), Ranks(0, 4)

    check_batch(network, 4, ranks)
    check_batch(nn.Linear(2, 2), 1, Ranks())
    with pytest.raises(ValueError, match=r"batch of 3 cannot be shared by 4 .* --batch-size 4"):
        check_batch(network, 3, ranks)
    with pytest.raises(ValueError, match=r"1 picture is too small .* --batch-size 2"):
        check_batch(network, 1, Ranks())


def test_a_process_that_dies_ends_the_others(pictures: Path, tmp_path: Path):
    run = tmp_path / "run"
    with start(pictures, run, epochs=100_000) as process:
        end = time.monotonic() + 60
        while not (run / "model.pt").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.1)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        workers = [int(child) for child in children]
        os.kill(workers[-1], signal.SIGKILL)
        _, err = process.communicate(timeout=40)

    assert process.returncode == 1
    assert "[rank0]: Traceback" not in err
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert torch.load(run / "last.pt", weights_only=True)["epochs"]


@pytest.mark.parametrize("count", [0, 1, 7, 33])
def test_shares_cover_every_row_once(count: int):
    rows = [row for rank in range(3) for row in range(count)[Ranks(rank, 3).share(count)]]

    assert rows == list(range(count))


def test_alone_nothing_is_exchanged():
    made = [torch.ones(2)]
    Ranks().add_up(made)

    assert torch.equal(made[0], torch.ones(2))
    assert Ranks().from_first(lambda: 3) == Ranks().first_then_others(lambda: 3) == 3


def test_synchronised_norms_keep_names_and_answers_of_evaluation():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Sequential(nn.BatchNorm1d(4)))
    pixels = torch.randn(5, 3)
    expected, names = network.eval()(pixels), list(network.state_dict())
    network = synchronised(network, torch.device("cpu")).eval()

    assert list(network.state_dict()) == names
    assert not any(isinstance(module, nn.BatchNorm1d) for module in network.modules())
    torch.testing.assert_close(network(pixels), expected)
