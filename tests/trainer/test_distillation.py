import math
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from gclf_runtime import InputSpec
from gclf_trainer import CheckpointError, Recipe, RunError, train
from gclf_trainer.distillation import distillation_loss, read_teacher

SMALL = InputSpec(height=16, width=16)
RECIPE = Recipe(epochs=6, batch_size=16, precision="fp32")


@pytest.fixture
def teacher(pictures: Path, tmp_path: Path) -> Path:
    run = tmp_path / "teacher"
    train(pictures, run, network="cnn", spec=SMALL, recipe=RECIPE, val_split=0.2)
    return run / "model.pt"


def rotated(pictures: Path) -> Path:
    """Name each class as its neighbour: blue, green and red become green, red and blue."""
    pictures.rename(pictures.with_name("before"))
    for name, other in (("blue", "green"), ("green", "red"), ("red", "blue")):
        pictures.mkdir(exist_ok=True)
        (pictures.with_name("before") / name).rename(pictures / other)
    return pictures


def test_a_teacher_with_the_whole_loss_is_followed_against_the_labels(
    teacher: Path, pictures: Path, tmp_path: Path
):
    recipe = replace(RECIPE, distill=1.0)
    trained = train(
        rotated(pictures),
        tmp_path / "student",
        network="cnn",
        spec=SMALL,
        recipe=recipe,
        teacher=teacher,
        val_split=0.2,
    )

    assert trained.val.accuracy == 0


def test_a_teacher_with_none_of_the_loss_changes_nothing(
    teacher: Path, pictures: Path, tmp_path: Path
):
    recipe = replace(RECIPE, epochs=1, distill=0.0)
    both = [
        train(
            pictures,
            tmp_path / name,
            spec=SMALL,
            recipe=recipe,
            teacher=each,
            val_split=0.2,
            device="cpu",
        )
        for name, each in (("alone", None), ("taught", teacher))
    ]

    assert torch.equal(both[0].logits["validation"], both[1].logits["validation"])


def test_the_loss_is_hintons():
    predicted_nk = torch.tensor([[1.0, -1.0], [0.5, 2.0]])
    taught_nk = torch.tensor([[2.0, 0.0], [3.0, -1.0]])

    loss = distillation_loss(predicted_nk, taught_nk, temperature=2.0)

    # Per picture, the sum over classes of q·ln(q/p), both from logits halved; times 2².
    def divergence(predicted: list[float], taught: list[float]) -> float:
        p, q = ([math.exp(x / 2) for x in each] for each in (predicted, taught))
        pairs = [(x / sum(p), y / sum(q)) for x, y in zip(p, q, strict=True)]
        return sum(y * math.log(y / x) for x, y in pairs)

    expected = 4 * (divergence([1, -1], [2, 0]) + divergence([0.5, 2], [3, -1])) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_a_teacher_of_other_classes_is_refused(teacher: Path):
    with pytest.raises(CheckpointError, match="Train a teacher on the same classes"):
        read_teacher(teacher, ("blue", "red"), SMALL)


def test_a_teacher_of_other_pixels_is_refused(teacher: Path):
    with pytest.raises(CheckpointError, match=r"16×16, stretch.*--size"):
        read_teacher(teacher, ("blue", "green", "red"), InputSpec())


def test_a_run_does_not_go_on_without_its_teacher(teacher: Path, pictures: Path, tmp_path: Path):
    run, recipe = tmp_path / "student", replace(RECIPE, epochs=1)
    train(pictures, run, spec=SMALL, recipe=recipe, teacher=teacher, val_split=0.2)

    with pytest.raises(RunError, match="teacher was"):
        train(pictures, run, spec=SMALL, recipe=recipe, val_split=0.2, resume=True)
