"""gclf-train: a folder of labelled pictures to a RUN folder with a checkpoint in it."""

import os
import sys
import time
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer
from rich import progress as bars
from rich.console import Console

from gclf_runtime import GclfError, InputSpec
from gclf_runtime.spec import Fit
from gclf_trainer.audit import Audit, audit
from gclf_trainer.augment import Augmentation
from gclf_trainer.datasets import Source, check_dataset, read_source
from gclf_trainer.evaluation import Evaluation
from gclf_trainer.interrupts import end_on_signals
from gclf_trainer.loop import Training
from gclf_trainer.memory import keep_freed_memory
from gclf_trainer.networks import NETWORKS, admit
from gclf_trainer.parallel import is_quiet
from gclf_trainer.pixels import Dataset, default_cache, load_dataset
from gclf_trainer.recipe import (
    DEFAULT_DECAY,
    DEFAULT_RATE,
    Balance,
    Epoch,
    Optimizer,
    Precision,
    Recipe,
    Schedule,
)
from gclf_trainer.report import repeat_command
from gclf_trainer.training import Trained, View, train

_DEFAULT = Recipe()
_NAMED = 5  # how many unreadable files are named; config.json lists all

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """Run the command; a GclfError is one line on stderr and exit code 1."""
    end_on_signals(_last_line)
    keep_freed_memory()
    if is_quiet():  # another process of this training speaks
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for good
    # Pillow warns of odd files on stderr; those that cannot be read are named by us.
    warnings.filterwarnings("ignore", module="PIL")
    for stream in (sys.stdout, sys.stderr):  # a name that this terminal cannot show
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except (GclfError, ValueError) as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(
            f"error: the run cannot be written ({error.strerror}). Free space and go on with "
            "--resume, or name another --output"
        )


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


def _known_network(name: str) -> str:
    try:
        admit(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return name


def _known_dataset(name: str) -> str:
    if name:
        try:
            check_dataset(name)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    return name


def _by_optimizer(values: Mapping[Optimizer, float]) -> str:
    return ", ".join(f"{value:g} for {name}" for name, value in values.items())


@app.command()
def command(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="One folder per class, or train/ with val/ and test/ beside it, or a .csv of "
            "path, label and split, or a folder of IDX files.",
        ),
    ] = None,
    *,
    output: Annotated[Path | None, typer.Option(metavar="RUN", help="Folder to write.")] = None,
    dataset: Annotated[
        str,
        typer.Option(metavar="torchvision:NAME", callback=_known_dataset, help="In place of DATA."),
    ] = "",
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where torchvision keeps it.")
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Let torchvision download it.")
    ] = False,
    class_names: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help="JSON: class as found to its name."
        ),
    ] = None,
    attributes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help="CSV: figures by group in the report."
        ),
    ] = None,
    audit_only: Annotated[
        bool, typer.Option("--audit", help="Look the data over, say what was found, and stop.")
    ] = False,
    ignore_audit: Annotated[
        bool, typer.Option("--ignore-audit", help="Train although the audit refuses the data.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with RUN after its last whole epoch.")
    ] = False,
    network: Annotated[
        str,
        typer.Option(
            callback=_known_network,
            help=f"One of {', '.join(NETWORKS)}, torchvision:NAME, or package.module:function.",
        ),
    ] = "resnet10",
    weights: Annotated[
        str, typer.Option(metavar="DEFAULT|FILE", help="Start from these, not from chance.")
    ] = "",
    freeze: Annotated[bool, typer.Option("--freeze", help="Train the head alone.")] = False,
    unfreeze_at: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Epoch to open more layers at; may be repeated."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1)] = _DEFAULT.epochs,
    batch_size: Annotated[int, typer.Option(min=1)] = _DEFAULT.batch_size,
    optimizer: Annotated[Optimizer, typer.Option()] = _DEFAULT.optimizer,
    schedule: Annotated[Schedule, typer.Option()] = _DEFAULT.schedule,
    learning_rate: Annotated[
        float | None,
        typer.Option(min=1e-9, help="Its peak.", show_default=_by_optimizer(DEFAULT_RATE)),
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(min=0, show_default=_by_optimizer(DEFAULT_DECAY))
    ] = None,
    clip_norm: Annotated[
        float, typer.Option(min=0, help="Longest gradient; 0 is off.")
    ] = _DEFAULT.clip_norm,
    label_smoothing: Annotated[float, typer.Option(min=0, max=1)] = _DEFAULT.label_smoothing,
    balance: Annotated[
        Balance, typer.Option(help="Draw or weigh pictures so that classes count alike.")
    ] = _DEFAULT.balance,
    ema: Annotated[
        float, typer.Option(min=0, max=0.999999, help="Decay of averaged weights; 0 is off.")
    ] = _DEFAULT.ema,
    patience: Annotated[
        int, typer.Option(min=0, help="Stop after so many epochs without a better one; 0 is off.")
    ] = _DEFAULT.patience,
    pad: Annotated[
        int, typer.Option(min=0, help="Shift by up to so many pixels.")
    ] = _DEFAULT.augmentation.pad,
    flip: Annotated[bool, typer.Option(help="Mirror half of the pictures.")] = True,
    rotate: Annotated[float, typer.Option(min=0, help="Turn by up to so many degrees.")] = 0,
    zoom: Annotated[float, typer.Option(min=0, max=1, help="Scale by up to e**±zoom.")] = 0,
    brightness: Annotated[
        float, typer.Option(min=0, max=1, help="Lighten or darken by ± this.")
    ] = 0,
    contrast: Annotated[
        float, typer.Option(min=0, max=1, help="Multiply distances to the mean by 1 ± this.")
    ] = 0,
    erase: Annotated[
        float, typer.Option(min=0, max=1, help="Fraction that loses a rectangle.")
    ] = 0,
    mixup: Annotated[float, typer.Option(min=0, help="Beta parameter; 0 is off.")] = 0,
    cutmix: Annotated[float, typer.Option(min=0, help="Beta parameter; 0 is off.")] = 0,
    crop_scale: Annotated[
        float, typer.Option(min=0.01, max=1, help="Least share of the area kept; 1 is off.")
    ] = 1,
    saturation: Annotated[float, typer.Option(min=0, max=1, help="Multiply by 1 ± this.")] = 0,
    hue: Annotated[float, typer.Option(min=0, max=0.5, help="Turn by ± this of a circle.")] = 0,
    size: Annotated[int, typer.Option(min=8, help="Side of the model's input, pixels.")] = 64,
    fit: Annotated[Fit, typer.Option(help="How a picture of another shape fits in.")] = "stretch",
    val_split: Annotated[
        float,
        typer.Option(min=0.001, max=0.9, help="Held out of each class when DATA has no val/."),
    ] = 0.05,
    seed: Annotated[int, typer.Option(min=0)] = _DEFAULT.seed,
    precision: Annotated[
        Precision, typer.Option(help="Of training; auto times both. Evaluation is in fp32.")
    ] = _DEFAULT.precision,
    compile: Annotated[bool, typer.Option("--compile", help="Use torch.compile.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    license: Annotated[str, typer.Option(help="Licence of the weights, kept in the model.")] = "",
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write event files to RUN/events.")
    ] = False,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Decoded pixels are kept here.", show_default="~/.cache/gclf"
        ),
    ] = None,
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
    place = data or data_dir or Path()
    spec = InputSpec(height=size, width=size, fit=fit)
    keep = cache or default_cache()
    if audit_only:
        source = Source(path=place, dataset=dataset, download=download, class_names=class_names)
        _audit(source, spec, val_split=val_split, seed=seed, keep=keep)
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
    with LiveView(network, recipe) as view:
        trained = train(
            place,
            output,
            network=network,
            spec=spec,
            recipe=recipe,
            weights=weights,
            dataset_name=dataset,
            download=download,
            class_names=class_names,
            val_split=val_split,
            attributes=attributes,
            ignore_audit=ignore_audit,
            device=device,
            license=license,
            cache=keep,
            command=repeat_command(sys.argv[1:], processes=int(os.environ.get("WORLD_SIZE", "1"))),
            tensorboard=tensorboard,
            resume=resume,
            view=view,
        )
    _report(trained)


def _audit(source: Source, spec: InputSpec, *, val_split: float, seed: int, keep: Path) -> None:
    """Print what the audit finds; exit 1 when it refuses the data."""
    folders = read_source(source, val_split=val_split, seed=seed, keep=keep)
    found = audit(load_dataset(folders, spec, cache=keep))
    typer.echo(found.to_text())
    if found.is_refused:
        raise typer.Exit(1)


class LiveView(View):
    """A line per epoch and, on a terminal, a bar with the time left."""

    def __init__(self, network: str, recipe: Recipe) -> None:
        self._network, self._recipe = network, recipe
        self._console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
        self._progress = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.TaskProgressColumn(),
            bars.TextColumn("{task.fields[rate]}"),
            bars.TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("listing", total=None, rate="")
        self._batch, self._done = 1, 0
        self._start = time.perf_counter()

    def __enter__(self) -> "LiveView":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def decoding(self, done: int, total: int) -> None:
        """Pictures are being decoded."""
        if done % 64 == 0 or done == total:
            self._progress.update(self._task, description="decoding", completed=done, total=total)

    def started(self, dataset: Dataset, training: Training) -> None:
        """The first epoch is about to begin."""
        self._batch = min(self._recipe.batch_size, len(dataset.train.paths))
        counts = f"{len(dataset.train.paths)} to train, {len(dataset.val.paths)} to validate"
        tested = f", {len(dataset.test.paths)} to test" if dataset.test.paths else ""
        self._console.print(f"{len(dataset.label_names)} classes; pictures: {counts}{tested}")
        for path, reason in dataset.unreadable[:_NAMED]:
            self._console.print(f"left out: {path}: {reason}")
        if len(dataset.unreadable) > _NAMED:
            rest = len(dataset.unreadable) - _NAMED
            self._console.print(f"left out: {rest} more, listed in config.json")
        weights = sum(p.numel() for p in training.network.parameters())
        self._console.print(
            f"{self._network}, {weights:,} weights, on {training.device}, {training.precision}"
        )
        self._console.print("epoch   loss  val loss  val acc   img/s  elapsed")
        steps = training.steps_per_epoch * self._recipe.epochs
        self._start = time.perf_counter()
        if training.epoch:
            self._console.print(f"going on after epoch {training.epoch}")
        self._progress.reset(
            self._task,
            total=steps,
            completed=training.steps_per_epoch * training.epoch,
            description=f"epoch {training.epoch + 1}",
            rate="",
        )

    def audited(self, found: Audit) -> None:
        """The dataset was looked over: warnings are said, notes are in the report."""
        for finding in found.findings:
            if finding.severity != "note":
                self._console.print(f"{finding.severity}: {finding.line}. {finding.remedy}")

    def stepped(self, loss: float) -> None:
        """One batch was learnt from."""
        self._done += 1
        rate = self._done * self._batch / (time.perf_counter() - self._start)
        self._progress.update(self._task, advance=1, rate=f"loss {loss:.3f}  {rate:,.0f} img/s")

    def epoch_ended(self, epoch: Epoch, *, is_best: bool) -> None:
        """One epoch was trained and measured."""
        elapsed = time.perf_counter() - self._start
        self._console.print(
            f"{epoch.number:5}  {epoch.train_loss:.3f}     {epoch.val_loss:.3f}   "
            f"{epoch.val_accuracy:.2%}  {epoch.images_per_second:6,.0f}  {elapsed:5.0f} s"
            f"{'  best' if is_best else ''}"
        )
        self._progress.update(self._task, description=f"epoch {epoch.number + 1}")

    def was_finished(self, output: Path) -> None:
        """The run to resume is over; its files stay as they are."""
        self._console.print(f"{output} is finished: nothing to do")


def _report(trained: Trained) -> None:
    run = trained.checkpoint.parent
    typer.echo(f"validation accuracy {_accuracy(trained.val)}")
    if trained.test:
        typer.echo(f"test accuracy       {_accuracy(trained.test)}")
    typer.echo(f"best epoch: {trained.checkpoint}; report: {run / 'report.html'}")
    typer.echo(f"next: gclf-export {trained.checkpoint}")


def _accuracy(evaluation: Evaluation) -> str:
    return f"{evaluation.accuracy:.4f} of {len(evaluation.predicted_n)}"
