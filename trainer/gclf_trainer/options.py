"""The options of gclf-train: their types, names and help. It imports no torch."""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from gclf_runtime.spec import Fit as FitName
from gclf_trainer import recipe
from gclf_trainer.networks import NETWORKS, admit


def _finite(value: float | None) -> float | None:
    """Refuse what no range does: nan is not below its least, inf not above a most it lacks."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


_data = partial(typer.Option, rich_help_panel="Data")
_network = partial(typer.Option, rich_help_panel="Network")
_training = partial(typer.Option, rich_help_panel="Training")
_rate = partial(_training, callback=_finite)
_augmentation = partial(typer.Option, rich_help_panel="Augmentation")
_reach = partial(_augmentation, callback=_finite)


def known_network(name: str) -> str:
    """Return the name of a network that there is; a user's own is imported."""
    try:
        admit(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return name


def _own_network(name: str) -> str:
    return known_network(name) if name else name


def _known_dataset(name: str) -> str:
    if name:
        from gclf_trainer.datasets import check_dataset

        try:
            check_dataset(name)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    return name


def _by_optimizer(values: Mapping[recipe.Optimizer, float]) -> str:
    return ", ".join(f"{value:g} for {name}" for name, value in values.items())


Data: TypeAlias = Annotated[
    Path | None,
    typer.Argument(
        metavar="DATA",
        help="One folder per class, or train/ with val/ and test/ beside it, or a .csv of "
        "path, label and split, or a folder of IDX files.",
    ),
]
Output: TypeAlias = Annotated[Path | None, typer.Option(metavar="RUN", help="Folder to write.")]
Resume: TypeAlias = Annotated[
    bool, typer.Option("--resume", help="Go on with RUN after its last whole epoch.")
]
Device: TypeAlias = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
License: TypeAlias = Annotated[str, typer.Option(help="Licence of the weights, kept in the model.")]
Tensorboard: TypeAlias = Annotated[
    bool, typer.Option("--tensorboard", help="Write event files to RUN/events.")
]

DatasetName: TypeAlias = Annotated[
    str, _data(metavar="torchvision:NAME", callback=_known_dataset, help="In place of DATA.")
]
DataDir: TypeAlias = Annotated[
    Path | None, _data(metavar="DIR", help="Where torchvision keeps it.")
]
Download: TypeAlias = Annotated[bool, _data("--download", help="Let torchvision download it.")]
ClassNames: TypeAlias = Annotated[
    Path | None,
    _data(metavar="FILE", exists=True, dir_okay=False, help="JSON: class as found to its name."),
]
ValSplit: TypeAlias = Annotated[
    float,
    _data(
        callback=_finite,
        min=0.001,
        max=0.9,
        help="Held out of each class when DATA has no val/.",
    ),
]
Attributes: TypeAlias = Annotated[
    Path | None,
    _data(metavar="FILE", exists=True, dir_okay=False, help="CSV: figures by group in the report."),
]
Cross: TypeAlias = Annotated[
    list[str] | None,
    _data(
        metavar="COLUMN,COLUMN",
        help="With --attributes: figures by both columns at once; may be repeated.",
    ),
]
AuditOnly: TypeAlias = Annotated[
    bool, _data("--audit", help="Look the data over, say what was found, and stop.")
]
IgnoreAudit: TypeAlias = Annotated[
    bool, _data("--ignore-audit", help="Train although the audit refuses the data.")
]
Cache: TypeAlias = Annotated[
    Path | None,
    _data(metavar="DIR", help="Decoded pixels are kept here.", show_default="~/.cache/gclf"),
]

Network: TypeAlias = Annotated[
    str,
    _network(
        callback=known_network,
        help=f"One of {', '.join(NETWORKS)}, torchvision:NAME, or package.module:function.",
    ),
]
Size: TypeAlias = Annotated[
    int, _network(min=8, max=4096, help="Side of the model's input, pixels.")
]
Fit: TypeAlias = Annotated[FitName, _network(help="How a picture of another shape fits in.")]
Weights: TypeAlias = Annotated[
    str, _network(metavar="DEFAULT|FILE", help="Start from these, not from chance.")
]
Teacher: TypeAlias = Annotated[
    Path | None,
    _network(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="A model.pt of the same classes and size, whose answers are learnt from too.",
    ),
]
TeacherNetwork: TypeAlias = Annotated[
    str,
    _network(
        metavar="package.module:function",
        callback=_own_network,
        help="Let in the teacher's network, where it is your own code and not the one to train.",
    ),
]
Distill: TypeAlias = Annotated[
    float | None,
    _network(
        callback=_finite,
        min=0,
        max=1,
        show_default=f"{recipe.Recipe.distill:g}",
        help="The teacher's share of the loss.",
    ),
]
Temperature: TypeAlias = Annotated[
    float | None,
    _network(
        callback=_finite,
        min=0.1,
        show_default=f"{recipe.Recipe.temperature:g}",
        help="Softens the answers that are compared with its.",
    ),
]
Freeze: TypeAlias = Annotated[bool, _network("--freeze", help="Train the head alone.")]
UnfreezeAt: TypeAlias = Annotated[
    list[int] | None, _network(min=1, help="Epoch to open more layers at; may be repeated.")
]

Epochs: TypeAlias = Annotated[int, _training(min=1)]
BatchSize: TypeAlias = Annotated[int, _training(min=1)]
Optimizer: TypeAlias = Annotated[recipe.Optimizer, _training()]
Schedule: TypeAlias = Annotated[recipe.Schedule, _training()]
LearningRate: TypeAlias = Annotated[
    float | None,
    _rate(min=1e-9, help="Its peak.", show_default=_by_optimizer(recipe.DEFAULT_RATE)),
]
WeightDecay: TypeAlias = Annotated[
    float | None, _rate(min=0, show_default=_by_optimizer(recipe.DEFAULT_DECAY))
]
ClipNorm: TypeAlias = Annotated[float, _rate(min=0, help="Longest gradient; 0 is off.")]
LabelSmoothing: TypeAlias = Annotated[float, _rate(min=0, max=1)]
Balance: TypeAlias = Annotated[
    recipe.Balance, _training(help="Draw or weigh pictures so that classes count alike.")
]
Ema: TypeAlias = Annotated[
    float, _rate(min=0, max=0.999999, help="Decay of averaged weights; 0 is off.")
]
Patience: TypeAlias = Annotated[
    int, _training(min=0, help="Stop after so many epochs without a better one; 0 is off.")
]
Seed: TypeAlias = Annotated[int, _training(min=0, max=recipe.MOST_SEED)]
Precision: TypeAlias = Annotated[
    recipe.Precision, _training(help="Of training; auto times both. Evaluation is in fp32.")
]
Compile: TypeAlias = Annotated[bool, _training("--compile", help="Use torch.compile.")]

Pad: TypeAlias = Annotated[
    int, _augmentation(min=0, help="Shift by up to so many pixels; with --crop-scale, none.")
]
Flip: TypeAlias = Annotated[bool, _augmentation(help="Mirror half of the pictures.")]
Rotate: TypeAlias = Annotated[float, _reach(min=0, help="Turn by up to so many degrees.")]
Zoom: TypeAlias = Annotated[float, _reach(min=0, max=1, help="Scale by up to e**±zoom.")]
Brightness: TypeAlias = Annotated[float, _reach(min=0, max=1, help="Lighten or darken by ± this.")]
Contrast: TypeAlias = Annotated[
    float, _reach(min=0, max=1, help="Multiply distances to the mean by 1 ± this.")
]
Erase: TypeAlias = Annotated[float, _reach(min=0, max=1, help="Fraction that loses a rectangle.")]
Mixup: TypeAlias = Annotated[float, _reach(min=0, help="Beta parameter; 0 is off.")]
Cutmix: TypeAlias = Annotated[float, _reach(min=0, help="Beta parameter; 0 is off.")]
CropScale: TypeAlias = Annotated[
    float, _reach(min=0.01, max=1, help="Least share of the area kept; 1 is off.")
]
Saturation: TypeAlias = Annotated[float, _reach(min=0, max=1, help="Multiply by 1 ± this.")]
Hue: TypeAlias = Annotated[float, _reach(min=0, max=0.5, help="Turn by ± this of a circle.")]
