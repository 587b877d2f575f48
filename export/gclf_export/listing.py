"""The pictures of an export: what a RUN folder lists, and their pixels.

Axes: n pictures, h height, w width, c channels (RGB).
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gclf_export.errors import ExportError
from gclf_runtime import ImageError, images
from gclf_runtime.spec import InputSpec
from gclf_trainer.folders import LabelledFiles, read_labelled

VALIDATION_REMEDY = (
    "Name a folder of validation pictures, one subfolder per class: --validation DIR"
)
CALIBRATION_REMEDY = "int8 is calibrated on training pictures: train again, or export fp32"


def read_validation(
    folder: Path | None, listing: Path, label_names: tuple[str, ...]
) -> LabelledFiles:
    """Read the pictures to verify on: a folder's, or those of the listing where there is none.

    Raises:
        ExportError: There is none, or the listing is not as gclf-train wrote it.
    """
    if folder is None:
        return read_listing(listing, label_names, remedy=VALIDATION_REMEDY)
    files = read_labelled(folder, label_names)
    if not files.paths:
        raise ExportError(f"{folder} holds no picture. {VALIDATION_REMEDY}")
    return files


def read_listing(listing: Path, label_names: tuple[str, ...], *, remedy: str) -> LabelledFiles:
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


def load_all(paths: Sequence[Path], spec: InputSpec) -> NDArray[np.uint8]:
    """Decode files, uint8 0-255 (N, H, W, 3); N at least 1.

    Raises:
        ExportError: A file cannot be read.
    """
    try:
        return np.stack([images.load(path, spec) for path in paths])
    except ImageError as error:
        raise ExportError(f"{error}. Remove it from the pictures of the export") from error
