import csv
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

import torch
from torch import nn

from gclf_runtime import InputSpec, ProviderError
from gclf_trainer import (
    Augmentation,
    CheckpointError,
    DatasetError,
    Recipe,
    RunError,
    Trained,
    TrainingError,
    checkpoint,
    train,
)
from gclf_trainer.charts import draw_confusion, draw_history
from gclf_trainer.evaluation import Normalise, evaluate, logits
from gclf_trainer.loop import Training
from gclf_trainer.networks import NETWORKS
from gclf_trainer.pixels import Split
from gclf_trainer.promise import pixel_statistics

SMALL = InputSpec(height=16, width=16)


def small(pictures: Path, run: Path, **changes: Any) -> Trained:
    recipe: dict[str, Any] = {"epochs": 2, "batch_size": 16, "precision": "fp32"} | changes
    return train(
        pictures, run, network="cnn", spec=SMALL, recipe=Recipe(**recipe), val_split=0.2,
        device="cpu",
    )  # fmt: skip


def weights(run: Path) -> dict[str, Any]:
    return checkpoint.load(run / "model.pt").network.state_dict()


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_colours_are_learnt(pictures: Path, tmp_path: Path, optimizer: str):
    trained = small(pictures, tmp_path / "run", optimizer=optimizer, epochs=6)

    assert trained.val.accuracy == 1
    assert trained.label_names == ("blue", "green", "red")


def test_a_run_leaves_what_it_promises(pictures: Path, tmp_path: Path):
    run = tmp_path / "run"
    trained = small(pictures, run, epochs=3)

    metrics = list(csv.DictReader((run / "metrics.csv").read_text("utf-8").splitlines()))
    assert [row["number"] for row in metrics] == ["1", "2", "3"]
    assert max(float(row["val_accuracy"]) for row in metrics) == trained.val.accuracy
    config = json.loads((run / "config.json").read_text("utf-8"))
    assert config["recipe"]["epochs"] == 3
    assert config["pictures"] == {"train": 96, "val": 24, "test": 0}
    rows = list(csv.DictReader((run / "validation.csv").read_text("utf-8").splitlines()))
    right = sum(row["label"] == row["predicted"] == Path(row["path"]).parent.name for row in rows)
    assert right / len(rows) == trained.val.accuracy
    for name in ("history.png", "confusion_matrix.png"):
        with Image.open(run / name) as image:
            assert len(image.getcolors(2**20) or []) > 20


def test_the_checkpoint_is_the_network_that_was_measured(pictures: Path, tmp_path: Path):
    run = tmp_path / "run"
    trained = small(pictures, run)
    loaded = checkpoint.load(run / "model.pt")
    paths = [
        row.split(",")[0] for row in (run / "validation.csv").read_text("utf-8").splitlines()[1:]
    ]
    from gclf_runtime import images

    pixels = torch.from_numpy(np.stack([images.load(path, SMALL) for path in paths]))
    normalise = Normalise(loaded.spec.mean, loaded.spec.std)
    again = evaluate(
        logits(loaded.network, normalise, [pixels], len(pixels)), torch.zeros(len(paths)).long()
    )

    np.testing.assert_array_equal(again.predicted_n, trained.val.predicted_n)
    assert loaded.spec.label_names == trained.label_names
    assert loaded.spec.input == SMALL
    assert loaded.spec.metrics["val_accuracy"] == trained.val.accuracy
    assert loaded.spec.metrics["val_count"] == 24
    assert loaded.spec.temperature > 0
    assert 0 <= loaded.spec.metrics["val_ece"] <= 1
    assert "data:image/png;base64," in (run / "report.html").read_text("utf-8")
    assert json.loads((run / "audit.json").read_text("utf-8"))["pictures"]["train"]
    assert len(loaded.spec.dataset_sha256) == 64


def test_groups_and_their_crossings_are_in_the_report_and_the_result(
    pictures: Path, tmp_path: Path
):
    files = sorted(pictures.rglob("*.png"))
    rows = [f"{path.parent.name}/{path.name},{i % 2},{i % 3}" for i, path in enumerate(files)]
    table, run = tmp_path / "attributes.csv", tmp_path / "run"
    table.write_text("\n".join(["file,age,race", *rows]), encoding="utf-8")
    options: dict[str, Any] = {
        "network": "cnn", "spec": SMALL, "recipe": Recipe(epochs=1, batch_size=16),
        "val_split": 0.5, "attributes": table,
    }  # fmt: skip
    with pytest.raises(DatasetError, match="has no column size"):
        train(pictures, run, cross=[("age", "size")], **options)
    train(pictures, run, cross=[("age", "race")], **options)

    columns = json.loads((run / "result.json").read_text("utf-8"))["groups"]["columns"]
    assert list(columns) == ["age", "race", "age × race"]
    assert len(columns["age × race"]) == 6
    assert sum(group["count"] for group in columns["age × race"].values()) == 60
    assert "<bdi>age × race</bdi>" in (run / "report.html").read_text("utf-8")


def test_a_seed_repeats_a_run_to_the_bit(pictures: Path, tmp_path: Path):
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        small(pictures, tmp_path / name, seed=seed)
    first, again, other = (weights(tmp_path / name) for name in ("first", "again", "other"))

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


COUNTING = """
import torch

answered = []

class Counting(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.linear = torch.nn.Linear(1, classes)

    def forward(self, pixels_nchw):
        if not self.training:
            answered.append(len(pixels_nchw))
        return self.linear(pixels_nchw.mean((1, 2, 3))[:, None])

def network(classes, spec):
    return Counting(classes)
"""


def test_the_test_split_is_measured_once_and_apart(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data, run, name = tmp_path / "data", tmp_path / "run", "own_counting:network"
    (tmp_path / "own_counting.py").write_text(COUNTING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(NETWORKS, name, name)
    data.mkdir()
    pictures.rename(data / "train")
    for split, count in (("val", 3), ("test", 5)):
        (data / split / "red").mkdir(parents=True)
        for number in range(count):
            file = Path("red") / f"{number:03}.png"
            (data / split / file).write_bytes((data / "train" / file).read_bytes())
    options: dict[str, Any] = {
        "network": name, "spec": SMALL, "recipe": Recipe(epochs=2, batch_size=16, precision="fp32"),
        "device": "cpu", "ignore_audit": True,
    }  # fmt: skip
    trained = train(data, run, **options)
    again = train(data, run, resume=True, **options)
    answered: list[int] = importlib.import_module("own_counting").answered

    assert answered.count(5) == 1
    assert answered.count(3) == 2 + 1 + 1  # every epoch, the best again, and after the resume
    assert trained.test is not None
    assert len(trained.test.predicted_n) == 5
    assert again.test is None
    assert len((run / "test.csv").read_text("utf-8").splitlines()) == 6


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "constant"},
        {"label_smoothing": 0.1},
        {"clip_norm": 0.0},
        {"balance": "sampler"},
        {"balance": "loss", "label_smoothing": 0.1},
        {"ema": 0.9},
        {"batch_size": 1000},
        {"precision": "auto"},
        {"precision": "bf16"},
        {"augmentation": Augmentation(rotate=5, zoom=0.1, brightness=0.1, erase=0.2, mixup=0.2)},
    ],
    ids=str,
)
def test_every_option_trains(pictures: Path, tmp_path: Path, changes: dict[str, Any]):
    trained = small(pictures, tmp_path / "run", **changes)

    assert np.isfinite(trained.val.loss)


def split_of(labels: list[int]) -> Split:
    """Return pictures that are black for class 0 and white for class 1."""
    labels_n = np.array(labels, np.int64)
    pixels_nhwc = np.zeros((len(labels), 8, 8, 3), np.uint8)
    pixels_nhwc[labels_n == 1] = 255
    return Split(tuple(Path(str(i)) for i in range(len(labels))), pixels_nhwc, labels_n)


class Linear(nn.Module):
    """Answers from the mean, and counts the white pictures that it learns from."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 2)
        self.white = 0

    def forward(self, pixels_nchw: torch.Tensor) -> torch.Tensor:
        mean_n1 = pixels_nchw.mean((1, 2, 3))[:, None]
        self.white += int((mean_n1 > 0).sum()) if self.training else 0
        return self.linear(mean_n1)


def training_of(network: nn.Module, labels: list[int], **changes: Any) -> Training:
    split = split_of(labels)
    options: dict[str, Any] = {"batch_size": 50, "precision": "fp32"} | changes
    recipe = Recipe(**options)
    normalise = Normalise((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
    return Training(network, normalise, split, split, recipe, torch.device("cpu"))


def test_the_sampler_draws_rare_classes_as_often_as_others():
    plain, balanced = Linear(), Linear()
    labels = [0] * 950 + [1] * 50
    training_of(plain, labels).run_epoch()
    training_of(balanced, labels, balance="sampler").run_epoch()

    assert plain.white == 50
    assert 430 < balanced.white < 570


def test_the_balanced_loss_weighs_rare_classes_as_much_as_others():
    """Where the network cannot tell them apart, the best answer is the share of each class."""
    shares: list[float] = []
    for balance in ("none", "loss"):
        network = Linear()
        training = training_of(
            network, [0] * 90 + [1] * 10, balance=balance, epochs=40, optimizer="adam",
            learning_rate=0.1, batch_size=100, augmentation=Augmentation(flip=False, pad=0),
        )  # fmt: skip
        network.linear.weight.requires_grad_(False).zero_()
        for _ in range(40):
            training.run_epoch()
        shares.append(float(network.linear.bias.detach().softmax(0)[1]))

    assert shares == pytest.approx([0.1, 0.5], abs=0.02)


def test_a_weighed_and_smoothed_loss_has_the_smoothed_target_of_every_class():
    """A weight by class that smoothing spreads too would have 0.84 of the common class be rare."""
    network = Linear()
    training = training_of(
        network, [0] * 990 + [1] * 10, balance="loss", label_smoothing=0.1, epochs=100,
        optimizer="adam", schedule="constant", learning_rate=0.2, weight_decay=0.0, clip_norm=0.0,
        batch_size=1000, augmentation=Augmentation(flip=False, pad=0),
    )  # fmt: skip
    for _ in range(100):
        training.run_epoch()
    with torch.inference_mode():
        answers_nk = network.linear(torch.tensor([[-0.5], [0.5]])).softmax(1)

    assert training.measured.accuracy == 1
    torch.testing.assert_close(
        answers_nk, torch.tensor([[0.95, 0.05], [0.05, 0.95]]), atol=0.01, rtol=0
    )


def test_averaged_weights_are_what_is_measured():
    network = Linear()
    before = network.linear.weight.detach().clone()
    training = training_of(network, [0, 1] * 25, ema=0.9, optimizer="sgd", schedule="constant")
    epoch = training.run_epoch()
    averaged, evaluated = training.evaluated.get_parameter("linear.weight"), training.measured

    # The first of the moving averages keeps a tenth, not 0.9, of the random weights.
    expected = 0.1 * before + 0.9 * network.linear.weight
    torch.testing.assert_close(averaged, expected)
    assert not torch.equal(averaged, network.linear.weight)
    assert epoch.val_loss == evaluated.loss


def test_patience_ends_a_training_that_no_longer_gets_better(pictures: Path, tmp_path: Path):
    run = tmp_path / "run"
    small(pictures, run, epochs=40, patience=2, optimizer="sgd", schedule="constant")

    rows = list(csv.DictReader((run / "metrics.csv").read_text("utf-8").splitlines()))
    ranks = [(-float(row["val_accuracy"]), float(row["val_loss"])) for row in rows]
    assert len(rows) < 40
    assert ranks.index(min(ranks)) == len(rows) - 3


def test_a_folder_with_a_run_is_not_overwritten(pictures: Path, tmp_path: Path):
    small(pictures, tmp_path / "run", epochs=1)

    with pytest.raises(RunError, match="holds a run already"):
        small(pictures, tmp_path / "run")
    with pytest.raises(RunError, match="cannot be made"):
        small(pictures, tmp_path / "run" / "model.pt")


def test_charts_bear_losses_that_are_not_finite_and_many_classes(tmp_path: Path):
    nan, inf = float("nan"), float("inf")
    draw_history(tmp_path / "h.png", {"a": [nan, inf], "b": [1, nan, 2]}, {"a": [nan]})
    draw_confusion(tmp_path / "c.png", np.eye(1000, dtype=np.int64), [str(i) for i in range(1000)])

    with Image.open(tmp_path / "c.png") as image:
        assert max(image.size) < 1200


def test_a_training_that_diverges_stops_and_leaves_no_model(pictures: Path, tmp_path: Path):
    with pytest.raises(TrainingError, match=r"the loss became .* with a lower --learning-rate"):
        small(pictures, tmp_path / "run", optimizer="sgd", learning_rate=1e30, clip_norm=0.0)

    assert not (tmp_path / "run" / "model.pt").exists()


def test_a_refused_folder_leaves_no_run(pictures: Path, tmp_path: Path):
    with pytest.raises(DatasetError):
        small(pictures / "red", tmp_path / "run")
    with pytest.raises(ValueError, match="cnn needs at least"):
        train(pictures, tmp_path / "run", network="cnn", spec=InputSpec(height=8, width=8))

    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_a_device_that_is_not_there_is_an_error(pictures: Path, tmp_path: Path):
    with pytest.raises(ProviderError, match="device cuda cannot be used"):
        train(pictures, tmp_path / "run", spec=SMALL, device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this torch sees no GPU")
def test_a_gpu_learns_the_same(pictures: Path, tmp_path: Path):
    trained = train(
        pictures,
        tmp_path / "run",
        spec=SMALL,
        recipe=Recipe(epochs=6, batch_size=16),
        val_split=0.2,
        device="cuda",
    )

    assert trained.val.accuracy == 1


def test_pixel_statistics_are_whole_levels():
    pixels = np.random.default_rng(0).integers(0, 200, (5, 7, 9, 3), np.uint8)
    mean, std = pixel_statistics(pixels)

    assert mean * 255 == pytest.approx(round(pixels.mean()))
    assert std * 255 == pytest.approx(round(pixels.std()))
    assert pixel_statistics(np.zeros((1, 2, 2, 3), np.uint8)) == (0, 1 / 255)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 broken zip"], ids=repr)
def test_a_file_that_is_no_checkpoint_says_so(tmp_path: Path, content: bytes):
    path = tmp_path / "model.pt"
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match="is not a checkpoint of gclf-train"):
        checkpoint.load(path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path):
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (tmp_path.joinpath("ran").touch, ())

    path = tmp_path / "model.pt"
    torch.save({"format": "gclf-checkpoint-1", "network": Payload()}, path)

    with pytest.raises(CheckpointError):
        checkpoint.load(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"network": "vgg"},
        {"network": []},
        {"weights": {}},
        {"weights": None},
        {"spec": "{}"},
        {"weights": {"features.0.weight": torch.zeros(1)}},
    ],
    ids=str,
)
def test_a_foreign_record_is_refused_in_one_line(
    pictures: Path, tmp_path: Path, change: dict[str, Any]
):
    small(pictures, tmp_path / "run", epochs=1)
    path = tmp_path / "run" / "model.pt"
    torch.save(torch.load(path, weights_only=True) | change, path)

    with pytest.raises(CheckpointError, match="is not a checkpoint of gclf-train") as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)
