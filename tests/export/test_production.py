import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import onnx
import torch
from PIL import Image
from typer.testing import CliRunner

from gclf_export import ExportError, reference
from gclf_export.cli import app
from gclf_export.production import Export, Order, produce
from gclf_runtime import Classifier, InputSpec, ModelError, ModelSpec
from gclf_runtime.golden import read_golden
from gclf_runtime.golden import replay as replay_golden
from gclf_runtime.model_file import seal
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
        max_drop=0.25,
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


def test_what_was_measured_on_other_pictures_of_the_run_is_not_said_of_these(
    order: Order, tmp_path: Path
):
    edited = replace(order, output=tmp_path / "m.onnx", precisions=("fp32",), is_own_split=True)
    right = produce(edited).written[0].rungs[0].checkpoint_accuracy
    own = {"val_accuracy": right, "val_count": 4, "val_ece": 0.01}
    same = replace(edited.trained, spec=replace(edited.trained.spec, metrics=own))

    said = [produce(edited), produce(replace(edited, trained=same))]

    assert ["val_ece" in done.written[0].spec.metrics for done in said] == [False, True]


@pytest.mark.parametrize("max_drop", [float("nan"), -0.1, 1.1])
def test_a_limit_that_is_none_is_refused(order: Order, max_drop: float):
    with pytest.raises(ValueError, match="max_drop must be a number from 0 to 1"):
        replace(order, max_drop=max_drop)


def test_the_command_takes_no_limit_that_is_not_a_number(tmp_path: Path):
    result = CliRunner().invoke(app, [str(tmp_path / "m.pt"), "--max-drop", "nan"])

    assert result.exit_code == 2
    assert "nan is no number" in result.output


def test_a_reduced_precision_needs_pictures_enough_to_tell(done: Export, order: Order):
    assert "calibration" not in done.refused["int8"]

    few = produce(replace(order, max_drop=0.2)).refused["int8"]

    assert few == (
        "4 validation pictures do not tell whether it costs more than 20.00% accuracy, 5 do. "
        "Give more: --validation DIR"
    )


def test_classes_in_another_order_are_warned_of(order: Order, tmp_path: Path):
    """Eight pictures, every answer wrong: below one half even at the interval's upper end."""
    paths = order.pictures.paths * 2
    answered = reference.answer(
        order.trained, [str(p) for p in paths], lambda p: Path(p).read_bytes()
    )
    wrong = LabelledFiles(paths, tuple(1 - int(answer) for answer in answered.argmax(1)))

    done = produce(replace(order, output=tmp_path / "m.onnx", precisions=("fp32",), pictures=wrong))

    (warning,) = done.certificate["warnings"]
    assert warning.startswith("worse than chance: 0.00% of 8 pictures, where guessing one of 2")
    assert warning.endswith("Are the classes in the order of the training?")
    assert "**Warning: worse than chance" in done.written[0].card.read_text(encoding="utf-8")
    record = json.loads(Classifier(done.written[0].path).metadata["gclf.certificate"])
    assert record["warnings"] == [warning]


def test_a_replay_sees_that_the_promises_were_changed(done: Export, tmp_path: Path):
    path = done.written[0].path
    golden = read_golden(Classifier(path).metadata["gclf.golden"])
    model = onnx.load(path)
    spec = replace(Classifier(path).spec, label_names=("b", "a")).to_json()
    onnx.helper.set_model_props(model, {"gclf.spec": spec})
    (tmp_path / "m.onnx").write_bytes(seal(model.SerializeToString()))

    assert replay_golden(Classifier(path), golden).passed
    with pytest.raises(ModelError, match="changed after the export proved them"):
        replay_golden(Classifier(tmp_path / "m.onnx"), golden)
