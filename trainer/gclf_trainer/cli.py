"""gclf-train: a folder of labelled pictures to a RUN folder with a checkpoint in it.

torch takes seconds to import, so it is imported once the arguments are known to be right.
"""

import os
import sys
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gclf_runtime import GclfError, InputSpec
from gclf_trainer import options
from gclf_trainer.allocator import keep_freed_memory
from gclf_trainer.interrupts import end_on_signals
from gclf_trainer.recipe import Augmentation, Recipe
from gclf_trainer.torchrun import is_quiet, processes

if TYPE_CHECKING:
    from gclf_trainer.datasets import Source

_DEFAULT = Recipe()

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """Run the command; a GclfError is one line on stderr and exit code 1."""
    end_on_signals(_last_line)
    keep_freed_memory()
    # Pillow warns of odd files on stderr; those that cannot be read are named by us.
    warnings.filterwarnings("ignore", module="PIL")
    for stream in (sys.stdout, sys.stderr):  # a name that this terminal cannot show
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    if is_quiet():  # another process of this training speaks, also of wrong arguments
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for good
    try:
        app()
    except (GclfError, ValueError) as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {_told(error)}")


def _told(error: OSError) -> str:
    """Say which file it was; every file of the run names itself."""
    output, name = _last_line.output, str(error.filename or "")
    if output and name and Path(name).is_relative_to(output):
        return (
            f"the run cannot be written ({error.strerror}). Free space and go on with --resume, "
            "or name another --output"
        )
    of = f"{name} cannot be read or written" if name else "a file cannot be read or written"
    return f"{of} ({error.strerror}). Mend that, and go on with --resume"


class _LastLine:
    """What is said when a signal ends the command."""

    def __init__(self) -> None:
        self.output: Path | None = None

    def __call__(self) -> str:
        if is_quiet():
            return ""
        if self.output and (self.output / "last.pt").exists():
            return f"stopped; {self.output} holds every whole epoch. Go on with --resume"
        return "stopped before the end of the first epoch"


_last_line = _LastLine()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gclf-train {version('gclf-trainer')}")
        raise typer.Exit


@app.command()
def command(
    data: options.Data = None,
    *,
    output: options.Output = None,
    resume: options.Resume = False,
    device: options.Device = "auto",
    license: options.License = "",
    tensorboard: options.Tensorboard = False,
    dataset: options.DatasetName = "",
    data_dir: options.DataDir = None,
    download: options.Download = False,
    class_names: options.ClassNames = None,
    val_split: options.ValSplit = 0.05,
    attributes: options.Attributes = None,
    cross: options.Cross = None,
    audit_only: options.AuditOnly = False,
    ignore_audit: options.IgnoreAudit = False,
    cache: options.Cache = None,
    network: options.Network = "resnet10",
    size: options.Size = 64,
    fit: options.Fit = "stretch",
    weights: options.Weights = "",
    teacher: options.Teacher = None,
    teacher_network: options.TeacherNetwork = "",
    distill: options.Distill = None,
    temperature: options.Temperature = None,
    freeze: options.Freeze = False,
    unfreeze_at: options.UnfreezeAt = None,
    epochs: options.Epochs = _DEFAULT.epochs,
    batch_size: options.BatchSize = _DEFAULT.batch_size,
    optimizer: options.Optimizer = _DEFAULT.optimizer,
    schedule: options.Schedule = _DEFAULT.schedule,
    learning_rate: options.LearningRate = None,
    weight_decay: options.WeightDecay = None,
    clip_norm: options.ClipNorm = _DEFAULT.clip_norm,
    label_smoothing: options.LabelSmoothing = _DEFAULT.label_smoothing,
    balance: options.Balance = _DEFAULT.balance,
    ema: options.Ema = _DEFAULT.ema,
    patience: options.Patience = _DEFAULT.patience,
    seed: options.Seed = _DEFAULT.seed,
    precision: options.Precision = _DEFAULT.precision,
    compile: options.Compile = False,
    pad: options.Pad = _DEFAULT.augmentation.pad,
    flip: options.Flip = True,
    rotate: options.Rotate = 0,
    zoom: options.Zoom = 0,
    brightness: options.Brightness = 0,
    contrast: options.Contrast = 0,
    erase: options.Erase = 0,
    mixup: options.Mixup = 0,
    cutmix: options.Cutmix = 0,
    crop_scale: options.CropScale = 1,
    saturation: options.Saturation = 0,
    hue: options.Hue = 0,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
) -> None:
    """Train a small image classifier on a folder of labelled pictures."""
    if bool(data) == bool(dataset):
        raise typer.BadParameter("name DATA or --dataset torchvision:NAME, one of the two")
    if dataset and not data_dir:
        raise typer.BadParameter("goes with --data-dir DIR", param_hint="--dataset")
    _goes_with("--dataset torchvision:NAME", dataset, {"--data-dir": data_dir})
    _goes_with("--attributes FILE", attributes, {"--cross": cross or None})
    taught = {"--teacher-network": teacher_network or None, "--distill": distill}
    _goes_with("--teacher FILE", teacher, taught | {"--temperature": temperature})
    pairs = [_pair(text) for text in cross or ()]
    place = data or data_dir or Path()
    spec = InputSpec(height=size, width=size, fit=fit)
    if audit_only:
        from gclf_trainer.datasets import Source

        source = Source(path=place, dataset=dataset, download=download, class_names=class_names)
        _audit(source, spec, val_split=val_split, seed=seed, cache=cache)
        return
    if output is None:
        raise typer.BadParameter("is needed: the folder to write", param_hint="--output")
    augmentation = Augmentation(
        pad=pad,
        flip=flip,
        rotate=rotate,
        zoom=zoom,
        brightness=brightness,
        contrast=contrast,
        erase=erase,
        mixup=mixup,
        cutmix=cutmix,
        crop_scale=crop_scale,
        saturation=saturation,
        hue=hue,
    )
    recipe = Recipe(
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        schedule=schedule,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        clip_norm=clip_norm,
        label_smoothing=label_smoothing,
        distill=_DEFAULT.distill if distill is None else distill,
        temperature=_DEFAULT.temperature if temperature is None else temperature,
        balance=balance,
        ema=ema,
        patience=patience,
        freeze=freeze or bool(unfreeze_at),
        unfreeze_at=tuple(unfreeze_at or ()),
        precision=precision,
        compile=compile,
        seed=seed,
        augmentation=augmentation,
    )
    _last_line.output = output
    from gclf_trainer.pixels import default_cache
    from gclf_trainer.report import repeat_command
    from gclf_trainer.screen import LiveView, summary
    from gclf_trainer.training import train

    if sys.__stderr__:  # what fails from here on may fail in this process alone
        sys.stderr = sys.__stderr__
    local, nodes = processes()
    with LiveView(network, recipe) as view:
        trained = train(
            place,
            output,
            network=network,
            spec=spec,
            recipe=recipe,
            weights=weights,
            teacher=teacher,
            dataset_name=dataset,
            download=download,
            class_names=class_names,
            val_split=val_split,
            attributes=attributes,
            cross=pairs,
            ignore_audit=ignore_audit,
            device=device,
            license=license,
            cache=cache or default_cache(),
            command=repeat_command(sys.argv[1:], processes=local, nodes=nodes),
            tensorboard=tensorboard,
            resume=resume,
            view=view,
        )
    typer.echo(summary(trained))


def _goes_with(other: str, is_there: object, options: Mapping[str, object]) -> None:
    """Refuse options that would mean nothing without another one."""
    for name, value in options.items():
        if value is not None and not is_there:
            raise typer.BadParameter(f"goes with {other}", param_hint=name)


def _pair(text: str) -> tuple[str, str]:
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise typer.BadParameter(
            f"{text} does not name two columns, as in gender,race", param_hint="--cross"
        )
    return names[0], names[1]


def _audit(
    source: "Source", spec: InputSpec, *, val_split: float, seed: int, cache: Path | None
) -> None:
    """Print what the audit finds; exit 1 when it refuses the data."""
    from gclf_trainer.audit import audit
    from gclf_trainer.datasets import read_source
    from gclf_trainer.pixels import default_cache, load_dataset

    keep = cache or default_cache()
    folders = read_source(source, val_split=val_split, seed=seed, keep=keep)
    found = audit(load_dataset(folders, spec, cache=keep))
    typer.echo(found.to_text())
    if found.is_refused:
        raise typer.Exit(1)
