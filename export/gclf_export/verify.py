"""The proof that nothing changed: checkpoint and exported file, from the same files to answers.

Axes: n pictures, h height, w width, c channels (RGB), k classes.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gclf_export.errors import ExportError
from gclf_export.graph import Deployable
from gclf_export.precision import Precision
from gclf_runtime import Classifier, ImageError, images
from gclf_runtime.spec import InputSpec
from gclf_trainer.folders import LabelledFiles

MAX_DIFFERENCE = 1e-4
_BATCH = 64


@dataclass(frozen=True)
class Verdict:
    """How the exported file compares with its checkpoint.

    Attributes:
        count: Pictures compared.
        accuracy: Of the exported file, 0-1.
        checkpoint_accuracy: Of the checkpoint, 0-1.
        agreement: Fraction of pictures with the same top-1 answer, 0-1.
        max_difference: Largest difference between two probabilities of the same class, 0-1.
        mean_difference: Mean of those differences.
    """

    count: int
    accuracy: float
    checkpoint_accuracy: float
    agreement: float
    max_difference: float
    mean_difference: float

    def require(self, precision: Precision, *, max_drop: float) -> None:
        """Raise an ExportError unless the file may be used in the checkpoint's place.

        In fp32 every answer must agree and no probability may differ by 1e-4. In int8 the
        accuracy may not fall by more than `max_drop` (0-1).
        """
        drop = self.checkpoint_accuracy - self.accuracy
        # Both are written so that a figure that is not a number fails too.
        if precision == "fp32" and not (
            self.agreement == 1 and self.max_difference < MAX_DIFFERENCE
        ):
            raise ExportError(
                f"the exported file is not the checkpoint: {self.agreement:.2%} of {self.count} "
                f"answers agree, probabilities differ by up to {self.max_difference:.1e} (limit "
                f"{MAX_DIFFERENCE:.0e}). Nothing was written; report it with the checkpoint"
            )
        if precision == "int8" and not (drop <= max_drop and self.max_difference <= 1):
            raise ExportError(
                f"int8 costs {drop:.2%} accuracy on {self.count} pictures, the limit is "
                f"{max_drop:.2%}. Nothing was written; export fp32, or allow it with --max-drop"
            )


def read_listing(listing: Path, label_names: Sequence[str], *, remedy: str) -> LabelledFiles:
    """Read the validation.csv or calibration.csv of a RUN folder.

    Raises:
        ExportError: It is missing, foreign, or its pictures are gone; it ends with the remedy.
    """
    if not listing.is_file():
        raise ExportError(f"no {listing.name} beside the checkpoint. {remedy}")
    try:
        with listing.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = list(csv.DictReader(file))
        paths = tuple(Path(row["path"]) for row in rows)
        labels = tuple(label_names.index(row["label"]) for row in rows)
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise ExportError(f"{listing} is not one of gclf-train ({error}). {remedy}") from error
    gone = [path for path in paths if not path.is_file()]
    if gone or not paths:
        first = f", the first is {gone[0]}" if gone else ""
        raise ExportError(
            f"{len(gone)} of the {len(paths)} pictures of {listing} are gone{first}. {remedy}"
        )
    return LabelledFiles(paths, labels)


def compare(deployable: Deployable, exported: Classifier, files: LabelledFiles) -> Verdict:
    """Answer the same files twice, each by its whole path, and compare.

    Args:
        deployable: file -> pixels -> torch.
        exported: file -> pixels -> onnxruntime, through its own pipeline.
        files: Pictures with their true classes, at least one; one that cannot be read is an
            ExportError.
    """
    spec = exported.spec.input
    ours_nk = torch_probabilities(deployable, files.paths, spec)
    theirs: list[NDArray[np.float32]] = []
    for result in exported.predict_files(files.paths):
        if result.prediction is None:
            raise ExportError(f"{result.error}. Remove it from the pictures to verify on")
        theirs.append(result.prediction.probabilities_k)
    theirs_nk = np.stack(theirs)
    labels_n = np.asarray(files.labels)
    difference_nk = np.abs(ours_nk - theirs_nk)
    return Verdict(
        count=len(labels_n),
        accuracy=float((theirs_nk.argmax(1) == labels_n).mean()),
        checkpoint_accuracy=float((ours_nk.argmax(1) == labels_n).mean()),
        agreement=float((ours_nk.argmax(1) == theirs_nk.argmax(1)).mean()),
        max_difference=float(difference_nk.max()),
        mean_difference=float(difference_nk.mean()),
    )


@torch.inference_mode()
def torch_probabilities(
    deployable: Deployable, paths: Sequence[Path], spec: InputSpec
) -> NDArray[np.float32]:
    """Answer files with torch, float32 (N, K).

    Raises:
        ExportError: A file cannot be read.
    """
    parts: list[NDArray[np.float32]] = []
    for start in range(0, len(paths), _BATCH):
        pixels_nhwc = load_all(paths[start : start + _BATCH], spec)
        parts.append(deployable(torch.from_numpy(pixels_nhwc))[0].numpy())
    return np.concatenate(parts)


def load_all(paths: Sequence[Path], spec: InputSpec) -> NDArray[np.uint8]:
    """Decode files, uint8 0-255 (N, H, W, 3); N at least 1.

    Raises:
        ExportError: A file cannot be read.
    """
    try:
        return np.stack([images.load(path, spec) for path in paths])
    except ImageError as error:
        raise ExportError(f"{error}. Remove it from the pictures to verify on") from error
