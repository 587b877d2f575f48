"""gclf-train: a folder of labelled pictures to a RUN folder with a checkpoint in it."""

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
from gclf_trainer.augment import Augmentation
from gclf_trainer.evaluation import Evaluation
from gclf_trainer.loop import (
    DEFAULT_DECAY,
    DEFAULT_RATE,
    Epoch,
    Optimizer,
    Precision,
    Recipe,
    Schedule,
    Training,
)
from gclf_trainer.networks import NETWORKS
from gclf_trainer.pixels import Dataset, default_cache
from gclf_trainer.training import Trained, View, train

_DEFAULT = Recipe()
_NAMED = 5  # how many unreadable files are named; config.json lists all

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """Run the command; a GclfError is one line on stderr and exit code 1."""
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
            f"error: the run cannot be written ({error.strerror}). Free space, or name "
            "another --output"
        )


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gclf-train {version('gclf-trainer')}")
        raise typer.Exit


def _known_network(name: str) -> str:
    if name not in NETWORKS:
        raise typer.BadParameter(f"{name} is not one of {', '.join(NETWORKS)}")
    return name


def _by_optimizer(values: Mapping[Optimizer, float]) -> str:
    return ", ".join(f"{value:g} for {name}" for name, value in values.items())


@app.command()
def command(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="One folder per class, or train/ with val/ and test/ beside it.",
        ),
    ],
    *,
    output: Annotated[Path, typer.Option(metavar="RUN", help="Folder to write.")],
    network: Annotated[
        str, typer.Option(callback=_known_network, help=f"One of {', '.join(NETWORKS)}.")
    ] = "resnet10",
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
    augmentation = Augmentation(
        pad=pad,
        flip=flip,
        rotate=rotate,
        zoom=zoom,
        brightness=brightness,
        contrast=contrast,
        erase=erase,
        mixup=mixup,
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
        precision=precision,
        compile=compile,
        seed=seed,
        augmentation=augmentation,
    )
    with LiveView(network, recipe) as view:
        trained = train(
            data,
            output,
            network=network,
            spec=InputSpec(height=size, width=size, fit=fit),
            recipe=recipe,
            val_split=val_split,
            device=device,
            license=license,
            cache=cache or default_cache(),
            view=view,
        )
    _report(trained)


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
        measured = {dataset.label_names[label] for label in dataset.val.labels_n}
        if unmeasured := [name for name in dataset.label_names if name not in measured]:
            self._console.print(f"warning: no validation picture of {', '.join(unmeasured)}")
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
        self._progress.reset(self._task, total=steps, description="epoch 1", rate="")

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


def _report(trained: Trained) -> None:
    run = trained.checkpoint.parent
    typer.echo(f"validation accuracy {_accuracy(trained.val)}")
    if trained.test:
        typer.echo(f"test accuracy       {_accuracy(trained.test)}")
    typer.echo(f"best epoch: {trained.checkpoint}; curves: {run / 'history.png'}")
    typer.echo(f"next: gclf-export {trained.checkpoint}")


def _accuracy(evaluation: Evaluation) -> str:
    return f"{evaluation.accuracy:.4f} of {len(evaluation.predicted_n)}"
