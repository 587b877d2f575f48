"""What the command shows: a line per epoch, a bar, a summary."""

import shlex
import time
from pathlib import Path

from rich import progress as bars
from rich.console import Console

from gclf_trainer.audit import Audit
from gclf_trainer.evaluation import Evaluation
from gclf_trainer.loop import Training
from gclf_trainer.pixels import Dataset
from gclf_trainer.recipe import Epoch, Recipe
from gclf_trainer.trained import Trained
from gclf_trainer.view import View

_NAMED = 5  # how many unreadable files are named; config.json lists all


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
        """The next epoch is about to begin."""
        self._batch = min(self._recipe.batch_size, len(dataset.train.paths))
        counts = f"{len(dataset.train.paths)} to train, {len(dataset.val.paths)} to validate"
        tested = f", {len(dataset.test.paths)} to test" if dataset.test.paths else ""
        self._console.print(f"{len(dataset.label_names)} classes; pictures: {counts}{tested}")
        for path, reason in dataset.unreadable[:_NAMED]:
            self._console.print(f"left out: {path}: {reason}")
        if len(dataset.unreadable) > _NAMED:
            rest = len(dataset.unreadable) - _NAMED
            self._console.print(f"left out: {rest} more, listed in config.json")
        if dataset.uncached:
            self._console.print(
                f"decoded pixels are not kept: {dataset.uncached}. Name another --cache"
            )
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


def summary(trained: Trained) -> str:
    """Say what came of a training and what to do next, a line each."""
    lines = [f"validation accuracy {_accuracy(trained.val)}"]
    if trained.test:
        lines.append(f"test accuracy       {_accuracy(trained.test)}")
    report = trained.checkpoint.parent / "report.html"
    lines.append(f"best epoch: {trained.checkpoint}; report: {report}")
    lines.append(f"next: gclf-export {shlex.quote(str(trained.checkpoint))}")
    return "\n".join(lines)


def _accuracy(evaluation: Evaluation) -> str:
    return f"{evaluation.accuracy:.4f} of {len(evaluation.predicted_n)}"
