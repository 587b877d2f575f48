import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import torchvision  # pyright: ignore[reportMissingTypeStubs]
from PIL import Image
from torchvision.transforms import InterpolationMode  # pyright: ignore[reportMissingTypeStubs]
from torchvision.transforms._presets import (  # pyright: ignore[reportMissingTypeStubs]
    ImageClassification,
)

from gclf_export import ExportError, export_module
from gclf_export.modules import Cropped, from_config
from gclf_runtime import Classifier, InputSpec, ModelSpec

CONFIG = {
    "input_size": (3, 56, 56),
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "interpolation": "bilinear",
    "crop_pct": 0.875,
    "crop_mode": "center",
}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return smooth pictures, of two classes, none of them square."""
    y, x = np.mgrid[0:90, 0:120] / 100
    for name, shift in (("a", 0.0), ("b", 2.0)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(4):
            waves = [np.sin(3 * x + shift + number), np.cos(4 * y - number), np.sin(5 * x * y)]
            pixels = ((np.stack(waves, -1) + 1) * 127).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{number}.png")
    return tmp_path / "pictures"


def test_a_network_of_torchvision_answers_as_with_its_own_transforms(
    pictures: Path, tmp_path: Path
):
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=2).eval()
    spec, module = from_config(CONFIG, ["a", "b"], network)
    done = export_module(module, spec, tmp_path / "m.onnx", pictures=pictures)
    paths = sorted(pictures.rglob("*.png"))
    transform: Any = ImageClassification(
        crop_size=56, resize_size=64, interpolation=InterpolationMode.BILINEAR
    )
    with torch.inference_mode():
        theirs = torch.stack([transform(Image.open(path)) for path in paths])
        expected_nk = torch.softmax(network(theirs), 1).numpy()

    answers = Classifier(done.written[0].path).predict_images(paths)

    assert done.written[0].rungs[0].max_difference < 1e-4
    assert spec.input == InputSpec(height=64, width=64, fit="crop")
    given_nk = np.stack([answer.probabilities_k for answer in answers])
    # torchvision rounds the longer side to whole pixels before it cuts.
    np.testing.assert_allclose(given_nk, expected_nk, rtol=0, atol=0.01)


def test_a_config_without_a_cut_is_its_own_input():
    module = torch.nn.Identity()
    spec, same = from_config({**CONFIG, "crop_pct": 1.0}, ["a", "b"], module)

    assert same is module
    assert (spec.input.height, spec.input.width, spec.input.fit) == (56, 56, "crop")


def test_a_side_that_floats_make_a_hair_too_short_is_whole():
    config = {**CONFIG, "input_size": (3, 224, 224), "crop_pct": 0.56}

    spec, _ = from_config(config, ["a", "b"], torch.nn.Identity())

    assert (spec.input.height, spec.input.width) == (400, 400)


class Branching(torch.nn.Module):
    """Goes another way for dark pictures, which no graph can."""

    def forward(self, pixels_nchw: torch.Tensor) -> torch.Tensor:
        return pixels_nchw.mean((2, 3)) if pixels_nchw.mean() > 0 else pixels_nchw.amax((2, 3))


def test_a_network_that_is_no_graph_is_refused_with_a_remedy(pictures: Path, tmp_path: Path):
    spec = ModelSpec(label_names=("a", "b", "c"), input=InputSpec(height=8, width=8))
    shutil.copytree(pictures / "a", pictures / "c")

    with pytest.raises(ExportError, match=r"as a graph \(.*\)\. .* torch\.where"):
        export_module(Branching(), spec, tmp_path / "m.onnx", pictures=pictures)
    assert not list(tmp_path.glob("*.onnx"))


def test_the_cut_is_that_of_torchvision():
    pixels = torch.arange(3 * 9 * 12.0).view(1, 3, 9, 12)

    cut = Cropped(torch.nn.Identity(), (4, 5))(pixels)

    assert torch.equal(cut, torchvision.transforms.CenterCrop((4, 5))(pixels))


@pytest.mark.parametrize(
    "change", [{"crop_mode": "border"}, {"interpolation": "random"}, {"input_size": (1, 28, 28)}]
)
def test_a_preprocessing_that_cannot_be_stated_is_refused(change: dict[str, Any]):
    with pytest.raises(ExportError, match="cannot be stated"):
        from_config({**CONFIG, **change}, ["a", "b"], torch.nn.Identity())


def test_int8_of_a_module_needs_training_pictures(pictures: Path, tmp_path: Path):
    spec, module = from_config(
        {**CONFIG, "crop_pct": 1.0, "input_size": (3, 16, 16)},
        ["a", "b"],
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 2)),
    )

    with pytest.raises(ExportError, match="no training pictures were given"):
        export_module(module, spec, tmp_path / "m.onnx", pictures=pictures, precisions=["int8"])
    assert not list(tmp_path.glob("*.onnx"))
