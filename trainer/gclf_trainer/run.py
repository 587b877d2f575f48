"""The RUN folder: what a training leaves behind.

model.pt               the best epoch by validation, with its ModelSpec
metrics.csv            one row per epoch
config.json            everything that was asked for, and the versions that did it
validation.csv         path, label and answer of every validation picture
test.csv               the same for the test split, if there is one
calibration.csv        path and label of some training pictures, to quantise with
history.png            loss and accuracy by epoch
confusion_matrix.png   of the best epoch
"""

import contextlib
import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from gclf_trainer.charts import draw_confusion, draw_history
from gclf_trainer.errors import RunError
from gclf_trainer.evaluation import Evaluation
from gclf_trainer.loop import Epoch
from gclf_trainer.pixels import Dataset, Split

_CALIBRATION = 512


class Run:
    """A RUN folder being written; one that holds a model already is refused.

    Args:
        folder: Made when missing.

    Raises:
        RunError: The folder holds a run already, or cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        if (folder / "model.pt").exists():
            raise RunError(f"{folder} holds a run already. Name another --output, or remove it")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"{folder} cannot be made ({error.strerror}). Name another --output"
            ) from error
        self.folder = folder
        self.checkpoint: Path = folder / "model.pt"
        self._epochs: list[Epoch] = []

    def forget(self) -> None:
        """Remove the folder again if nothing is in it."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Keep what was asked for."""
        text = json.dumps(config, indent=1, default=str) + "\n"
        (self.folder / "config.json").write_text(text, encoding="utf-8")

    def add(self, epoch: Epoch) -> bool:
        """Keep an epoch's metrics; say whether it is the best so far.

        Higher validation accuracy is better, then lower validation loss.
        """
        best = min(self._epochs, key=_rank, default=None)
        self._epochs.append(epoch)
        header = (field.name for field in fields(Epoch))
        rows = (asdict(each).values() for each in self._epochs)
        self._write_rows("metrics.csv", header, rows)
        return best is None or _rank(epoch) < _rank(best)

    def finish(self, dataset: Dataset, evaluation: Evaluation) -> None:
        """List the validation answers of the best epoch, then draw the charts."""
        self.write_answers("validation.csv", dataset.label_names, dataset.val, evaluation)
        self._write_calibration(dataset)
        losses = {
            "validation": [epoch.val_loss for epoch in self._epochs],
            "training": [epoch.train_loss for epoch in self._epochs],
        }
        accuracy = {"validation": [epoch.val_accuracy for epoch in self._epochs]}
        draw_history(self.folder / "history.png", losses, accuracy)
        chart = self.folder / "confusion_matrix.png"
        draw_confusion(chart, evaluation.confusion_kk, dataset.label_names)

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
        path = self.folder / name
        # surrogateescape: a file name that is not UTF-8 goes through as it is.
        with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file)  # ends lines by CR LF, and so quotes both in names
            writer.writerow(header)
            writer.writerows(rows)


def _rank(epoch: Epoch) -> tuple[float, float]:
    return -epoch.val_accuracy, epoch.val_loss
