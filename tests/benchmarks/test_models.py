"""Axes: n batch, h height, w width, c channels (RGB), k classes."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("torch")

import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
import torch
from numpy.typing import NDArray

from benchmarks.models import prepare
from benchmarks.turns.worker import Worker
from gclf_runtime import Classifier, InputSpec, ModelSpec
from gclf_trainer import checkpoint
from gclf_trainer.networks import build

# The same sums in another order: normalised before or in the graph, by two runtimes.
TOLERANCE = 1e-5
SPEC = ModelSpec(
    label_names=("blue", "green", "red"),
    input=InputSpec(height=32, width=48),
    mean=(0.3, 0.4, 0.5),
    std=(0.2, 0.25, 0.3),
    temperature=1.7,
)


class Made(NamedTuple):
    folder: Path
    checkpoint: Path
    pixels_nhwc: NDArray[np.uint8]
    probabilities_nk: NDArray[np.float32]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Return every form of a small network with odd settings, and what our file answers."""
    folder = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = build("resnet10", 3, SPEC.input)
    checkpoint.save(folder / "model.pt", "resnet10", network, SPEC)
    prepare(folder / "forms", "resnet10", folder / "model.pt")
    pixels_nhwc = np.random.default_rng(0).integers(0, 256, (5, 32, 48, 3), np.uint8)
    predictions = Classifier(folder / "forms" / "gclf.onnx", device="cpu").predict(pixels_nhwc)
    probabilities_nk = np.array([p.probabilities_k for p in predictions], np.float32)
    return Made(folder / "forms", folder / "model.pt", pixels_nhwc, probabilities_nk)


def test_the_form_of_ultralytics_gives_the_same_probabilities_and_names_its_classes(made: Made):
    session = _session(made.folder / "nchw.onnx")
    said = session.get_modelmeta().custom_metadata_map

    assert session.run(None, {"images": _unit(made)})[0] == _about(made.probabilities_nk)
    assert said["names"] == "{0: 'blue', 1: 'green', 2: 'red'}"
    assert (said["task"], said["imgsz"]) == ("classify", "[32, 48]")


def test_the_form_of_hugging_face_gives_the_same_probabilities(made: Made):
    folder = made.folder / "huggingface"
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    pixels_nchw = _normalised(made, processor["image_mean"], processor["image_std"])
    (logits_nk,) = _session(folder / "model.onnx").run(None, {"pixel_values": pixels_nchw})

    assert _softmax(logits_nk) == _about(made.probabilities_nk)
    assert processor["size"] == {"height": 32, "width": 48}
    assert json.loads((folder / "config.json").read_text())["id2label"]["2"] == "red"


def test_the_form_of_fastembed_gives_the_same_probabilities(made: Made):
    session = _session(made.folder / "fastembed" / "model.onnx")

    assert session.run(None, {"images": _unit(made)})[0] == _about(made.probabilities_nk)


def test_the_form_of_torch_gives_the_same_probabilities_with_any_batch(made: Made):
    network = torch.export.load(made.folder / "network.pt2").module()
    spec = json.loads((made.folder / "spec.json").read_text())
    pixels_nchw = torch.from_numpy(_normalised(made, spec["mean"], spec["std"]))
    with torch.inference_mode():
        all_nk, first_nk = network(pixels_nchw), network(pixels_nchw[:1])

    assert _softmax(all_nk.numpy()) == _about(made.probabilities_nk)
    assert _softmax(first_nk.numpy()) == _about(made.probabilities_nk[:1])
    assert spec["label_names"] == ["blue", "green", "red"]


@pytest.mark.parametrize("variant", ["eager", "channels_last"])
def test_torch_runs_the_trained_network_itself(made: Made, tmp_path: Path, variant: str):
    np.save(tmp_path / "pixels.npy", made.pixels_nhwc)
    asked = {"model": str(made.folder), "pixels": str(tmp_path / "pixels.npy"), "variant": variant}
    with Worker("torch_network") as worker:
        answers_nk = worker.ask(do="answer", threads=1, batch=5, **asked)

    assert np.array(answers_nk) == _about(made.probabilities_nk)


def test_the_int8_file_opens_and_says_so(made: Made):
    classifier = Classifier(made.folder / "gclf.int8.onnx", device="cpu")
    answers_nk = [p.probabilities_k for p in classifier.predict(made.pixels_nhwc)]

    assert classifier.spec.precision == "int8"
    assert np.array(answers_nk) == pytest.approx(made.probabilities_nk, abs=0.1)


def test_a_checkpoint_of_another_network_is_refused(made: Made, tmp_path: Path):
    with pytest.raises(ValueError, match="is of resnet10, not of cnn"):
        prepare(tmp_path, "cnn", made.checkpoint)


def _session(path: Path) -> Any:
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


def _unit(made: Made) -> NDArray[np.float32]:
    """Return the pixels as floats 0-1, NCHW."""
    return (made.pixels_nhwc.transpose(0, 3, 1, 2) / 255).astype(np.float32, order="C")


def _normalised(made: Made, mean: list[float], std: list[float]) -> NDArray[np.float32]:
    mean_c11, std_c11 = (np.array(v, np.float32)[:, None, None] for v in (mean, std))
    return ((_unit(made) - mean_c11) / std_c11).astype(np.float32)


def _softmax(logits_nk: NDArray[np.float32]) -> NDArray[Any]:
    return torch.softmax(torch.from_numpy(logits_nk), 1).numpy()


def _about(expected_nk: NDArray[np.float32]) -> Any:
    return pytest.approx(expected_nk, abs=TOLERANCE)
