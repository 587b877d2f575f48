import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import torchvision  # pyright: ignore[reportMissingTypeStubs]
from PIL import Image
from torchvision.models.convnext import (  # pyright: ignore[reportMissingTypeStubs]
    CNBlockConfig,
    ConvNeXt,
)
from torchvision.transforms import InterpolationMode  # pyright: ignore[reportMissingTypeStubs]
from torchvision.transforms._presets import (  # pyright: ignore[reportMissingTypeStubs]
    ImageClassification,
)

from gclf_export import ExportError, export_module
from gclf_export.modules import Cropped, from_config
from gclf_export.pooling import PlainPool, with_plain_pooling
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
        export_module(
            module,
            spec,
            tmp_path / "m.onnx",
            pictures=pictures,
            precisions=["int8"],
            max_drop=0.2,
        )
    assert not list(tmp_path.glob("*.onnx"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"crop_pct": 0}, "crop_pct must be a number above 0, at most 1, got 0"),
        ({"crop_pct": None}, "crop_pct must be .* got None"),
        ({"crop_pct": float("nan")}, "crop_pct must be .* got nan"),
        ({"crop_pct": 1.2}, "crop_pct must be .* got 1.2"),
        ({"mean": None}, "mean is missing"),
        ({"mean": (0.5,)}, "mean must be three finite numbers"),
        ({"mean": 0.5}, "not iterable"),
        ({"std": (0, 1, 1)}, "std must be above 0"),
        ({"input_size": 224}, r"input_size must be \(3, height, width\), got 224"),
        ({"input_size": (3, 224)}, "input_size must be"),
        ({"input_size": (3, "a", 5)}, "unsupported operand"),
    ],
    ids=str,
)
def test_a_mistake_in_a_config_is_one_line_with_the_remedy(change: dict[str, Any], why: str):
    config = {k: v for k, v in (CONFIG | change).items() if k != "mean" or v is not None}

    with pytest.raises(ExportError, match=rf"cannot be stated: .*{why}.*\. Give mean, std, "):
        from_config(config, ["a", "b"], torch.nn.Identity())


class Answering(torch.nn.Module):
    """Answers as a test wants it to."""

    def __init__(self, answer: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.answer, self.weight = answer, torch.nn.Parameter(torch.ones(()))

    def forward(self, pixels_nchw: torch.Tensor) -> Any:
        return self.answer(pixels_nchw.mean((2, 3)) * self.weight)


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (Answering(lambda x: (x, x)), "answers two pictures by tuple, not by float logits"),
        (Answering(lambda x: {"logits": x}), "by dict, .*returns the logits alone"),
        (Answering(lambda x: x[:, 0]), r"by torch.float32 \(2,\), .*\(2, 3\)"),
        (Answering(lambda x: x[:, :2]), r"\(2, 2\), .* as many label_names"),
        (Answering(lambda x: x.argsort()), "by torch.int64"),
        (Answering(lambda x: 1 / 0), "ZeroDivisionError.* mend its forward"),
        (Answering(lambda x: x).double(), r"on cpu in torch.float64.* Call module\.cpu"),
        (Answering(lambda x: x).bfloat16(), r"in torch.bfloat16.* Call module\.cpu"),
        (Answering(lambda x: x).to("meta"), "on meta in .* after its weights were loaded"),
        (print, "is no torch.nn.Module"),
        (Answering, "type is no torch.nn.Module. Give an instance"),
    ],
    ids=str,
)
def test_a_module_of_another_kind_is_one_line_with_the_remedy(
    pictures: Path, tmp_path: Path, module: Any, why: str
):
    spec = ModelSpec(label_names=("a", "b", "c"), input=InputSpec(height=8, width=8))

    with pytest.raises(ExportError, match=why) as caught:
        export_module(module, spec, tmp_path / "m.onnx", pictures=pictures)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "operator"),
    [
        (Answering(lambda x: x.topk(2, 1)[0]), "TopK"),
        (
            Answering(lambda x: torch.cat([x[:, :1], torch.ones(1, 1).expand(x.shape[0], 1)], 1)),
            "Expand",
        ),
    ],
    ids=["topk", "expand"],
)
def test_an_operator_that_is_not_admitted_is_named_and_no_run_is_spoken_of(
    pictures: Path, tmp_path: Path, module: Answering, operator: str
):
    spec = ModelSpec(label_names=("a", "b"), input=InputSpec(height=8, width=8))

    with pytest.raises(ExportError, match=rf"needs {operator}, .* with fixed sizes") as caught:
        export_module(module, spec, tmp_path / "m.onnx", pictures=pictures)
    assert "RUN" not in str(caught.value)


@pytest.mark.parametrize("before", [(1, 1), (7, 7), (2, 5), (12, 18), (6, 13), (64, 3)], ids=str)
@pytest.mark.parametrize("after", [1, 6, (7, 7), (3, None)], ids=str)
def test_plain_pooling_is_adaptive_pooling(before: tuple[int, int], after: Any):
    torch.manual_seed(0)
    pixels = torch.rand(2, 5, *before)

    pooled = with_plain_pooling(torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(after)))(pixels)

    torch.testing.assert_close(pooled, torch.nn.AdaptiveAvgPool2d(after)(pixels))


def test_a_module_worse_than_chance_is_warned_of(pictures: Path, tmp_path: Path):
    folder = tmp_path / "reversed"
    for name in "ab":  # eight pictures of what is called "a" and answered as "b"
        (folder / name).mkdir(parents=True)
    for number, path in enumerate(sorted(pictures.rglob("*.png"))):
        shutil.copy(path, folder / "a" / f"{number}.png")
    module = Answering(lambda x: torch.stack([x[:, 0] * 0, x[:, 0] * 0 + 5], 1))
    spec = ModelSpec(label_names=("a", "b"), input=InputSpec(height=8, width=8))

    with pytest.warns(UserWarning, match=r"worse than chance: 0\.00% of 8 .* order of the train"):
        export_module(module, spec, tmp_path / "m.onnx", pictures=folder)
    assert (tmp_path / "m.onnx").is_file()


def test_the_module_that_is_exported_stays_as_it_was():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(2))

    written = with_plain_pooling(module)

    assert isinstance(module[1], torch.nn.AdaptiveAvgPool2d)
    assert isinstance(written[1], PlainPool)
    assert next(written.parameters()) is next(module.parameters())


def small_convnext() -> torch.nn.Module:
    widths = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)]
    return ConvNeXt(widths, num_classes=2)


def repeating() -> torch.nn.Module:
    """Pool to more than there is, as AlexNet and VGG do with small pictures."""
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(3, 4, 5, 4), nn.AdaptiveAvgPool2d(6), nn.Flatten(), nn.Linear(144, 2)
    )


@pytest.mark.parametrize("make", [small_convnext, repeating], ids=["convnext", "repeating"])
def test_a_network_with_adaptive_pooling_is_exported(pictures: Path, tmp_path: Path, make: Any):
    torch.manual_seed(0)
    spec = ModelSpec(label_names=("a", "b"), input=InputSpec(height=32, width=32))

    done = export_module(make(), spec, tmp_path / "m.onnx", pictures=pictures)

    assert done.written[0].rungs[0].max_difference < 1e-5
