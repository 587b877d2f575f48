import copy
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import onnx
import torch
from PIL import Image

from gclf_export import ExportError, awkward, reference
from gclf_export.certificate import Rung, Witness, to_json
from gclf_export.delivery import Delivery
from gclf_export.graph import Deployable, to_onnx
from gclf_export.listing import read_listing
from gclf_runtime import Classifier, InputSpec, ModelError, ModelSpec, images
from gclf_runtime.spec import SPEC_KEY
from gclf_trainer import checkpoint
from gclf_trainer.checkpoint import Checkpoint
from gclf_trainer.folders import LabelledFiles


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
        path = delivery.write_model("fp32", model, {SPEC_KEY: spec.to_json()})
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


def test_a_resize_without_antialias_is_caught(trained: Checkpoint):
    data = awkward.pictures()["stripes.png"]
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    spec = trained.spec.input
    coarse = torch.nn.functional.interpolate(
        torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float(),
        (spec.height, spec.width),
        mode="bilinear",
    )
    pixels = coarse[0].round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")

    right, wrong = reference.answer(
        trained, ["a", "b"], {"a": data, "b": file.getvalue()}.__getitem__
    )

    assert np.abs(right - wrong).max() > 1e-4


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


@pytest.fixture
def many(tmp_path: Path) -> tuple[Checkpoint, LabelledFiles]:
    """Return a network that is sure of one of 100 classes, and pictures."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 100))
    with torch.no_grad():
        network[1].weight *= 4  # pyright: ignore[reportOperatorIssue, reportUnknownMemberType]
    names = tuple(f"{number:03}" for number in range(100))
    spec = ModelSpec(label_names=names, input=InputSpec(height=8, width=8))
    generator = np.random.default_rng(0)
    for number in range(6):
        pixels = generator.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    files = LabelledFiles(tuple(sorted(tmp_path.glob("*.png"))), (0,) * 6)
    return Checkpoint("own", network.eval(), spec, ""), files


def test_another_temperature_is_caught_however_many_the_classes(
    many: tuple[Checkpoint, LabelledFiles], tmp_path: Path
):
    trained, _ = many
    cooler = replace(trained, spec=replace(trained.spec, temperature=3.0))

    rung = compared(Witness(*many), tmp_path, cooler, replace(trained.spec, precision="int8"))

    assert rung.drop == 0
    assert rung.agreement == 1
    assert rung.max_difference < 1
    assert rung.mean_difference > 0.2
    assert "of the probability lies on other classes" in rung.fault(max_drop=0)


def test_answers_that_are_no_numbers_are_refused(
    many: tuple[Checkpoint, LabelledFiles], tmp_path: Path
):
    trained, _ = many
    broken = turned(trained, "1.bias", 0)
    with torch.no_grad():
        broken.network.state_dict()["1.bias"][0] = float("nan")

    with pytest.raises(ModelError, match="not finite"):
        compared(Witness(*many), tmp_path, broken, trained.spec)


def test_a_certificate_is_json_without_nan():
    figures = dict.fromkeys(Rung.__dataclass_fields__, float("nan"))

    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json([Rung(**figures)], {}, max_drop=0, classes=2)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
def test_the_contract_written_twice_gives_the_same_pixels(fit: str, interpolation: str):
    spec = InputSpec(height=48, width=40, fit=fit, interpolation=interpolation)  # pyright: ignore[reportArgumentType]

    for name, data in awkward.pictures().items():
        np.testing.assert_array_equal(reference.pixels(data, spec), images.load(data, spec), name)


def test_a_phones_jpeg_of_several_pictures_is_decoded_as_any_jpeg(
    monkeypatch: pytest.MonkeyPatch,
):
    file = io.BytesIO()
    large = Image.linear_gradient("L").resize((900, 700)).convert("RGB")
    noisy = np.asarray(large) ^ np.random.default_rng(0).integers(0, 64, (700, 900, 1), np.uint8)
    picture = Image.fromarray(noisy)
    picture.save(file, "MPO", save_all=True, append_images=[picture.resize((90, 70))])
    spec, data = InputSpec(height=32, width=32), file.getvalue()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # and it is of many pixels

    np.testing.assert_array_equal(reference.pixels(data, spec), images.load(data, spec))


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
    for figure in (0.11, float("nan")):
        real, drawn = (
            replace(rung, **{name: figure}).fault(max_drop=1)
            for name in ("mean_difference", "awkward_mean_difference")
        )
        assert real.startswith("on validation pictures ")
        assert drawn.startswith("on awkward pictures ")
