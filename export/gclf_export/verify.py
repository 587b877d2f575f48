"""The proof that nothing changed: checkpoint and exported file, from the same files to answers.

Axes: n pictures, h height, w width, c channels (RGB), k classes.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gclf_runtime import Classifier, ImageError, images
from gclf_runtime.spec import InputSpec
from gclf_trainer.folders import LabelledFiles
from numpy.typing import NDArray

from gclf_export.errors import ExportError
from gclf_export.graph import Deployable

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

    def require(self) -> None:
        """Raise an ExportError unless the two answer alike."""
        # Written so that a difference that is not a number fails too.
        if not (self.agreement == 1 and self.max_difference < MAX_DIFFERENCE):
            raise ExportError(
                f"the exported file is not the checkpoint: {self.agreement:.2%} of {self.count} "
                f"answers agree, probabilities differ by up to {self.max_difference:.1e} (limit "
                f"{MAX_DIFFERENCE:.0e}). Nothing was written; report it with the checkpoint"
            )


def read_validation(listing: Path, label_names: Sequence[str]) -> LabelledFiles:
    """Read the validation.csv of a RUN folder.

    Raises:
        ExportError: It is missing, foreign, or its pictures are gone.
    """
    remedy = "Name a folder of validation pictures, one subfolder per class: --validation DIR"
    if not listing.is_file():
        raise ExportError(f"no {listing.name} beside the checkpoint to verify on. {remedy}")
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
            raise ExportError(f"{result.error}. Remove it from the validation pictures")
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
    deployable: Deployable, sources: Sequence[images.ImageSource], spec: InputSpec
) -> NDArray[np.float32]:
    """Answer pictures with torch, float32 (N, K).

    Raises:
        ExportError: A picture cannot be read.
    """
    parts: list[NDArray[np.float32]] = []
    for start in range(0, len(sources), _BATCH):
        try:
            pixels = [images.load(source, spec) for source in sources[start : start + _BATCH]]
        except ImageError as error:
            raise ExportError(f"{error}. Remove it from the validation pictures") from error
        parts.append(deployable(torch.from_numpy(np.stack(pixels)))[0].numpy())
    return np.concatenate(parts)
