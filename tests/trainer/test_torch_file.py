"""Files that are damaged, or not what they should be, and what is said of them."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor

from gclf_runtime import InputSpec, ModelSpec, ProviderError
from gclf_trainer import CheckpointError, RunError, checkpoint
from gclf_trainer.charts import round_ticks
from gclf_trainer.device import device_of
from gclf_trainer.distillation import read_teacher
from gclf_trainer.networks import build
from gclf_trainer.parallel import Ranks
from gclf_trainer.recipe import Epoch
from gclf_trainer.run import Run
from gclf_trainer.state import read_state, write_state
from gclf_trainer.transfer import load_weights

SPEC = InputSpec(height=16, width=16)
NAMES = ("a", "b", "c")


def saved(path: Path, name: str = "cnn") -> dict[str, Tensor]:
    network = build("cnn", 3, SPEC)
    checkpoint.save(path, name, network, ModelSpec(label_names=NAMES, input=SPEC))
    return network.state_dict()


def epoch(number: int, accuracy: float, loss: float = 1.0) -> Epoch:
    return Epoch(number, 0.1, 1.0, loss, accuracy, 1.0, 1.0)


def flip_a_bit(path: Path) -> None:
    """Change one bit in the middle, which is in a tensor."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_in_a_model_is_seen(tmp_path: Path):
    saved(tmp_path / "model.pt")
    flip_a_bit(tmp_path / "model.pt")

    with pytest.raises(CheckpointError, match=r"its part .* is damaged"):
        checkpoint.load(tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"its part .* is damaged"):
        load_weights(build("cnn", 3, SPEC), "cnn", str(tmp_path / "model.pt"), NAMES)


def test_a_flipped_bit_in_a_state_is_seen_and_the_model_is_not_given_up(tmp_path: Path):
    write_state(tmp_path / "last.pt", {"network": torch.zeros(10_000)}, [])
    flip_a_bit(tmp_path / "last.pt")

    with pytest.raises(RunError, match=r"part .* damaged.* name another --output .*still good"):
        read_state(tmp_path / "last.pt")


@pytest.mark.parametrize(
    ("epochs", "is_finished"),
    [([epoch(1, 0.9), epoch(2, 0.5)], False), ([epoch(1, 0.5)], True)],
    ids=["of an earlier epoch", "of a finished run"],
)
def test_a_model_that_is_gone_is_told(tmp_path: Path, epochs: list[Epoch], is_finished: bool):
    write_state(tmp_path / "last.pt", {}, epochs)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    if is_finished:
        (tmp_path / "result.json").write_text("{}", encoding="utf-8")

    with pytest.raises(RunError, match=r"has lost its model.pt, of epoch 1.* --output"):
        Run(tmp_path, resume=True)


def test_an_epoch_without_a_loss_is_never_the_best():
    nan = float("nan")

    assert min(epoch(1, 0.9, nan), epoch(2, 0.1), key=lambda e: e.rank).number == 2
    assert min(epoch(1, 0.1), epoch(2, 0.9, nan), key=lambda e: e.rank).number == 1


def test_own_code_that_teaches_is_let_in_by_its_own_option(tmp_path: Path):
    saved(tmp_path / "model.pt", "nets:ok")

    with pytest.raises(CheckpointError, match=r"Pass --teacher-network nets:ok"):
        read_teacher(tmp_path / "model.pt", NAMES, SPEC)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_a_state_dict_among_other_things_is_found(tmp_path: Path, key: str):
    weights = saved(tmp_path / "model.pt")
    torch.save({key: weights, "epoch": 3}, tmp_path / "other.pt")
    network = build("cnn", 3, SPEC)
    load_weights(network, "cnn", str(tmp_path / "other.pt"), NAMES)

    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


def _to_int8(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.int8)


def _to_nan(tensor: torch.Tensor) -> torch.Tensor:
    return tensor * float("nan")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_to_int8, "holds .* as int8"),
        (_to_nan, "not finite. Name other weights"),
    ],
    ids=["int8", "nan"],
)
def test_weights_that_are_no_numbers_to_learn_from_are_refused(
    tmp_path: Path, change: Any, message: str
):
    weights = {name: change(value) for name, value in saved(tmp_path / "model.pt").items()}
    torch.save(weights, tmp_path / "other.pt")

    with pytest.raises(CheckpointError, match=message):
        load_weights(build("cnn", 3, SPEC), "cnn", str(tmp_path / "other.pt"), NAMES)


@pytest.mark.parametrize("name", ["meta", "mps"])
def test_a_device_that_does_not_compute_here_is_one_short_line(name: str):
    if name == "mps" and torch.backends.mps.is_available():
        pytest.skip("it computes here")
    with pytest.raises(
        ProviderError, match=rf"device {name} cannot be used .*--device cpu"
    ) as told:
        device_of(name, Ranks())
    assert len(str(told.value)) < 200


def test_one_value_is_drawn_within_what_a_share_can_be():
    assert round_ticks(100, 100)[-1] == 100
    assert round_ticks(0, 0)[0] == 0
