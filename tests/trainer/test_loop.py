from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor

from gclf_runtime import InputSpec
from gclf_trainer import Augmentation, Recipe, TrainingError
from gclf_trainer.evaluation import Normalise
from gclf_trainer.folders import read_folders
from gclf_trainer.loop import Training
from gclf_trainer.networks import build
from gclf_trainer.pixels import load_dataset

SPEC = InputSpec(height=16, width=16)


def trained(
    pictures: Path, cache: Path | None, held_share: float, **changes: Any
) -> tuple[dict[str, Tensor], list[float], Tensor]:
    """Return weights, losses and a first batch after two epochs."""
    folders = read_folders(pictures, val_split=0.2, seed=0)
    data = load_dataset(folders, SPEC, cache=cache)
    options: dict[str, Any] = {"batch_size": 32, "precision": "fp32"} | changes
    torch.manual_seed(0)
    training = Training(
        build("resnet10", 3, SPEC), Normalise((0.5,) * 3, (0.25,) * 3), data.train, data.val,
        Recipe(**options), torch.device("cpu"), held_share=held_share,
    )  # fmt: skip
    losses: list[float] = []
    for _ in range(2):
        epoch = training.run_epoch(losses.append)
        losses += [epoch.train_loss, epoch.val_loss, epoch.val_accuracy]
    return training.evaluated.state_dict(), losses, training.first_batch()[0]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "optimizer": "sgd",
            "balance": "sampler",
            "ema": 0.9,
            "augmentation": Augmentation(hue=0.1, erase=0.2, mixup=0.2, cutmix=1.0),
        },
        {"optimizer": "adam", "balance": "loss", "augmentation": Augmentation(rotate=5)},
    ],
    ids=["plain", "sampler", "loss"],
)
def test_a_set_that_is_not_held_is_learnt_to_the_same_bits(
    pictures: Path, tmp_path: Path, changes: dict[str, Any]
):
    (pictures / "red" / "007.png").write_bytes(b"damaged")
    weights, losses, batch = trained(pictures, None, 1.0, **changes)
    for held_share in (0.0, 1.0):
        others, other_losses, other_batch = trained(
            pictures, tmp_path / "cache", held_share, **changes
        )

        assert other_losses == losses
        assert torch.equal(other_batch, batch)
        assert all(torch.equal(others[name], weights[name]) for name in weights)


def test_every_step_is_told_with_its_loss(pictures: Path):
    _, losses, _ = trained(pictures, None, 1.0)
    steps = np.array(losses).reshape(2, 6)[:, :3]  # three steps, then three figures of the epoch

    np.testing.assert_allclose(steps.mean(1), np.array(losses).reshape(2, 6)[:, 3], rtol=1e-6)


def test_a_last_step_that_diverges_is_told_and_is_no_epoch(pictures: Path):
    """The one step's own loss is of the weights before it, and so a number."""
    changes: dict[str, Any] = {"learning_rate": 1e30, "schedule": "constant", "batch_size": 96}

    with pytest.raises(TrainingError, match=r"validation loss became .* lower --learning-rate"):
        trained(pictures, None, 1.0, **changes)
