"""The RUN folder: what a training leaves behind.

model.pt               the best epoch by validation so far, with its ModelSpec
last.pt                the whole state after the last epoch, to resume from
metrics.csv            one row per epoch
config.json            everything that was asked for, and the versions that did it
validation.csv         path, label and answer of every validation picture, of the best epoch
calibration.csv        path and label of some training pictures, to quantise with
test.csv               the same as validation.csv for the test split, if there is one
history.png            loss and accuracy by epoch
confusion_matrix.png   of the best epoch
report.html            a page of all that, to look at
audit.json             what was found in the data before training
events/                for TensorBoard, when asked for
result.json            what came of it; written last, so that it says that the training is over
.lock                  there while a training writes here, or after one was killed

Each file is written whole or not at all. After an epoch last.pt comes first and
model.pt, if it is the best, last: a run that ends in between is put right from last.pt.
"""

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from gclf_trainer.atomic_file import write_whole
from gclf_trainer.charts import draw_confusion, draw_history
from gclf_trainer.errors import RunError
from gclf_trainer.evaluation import Evaluation
from gclf_trainer.groups import Groups
from gclf_trainer.pixels import Dataset, Split
from gclf_trainer.recipe import Epoch, Recipe
from gclf_trainer.state import State, read_state, write_state

_CALIBRATION = 512
# What says that a run is over, first, and what only some runs write anew.
_LEFTOVERS = (
    "result.json",
    "report.html",
    "audit.json",
    "metrics.csv",
    "validation.csv",
    "test.csv",
    "history.png",
    "confusion_matrix.png",
)


class Run:
    """A RUN folder being written; one that holds a run already is refused, or resumed.

    Args:
        folder: There already, and claimed; see `gclf_trainer.claim`.
        resume: Go on with what the folder holds; where that is nothing, begin.

    Attributes:
        state: What to go on from; None where nothing was kept.
        config: The config.json of the run to go on with.
        is_finished: Whether that run is over.
        epochs: Every epoch so far.

    Raises:
        RunError: The folder holds a run already, or one that cannot be resumed.
    """

    def __init__(self, folder: Path, *, resume: bool = False) -> None:
        self.folder = folder
        self.checkpoint: Path = folder / "model.pt"
        self._last = folder / "last.pt"
        self.state: State | None = None
        self.config: dict[str, Any] = {}
        self.is_finished = False
        if resume:
            self._look()
        elif self.checkpoint.exists() or self._last.exists():
            raise RunError(
                f"{folder} holds a run already. Go on with it: --resume; or name another --output"
            )
        self.epochs: list[Epoch] = list(self.state.epochs) if self.state else []
        self._check_best()

    @property
    def best(self) -> Epoch | None:
        """The best epoch so far: the first of the highest validation accuracy, then lowest loss."""
        return min(self.epochs, key=lambda epoch: epoch.rank, default=None)

    def is_over(self, recipe: Recipe) -> bool:
        """Say whether every epoch was done, or none of the last `patience` was better."""
        if len(self.epochs) >= recipe.epochs:
            return True
        best = self.best
        waited = len(self.epochs) - best.number if best else 0
        return 0 < recipe.patience <= waited

    def begin(self, config: Mapping[str, Any], dataset: Dataset) -> None:
        """Keep what was asked for, and what does not depend on the training.

        What an earlier run has left here, whose model and state were removed, goes first.
        """
        for name in _LEFTOVERS:
            (self.folder / name).unlink(missing_ok=True)
        self._write_json("config.json", config)
        self._write_calibration(dataset)

    def keep(self, training: Mapping[str, Any]) -> None:
        """Keep the state after an epoch, and the metrics."""
        write_state(self._last, training, self.epochs)
        self.write_metrics()

    def write_metrics(self) -> None:
        """List the epochs so far."""
        header = (field.name for field in fields(Epoch))
        rows = (asdict(each).values() for each in self.epochs)
        self._write_rows("metrics.csv", header, rows)

    def finish(
        self, dataset: Dataset, val: Evaluation, test: Evaluation | None, groups: Groups | None
    ) -> None:
        """List the answers of the best epoch, draw the charts, and say that the run is over."""
        self.write_answers("validation.csv", dataset.label_names, dataset.val, val)
        if test:
            self.write_answers("test.csv", dataset.label_names, dataset.test, test)
        losses = {
            "validation": [epoch.val_loss for epoch in self.epochs],
            "training": [epoch.train_loss for epoch in self.epochs],
        }
        accuracy = {"validation": [epoch.val_accuracy for epoch in self.epochs]}
        draw_history(self.folder / "history.png", losses, accuracy)
        chart = self.folder / "confusion_matrix.png"
        draw_confusion(chart, val.confusion_kk, dataset.label_names)
        by_group = {"groups": groups.to_record()} if groups else {}
        self._write_json("result.json", self._result(val, test) | by_group)

    def write_report(self, html: str, audit: Mapping[str, Any]) -> None:
        """Keep the page, and what the audit found."""
        write_whole(self.folder / "report.html", html.encode())
        self._write_json("audit.json", audit)

    def _look(self) -> None:
        """Find out what a run that is to go on has kept."""
        if self._last.exists():
            self.state = read_state(self._last)
        elif self.checkpoint.exists():
            raise RunError(
                f"{self.folder} cannot be resumed: it has a model.pt and no last.pt. "
                "Name another --output"
            )
        else:
            return  # it ended before its first epoch did
        self.config = _read_json(self.folder / "config.json")
        self.is_finished = (self.folder / "result.json").exists()

    def _check_best(self) -> None:
        """Refuse to go on without a model.pt that the last epoch does not give anew."""
        best = self.best
        if best is None or self.checkpoint.exists():
            return
        if self.is_finished or best is not self.epochs[-1]:
            raise RunError(
                f"{self.folder} has lost its model.pt, of epoch {best.number}, which last.pt does "
                "not hold. Put it back, or name another --output"
            )

    def _result(self, val: Evaluation, test: Evaluation | None) -> dict[str, Any]:
        measured = {"validation": val} | ({"test": test} if test else {})
        scores = {
            name: {"accuracy": each.accuracy, "loss": each.loss, "count": len(each.predicted_n)}
            for name, each in measured.items()
        }
        return {
            "epochs": len(self.epochs),
            "best_epoch": self.best.number if self.best else None,
            "seconds": sum(epoch.seconds for epoch in self.epochs),
            **scores,
        }

    def write_answers(
        self, name: str, label_names: Sequence[str], split: Split, evaluation: Evaluation
    ) -> None:
        """List path, label and answer of a split; the export verifies itself on these files."""
        rows = zip(split.paths, split.labels_n, evaluation.predicted_n, strict=True)
        self._write_rows(
            name,
            ("path", "label", "predicted"),
            (
                (os.path.abspath(path), label_names[label], label_names[predicted])
                for path, label, predicted in rows
            ),
        )

    def _write_calibration(self, dataset: Dataset) -> None:
        """List training pictures spread evenly over the classes, whose files are in order."""
        train = dataset.train
        count = min(_CALIBRATION, len(train.paths))
        chosen = [round(i * (len(train.paths) - 1) / max(1, count - 1)) for i in range(count)]
        rows = (
            (os.path.abspath(train.paths[i]), dataset.label_names[train.labels_n[i]])
            for i in chosen
        )
        self._write_rows("calibration.csv", ("path", "label"), rows)

    def _write_rows(
        self, name: str, header: Iterable[str], rows: Iterable[Iterable[object]]
    ) -> None:
        text = io.StringIO(newline="")
        writer = csv.writer(text)  # ends lines by CR LF, and so quotes both in names
        writer.writerow(header)
        writer.writerows(rows)
        # surrogateescape: a file name that is not UTF-8 goes through as it is.
        write_whole(self.folder / name, text.getvalue().encode("utf-8", "surrogateescape"))

    def _write_json(self, name: str, record: Mapping[str, Any]) -> None:
        text = json.dumps(record, indent=1, default=str) + "\n"
        write_whole(self.folder / name, text.encode("utf-8"))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise RunError(
            f"{path} cannot be read ({error}). Train anew: name another --output (a model.pt in "
            f"{path.parent} is still good)"
        ) from error
