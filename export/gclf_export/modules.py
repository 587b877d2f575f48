"""Any torch module to a certified file: what the trainer has not made.

Axes: n batch, h height, w width, c channels (RGB).
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from torch import Tensor, nn

from gclf_export.errors import ExportError
from gclf_export.listing import CALIBRATION_REMEDY, read_validation
from gclf_export.precision import DEFAULT_MAX_DROP, Choice
from gclf_export.production import Export, Order, produce
from gclf_runtime import InputSpec, ModelSpec
from gclf_runtime.spec import Interpolation
from gclf_trainer.checkpoint import Checkpoint
from gclf_trainer.folders import LabelledFiles


def export_module(
    module: nn.Module,
    spec: ModelSpec,
    output: Path,
    *,
    pictures: Path,
    calibration: Path | None = None,
    precisions: Sequence[Choice] = ("fp32",),
    max_drop: float = DEFAULT_MAX_DROP,
) -> Export:
    """Export a module of yours, and prove that the file answers as it does.

    A network of torchvision, whose weights state their preprocessing:

        weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
        chosen = weights.transforms()
        spec, module = from_config(
            {
                "mean": chosen.mean,
                "std": chosen.std,
                "input_size": (3, *chosen.crop_size * 2),
                "crop_pct": chosen.crop_size[0] / chosen.resize_size[0],
                "interpolation": chosen.interpolation.value,
            },
            weights.meta["categories"],
            torchvision.models.resnet18(weights=weights),
        )
        export_module(module, spec, Path("resnet18.onnx"), pictures=Path("imagenet/val"))

    And one of timm: `from_config(model.pretrained_cfg, label_names, model)`.

    Args:
        module: On the CPU; takes normalised float32 pixels (N, 3, H, W), returns logits (N, K).
            It is put into evaluation mode.
        spec: Its classes in the order of the logits, its input, mean and std.
        output: The file, or what several files' names are made from.
        pictures: Validation pictures to certify it on, one subfolder per class.
        calibration: Training pictures for int8, likewise; a few hundred.
        precisions: As of `export_all`.
        max_drop: How much accuracy a reduced precision may cost, 0-1.

    Raises:
        ExportError: The file does not answer as the module does, no precision was admitted, there
            is no picture, or it cannot be written.

    Warns:
        UserWarning: It is worse than chance; the files are there.
    """

    def calibrating() -> LabelledFiles:
        if calibration is None:
            raise ExportError(f"no training pictures were given. {CALIBRATION_REMEDY}")
        return read_validation(calibration, Path(), spec.label_names)

    done = produce(
        Order(
            trained=Checkpoint(type(module).__name__, module.eval(), spec, ""),
            output=output,
            pictures=read_validation(pictures, Path(), spec.label_names),
            calibration=calibrating,
            precisions=precisions,
            max_drop=max_drop,
        )
    )
    for warning in done.certificate["warnings"]:
        warnings.warn(warning, stacklevel=2)
    return done


def from_config(
    config: Mapping[str, Any], label_names: Sequence[str], module: nn.Module
) -> tuple[ModelSpec, nn.Module]:
    """Make a ModelSpec of a preprocessing config in timm's words, and the module that fits it.

    They resize a picture's short side to size / crop_pct and cut the centre out. The contract
    fits a picture to the input, so the input is the larger square, and the cut is in the graph.

    Args:
        config: `mean`, `std`, `input_size` (3, H, W), `interpolation`, `crop_pct` (1 when
            missing) and `crop_mode` (center when missing).
        label_names: The classes in the order of the logits.
        module: Takes pixels of `input_size`.

    Raises:
        ExportError: The preprocessing is none that the contract can state.
    """
    channels, height, width = config["input_size"]
    interpolation, crop_pct = config["interpolation"], float(config.get("crop_pct", 1))
    mode = config.get("crop_mode", "center")
    if channels != 3 or mode != "center" or interpolation not in get_args(Interpolation):
        raise ExportError(
            f"a preprocessing of {channels} channels, crop {mode!r} and interpolation "
            f"{interpolation!r} cannot be stated. Give export_module a ModelSpec of your own"
        )
    spec = ModelSpec(
        label_names=tuple(label_names),
        input=InputSpec(
            height=_whole(height / crop_pct),
            width=_whole(width / crop_pct),
            fit="crop",
            interpolation=cast(Interpolation, interpolation),
        ),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
    larger = (spec.input.height, spec.input.width)
    return spec, module if larger == (height, width) else Cropped(module, (height, width))


def _whole(side: float) -> int:
    """Round down, as timm does, but not 224 / 0.56, which floats make 399.999…, to 399."""
    return math.floor(side + 1e-6)


class Cropped(nn.Module):
    """Cuts the centre out of its pixels, as torchvision's CenterCrop does.

    Args:
        module: Takes what is left.
        size_hw: Height and width of it.
    """

    def __init__(self, module: nn.Module, size_hw: tuple[int, int]) -> None:
        super().__init__()
        self.module, self.size_hw = module, size_hw

    def forward(self, pixels_nchw: Tensor) -> Tensor:
        """Return the module's logits."""
        height, width = self.size_hw
        top = round((pixels_nchw.shape[2] - height) / 2)
        left = round((pixels_nchw.shape[3] - width) / 2)
        return self.module(pixels_nchw[:, :, top : top + height, left : left + width])
