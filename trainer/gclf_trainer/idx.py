"""A folder of IDX files, the format of MNIST and Fashion-MNIST, gzipped or not."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gclf_trainer.errors import DatasetError
from gclf_trainer.folders import Folders, LabelledFiles
from gclf_trainer.picture_files import Progress, write_pictures

_PICTURES = "{}-images-idx3-ubyte"
_LABELS = "{}-labels-idx1-ubyte"


def is_idx_folder(folder: Path) -> bool:
    """Say whether a folder holds pictures to train or to test as an IDX file."""
    return any(_file(folder, _PICTURES.format(split)) for split in ("train", "t10k"))


def read_idx_folder(
    folder: Path, keep: Path, *, on_progress: Progress = lambda done, total: None
) -> Folders:
    """List its pictures; train-* are to train, t10k-*, if they are there, to test.

    Args:
        folder: The classes have numbers: "0", "1", ...
        keep: Pictures are written below it as PNG.
        on_progress: Called with (done, in all) while they are.

    Raises:
        DatasetError: A file is missing or damaged.
    """
    found = {split: _read(folder, split) for split in ("train", "t10k")}
    numbers = np.unique(found["train"][1])
    names = tuple(str(number) for number in numbers)
    splits: list[LabelledFiles] = []
    for split, (pictures_nhw, labels_n) in found.items():
        if not np.isin(labels_n, numbers).all():
            raise DatasetError(f"{folder} tests classes that it does not train. Remove {split}-*")

        def picture(index: int, pictures_nhw: NDArray[np.uint8] = pictures_nhw) -> Image.Image:
            return Image.fromarray(pictures_nhw[index])

        name = f"{folder.resolve().name}-{split}"
        paths = write_pictures(name, len(labels_n), picture, keep, on_progress=on_progress)
        splits.append(LabelledFiles(paths, tuple(np.searchsorted(numbers, labels_n).tolist())))
    return Folders(names, splits[0], LabelledFiles((), ()), splits[1])


def _read(folder: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    pictures, labels = (_file(folder, name.format(split)) for name in (_PICTURES, _LABELS))
    if pictures is None:
        if split == "train":
            raise DatasetError(f"no {_PICTURES.format(split)} in {folder}. Copy it there")
        return np.zeros((0, 1, 1), np.uint8), np.zeros(0, np.uint8)
    if labels is None:
        raise DatasetError(f"no {_LABELS.format(split)} in {folder}. Copy it there")
    pictures_nhw, labels_n = _array(pictures, 3), _array(labels, 1)
    if split == "train" and not len(pictures_nhw):
        raise DatasetError(f"{pictures} holds no pictures. Copy it again")
    if len(pictures_nhw) != len(labels_n):
        raise DatasetError(
            f"{pictures} holds {len(pictures_nhw)} pictures, {labels} {len(labels_n)} labels. "
            "Copy both again"
        )
    if 0 in pictures_nhw.shape[1:]:
        size = "×".join(map(str, pictures_nhw.shape[1:]))
        raise DatasetError(f"{pictures} holds pictures of {size} pixels. Copy it again")
    return pictures_nhw, labels_n


def _array(path: Path, axes: int) -> NDArray[np.uint8]:
    """Read an array: two zeros, 8 for uint8, the number of axes, their sizes, the numbers."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if data[:4] != bytes((0, 0, 8, axes)):
            raise ValueError(f"it starts with {data[:4].hex(' ')}")
        shape = np.frombuffer(data, ">u4", axes, 4).tolist()
        return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DatasetError(f"{path} is no IDX file of uint8 ({error}). Copy it again") from error


def _file(folder: Path, name: str) -> Path | None:
    """Find a file by its name, by the one with a dot that some copies have, or gzipped."""
    return next(_candidates(folder, name), None)


def _candidates(folder: Path, name: str) -> Iterator[Path]:
    spelled = (name, name.replace("-idx", ".idx"))
    paths = (folder / f"{each}{end}" for each in spelled for end in ("", ".gz"))
    return (path for path in paths if path.is_file())
