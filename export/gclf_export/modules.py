"""Any torch module to a certified file: what the trainer has not made.

Axes: n batch, h height, w width, c channels (RGB).
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from gclf_export.errors import ExportError
from gclf_export.listing import CALIBRATION_REMEDY, read_validation
from gclf_export.precision import DEFAULT_MAX_DROP, Choice
from gclf_export.production import Export, Order, produce
from gclf_runtime import InputSpec, ModelSpec
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
        ExportError: The module takes no such pixels or returns no logits, the file does not answer
            as it does, no precision was admitted, there is no picture, or it cannot be written.

    Warns:
        UserWarning: It is worse than chance; the files are there.
    """
    _require_classifier(module, spec)

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


def _require_classifier(module: object, spec: ModelSpec) -> None:
    """See that a module is what the contract needs: let it answer two black pictures."""
    if not isinstance(module, nn.Module):
        raise ExportError(f"{type(module).__name__} is no torch.nn.Module. Give an instance of one")
    tensors = [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
    if strange := [t for t in tensors if (t.device.type, t.dtype) != ("cpu", torch.float32)]:
        raise ExportError(
            f"the module has weights on {strange[0].device} in {strange[0].dtype}, not on the CPU "
            "in float32. Call module.cpu().float(), after its weights were loaded"
        )
    height, width, classes = spec.input.height, spec.input.width, len(spec.label_names)
    try:
        with torch.inference_mode():
            answer: object = module.eval()(torch.zeros(2, 3, height, width))
    except Exception as error:  # whatever its forward raises
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ExportError(
            f"the module cannot take pixels (2, 3, {height}, {width}) ({reason}). Give a spec of "
            "its own input, or mend its forward"
        ) from error
    is_tensor = isinstance(answer, Tensor)
    if not is_tensor or answer.shape != (2, classes) or not answer.is_floating_point():
        got = f"{answer.dtype} {tuple(answer.shape)}" if is_tensor else type(answer).__name__
        raise ExportError(
            f"the module answers two pictures by {got}, not by float logits (2, {classes}), one "
            "for each name of the spec. Give as many label_names as it has outputs, and wrap "
            "what returns anything else in a module that returns the logits alone"
        )


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
    try:
        spec, size_hw = _stated(config, label_names)
    except KeyError as error:
        raise _not_stated(f"{error.args[0]} is missing") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise _not_stated(str(error)) from error
    larger = (spec.input.height, spec.input.width)
    return spec, module if larger == size_hw else Cropped(module, size_hw)


def _stated(
    config: Mapping[str, Any], label_names: Sequence[str]
) -> tuple[ModelSpec, tuple[int, int]]:
    """Return the spec, and the height and width that the module takes."""
    size, crop_pct = config["input_size"], config.get("crop_pct", 1)
    if not isinstance(size, Sequence) or len(cast(Sequence[int], size)) != 3 or size[0] != 3:
        raise ValueError(f"input_size must be (3, height, width), got {size!r}")
    if not isinstance(crop_pct, int | float) or not 0 < crop_pct <= 1:  # NaN fails too
        raise ValueError(f"crop_pct must be a number above 0, at most 1, got {crop_pct!r}")
    if (mode := config.get("crop_mode", "center")) != "center":
        raise ValueError(f"crop_mode must be center, got {mode!r}")
    height, width = cast(Sequence[int], size)[1:]
    fit = InputSpec(
        height=_whole(height / crop_pct),
        width=_whole(width / crop_pct),
        fit="crop",
        interpolation=config["interpolation"],
    )
    spec = ModelSpec(
        label_names=tuple(label_names),
        input=fit,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
    return spec, (height, width)


def _not_stated(reason: str) -> ExportError:
    return ExportError(
        f"this preprocessing cannot be stated: {reason}. Give mean, std, input_size, "
        "interpolation and crop_pct in timm's words, or export_module a ModelSpec of your own"
    )


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
