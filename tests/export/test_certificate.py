import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import onnx
import torch

from gclf_export import ExportError, awkward, reference
from gclf_export.certificate import Rung, Witness
from gclf_export.delivery import Delivery
from gclf_export.graph import Deployable, to_onnx
from gclf_export.listing import read_listing
from gclf_runtime import Classifier, InputSpec, ModelSpec, images
from gclf_runtime.spec import SPEC_KEY
from gclf_trainer import checkpoint
from gclf_trainer.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def trained(run: Path) -> Checkpoint:
    return checkpoint.load(run / "model.pt")


@pytest.fixture(scope="module")
def witness(run: Path, trained: Checkpoint) -> Witness:
    files = read_listing(run / "validation.csv", trained.spec.label_names, remedy="")
    return Witness(trained, files)


_graphs: list[tuple[Checkpoint, onnx.ModelProto]] = []


def graph_of(made_of: Checkpoint) -> onnx.ModelProto:
    """Return its graph; torch takes seconds to write one, so they are kept."""
    for known, graph in _graphs:
        if known is made_of:
            return graph
    _graphs.append((made_of, to_onnx(Deployable(made_of).eval(), made_of.spec.input)))
    return _graphs[-1][1]


def compared(witness: Witness, folder: Path, made_of: Checkpoint, spec: ModelSpec) -> Rung:
    """Export a network without any check, with a spec beside it, and compare."""
    model = graph_of(made_of)
    with Delivery(folder / "m.onnx") as delivery:
        path = delivery.write("fp32", model, {SPEC_KEY: spec.to_json()})
        return witness.compare(Classifier(path, device="cpu"))


def turned(trained: Checkpoint, name: str, axis: int) -> Checkpoint:
    """Return the same network with one of its tensors the other way round."""
    network = copy.deepcopy(trained.network)
    with torch.no_grad():
        tensor = network.state_dict()[name]
        tensor.copy_(tensor.flip(axis))
    return replace(trained, network=network)


def test_an_honest_export_is_certified(witness: Witness, tmp_path: Path, trained: Checkpoint):
    rung = compared(witness, tmp_path, trained, trained.spec)

    assert rung.fault(max_drop=0) == ""
    assert rung.agreement == rung.awkward_agreement == 1


@pytest.mark.parametrize(
    "change",
    [{"mean": (0.6, 0.5, 0.5)}, {"std": (0.3, 0.3, 0.3)}, {"temperature": 1.1}],
    ids=["mean", "std", "temperature"],
)
def test_a_graph_with_another_normalisation_is_caught(
    witness: Witness, tmp_path: Path, trained: Checkpoint, change: dict[str, object]
):
    other = replace(trained, spec=replace(trained.spec, **change))

    assert "probabilities differ" in compared(witness, tmp_path, other, trained.spec).fault(
        max_drop=1
    )


def test_swapped_channels_are_caught(witness: Witness, tmp_path: Path, trained: Checkpoint):
    other = turned(trained, "features.0.0.weight", 1)  # it takes BGR

    assert "probabilities differ" in compared(witness, tmp_path, other, trained.spec).fault(
        max_drop=1
    )


def test_swapped_classes_are_caught(witness: Witness, tmp_path: Path, trained: Checkpoint):
    outputs = turned(turned(trained, "classifier.weight", 0), "classifier.bias", 0)
    names = replace(trained.spec, label_names=trained.spec.label_names[::-1])

    for made_of, spec in ((outputs, trained.spec), (trained, names)):
        rung = compared(witness, tmp_path, made_of, spec)
        assert "probabilities differ" in rung.fault(max_drop=1)
        assert rung.agreement < 1
    assert compared(witness, tmp_path, outputs, names).fault(max_drop=0) == ""  # both is neither
    other = replace(trained.spec, label_names=("a", "b", "c"))
    with pytest.raises(ExportError, match="has the classes a, b, c, the checkpoint blue"):
        compared(witness, tmp_path, trained, other)


@pytest.mark.parametrize(
    "change",
    [{"interpolation": "nearest"}, {"fit": "crop"}, {"interpolation": "bicubic"}],
    ids=["without antialias", "cropped", "another filter"],
)
def test_another_way_to_resize_is_caught(
    witness: Witness, tmp_path: Path, trained: Checkpoint, change: dict[str, str]
):
    spec = replace(trained.spec, input=replace(trained.spec.input, **change))

    assert "probabilities differ" in compared(witness, tmp_path, trained, spec).fault(max_drop=1)


def test_another_scale_of_large_jpegs_is_caught_by_an_awkward_picture(
    witness: Witness, tmp_path: Path, trained: Checkpoint
):
    spec = replace(trained.spec, input=replace(trained.spec.input, jpeg_scale_margin=1))
    rung = compared(witness, tmp_path, trained, spec)

    assert rung.max_difference < 1e-4
    assert rung.awkward_max_difference > 1e-4
    assert "awkward pictures agree" in rung.fault(max_drop=1)


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_the_contract_written_twice_gives_the_same_pixels(fit: str, interpolation: str):
    spec = InputSpec(height=48, width=40, fit=fit, interpolation=interpolation)  # pyright: ignore[reportArgumentType]

    for name, data in awkward.pictures().items():
        np.testing.assert_array_equal(reference.pixels(data, spec), images.load(data, spec), name)


def test_awkward_pictures_are_of_every_kind_and_the_same_each_time():
    drawn = awkward.pictures()

    assert drawn == awkward.pictures()
    assert {f"orientation-{number}.jpg" for number in range(1, 9)} <= set(drawn)
    for name in ("cmyk.jpg", "palette-clear.png", "grey-16-bit.png", "grey-alpha.png", "rgba.png"):
        assert name in drawn
    assert sum(map(len, drawn.values())) < 1_000_000


def test_a_picture_that_nobody_can_read_has_a_remedy(trained: Checkpoint):
    with pytest.raises(ExportError, match=r"broken\.jpg cannot be decoded .* Remove it"):
        reference.answer(trained, ["broken.jpg"], lambda name: b"\xff\xd8 nothing")


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_reduced_precision_may_cost_no_more_than_is_allowed(precision: str):
    figures = dict.fromkeys(Rung.__dataclass_fields__, 0.0) | {
        "count": 100,
        "mean_difference": 0.01,
    }
    named = {"precision": precision, "provider": "CPU", "verdict": ""}
    rung = Rung(**(figures | named | {"accuracy": 0.9, "checkpoint_accuracy": 0.91}))  # pyright: ignore[reportArgumentType]

    assert rung.fault(max_drop=0.01) == ""
    assert rung.fault(max_drop=0.009) == (
        "it costs 1.00% accuracy on 100 pictures, the limit is 0.90%"
    )
    assert "in the mean" in replace(rung, mean_difference=0.04).fault(max_drop=1)
    assert "in the mean" in replace(rung, mean_difference=float("nan")).fault(max_drop=1)
