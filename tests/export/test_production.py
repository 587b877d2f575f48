from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from PIL import Image

from gclf_export import ExportError
from gclf_export.production import Export, Order, produce
from gclf_runtime import Classifier, InputSpec, ModelSpec
from gclf_trainer.checkpoint import Checkpoint
from gclf_trainer.folders import LabelledFiles


def broken_calibration() -> LabelledFiles:
    raise RuntimeError("a quantiser's own words")


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> Order:
    """Return an order for a network that is told apart by nothing, and quick to export."""
    folder = tmp_path_factory.mktemp("production")
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 2)).eval()
    spec = ModelSpec(
        label_names=("a", "b"),
        input=InputSpec(height=8, width=8),
        metrics={"val_accuracy": 0.9, "val_count": 7, "val_ece": 0.01, "epochs": 3},
        checkpoint_sha256="of the module",
    )
    generator = np.random.default_rng(0)
    paths = tuple(folder / f"{number}.png" for number in range(4))
    for path in paths:
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return Order(
        trained=Checkpoint("own", network, spec, ""),
        output=folder / "m.onnx",
        pictures=LabelledFiles(paths, (0, 1, 0, 1)),
        calibration=broken_calibration,
        precisions=("fp32", "int8"),
    )


@pytest.fixture(scope="module")
def done(order: Order) -> Export:
    return produce(order)


def test_a_quantiser_that_breaks_costs_its_own_file_only(order: Order, done: Export):
    assert [file.path.name for file in done.written] == ["m.fp32.onnx"]
    assert "RuntimeError: a quantiser's own words" in done.refused["int8"]
    assert "int8 was refused" in done.written[0].card.read_text(encoding="utf-8")
    assert not list(order.output.parent.glob(".*"))


def test_a_file_says_of_which_checkpoint_the_module_was(done: Export):
    assert Classifier(done.written[0].path).spec.checkpoint_sha256 == "of the module"


def test_what_was_measured_on_other_pictures_is_not_said_of_these(order: Order, done: Export):
    metrics = Classifier(done.written[0].path).spec.metrics

    assert set(metrics) == {"val_accuracy", "val_count", "epochs"}
    assert metrics["val_count"] == len(order.pictures.paths)
    assert "best epoch" not in done.written[0].card.read_text(encoding="utf-8")


def test_a_folder_in_the_place_of_the_card_leaves_the_old_file(order: Order, tmp_path: Path):
    model = tmp_path / "m.onnx"
    model.write_bytes(b"the old file")
    (tmp_path / "m.card.md").mkdir()

    with pytest.raises(ExportError, match=r"m\.card\.md cannot be written"):
        produce(replace(order, output=model, precisions=("fp32",)))

    assert model.read_bytes() == b"the old file"
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", "m.card.md"}


def test_models_of_two_versions_have_a_card_each(order: Order, tmp_path: Path):
    cards = [
        produce(replace(order, output=tmp_path / name, precisions=("fp32",))).written[0].card
        for name in ("m.v1.0", "m.v1.1")
    ]

    assert [card.name for card in cards] == ["m.v1.0.card.md", "m.v1.1.card.md"]
    assert "# Model card: m.v1.0\n" in cards[0].read_text(encoding="utf-8")
