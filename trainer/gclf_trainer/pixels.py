"""Listed files to pixels: decoded once, in parallel, by the runtime's own images.load.

What was decoded is kept on disk under a name made from the content of the files and the model's
input, so that the same pictures are never decoded twice and changed ones always are.
Axes: n pictures, h height, w width, c channels (RGB).
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import PIL
from numpy.typing import NDArray

from gclf_runtime import ImageError, InputSpec, images
from gclf_runtime.cpus import available_cpus
from gclf_trainer.errors import DatasetError
from gclf_trainer.folders import Folders, LabelledFiles

# Raise it when images.load changes what it returns: cached pixels of before are then ignored.
_CACHE_VERSION = 1


@dataclass(frozen=True)
class Split:
    """Decoded pictures.

    Attributes:
        paths: Their files.
        pixels_nhwc: uint8 0-255 RGB, shape (N, height, width, 3).
        labels_n: int64 class indices, shape (N,).
    """

    paths: tuple[Path, ...]
    pixels_nhwc: NDArray[np.uint8]
    labels_n: NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Everything the training loop needs; `test` may be empty.

    Attributes:
        unreadable: Files left out, with the reason.
        sha256: Digest of the training pictures' content and class names.
    """

    label_names: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    unreadable: tuple[tuple[Path, str], ...]
    sha256: str


def default_cache() -> Path:
    """Return the folder where decoded pixels are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gclf"


def load_dataset(
    folders: Folders,
    spec: InputSpec,
    *,
    cache: Path | None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Dataset:
    """Decode the listed files; unreadable ones are left out and named.

    Args:
        folders: What `read_folders` returned.
        spec: The model's input.
        cache: Where decoded pixels are kept; None keeps none.
        on_progress: Called with (files done, files in all) as pictures are decoded.

    Raises:
        DatasetError: A split or a class has no readable picture.
    """
    lists = (folders.train, folders.val, folders.test)
    paths = tuple(path for files in lists for path in files.paths)
    digests = _digests(paths)
    pixels_nhwc, reasons = _decoded(paths, digests, spec, cache, on_progress)
    splits: list[Split] = []
    start = 0
    for files in lists:
        splits.append(_readable(files, pixels_nhwc, reasons, start))
        start += len(files.paths)
    _refuse_unlearnable(folders, splits)
    names = [folders.label_names[label] for label in folders.train.labels]
    content = sorted(f"{name}\t{d}" for name, d in zip(names, digests, strict=False))
    return Dataset(
        folders.label_names,
        *splits,
        unreadable=tuple((p, r) for p, r in zip(paths, reasons, strict=True) if r),
        sha256=hashlib.sha256("\n".join(content).encode("utf-8", "surrogateescape")).hexdigest(),
    )


def _digests(paths: Sequence[Path]) -> list[str]:
    """Digest every file; one that cannot be read gets its name's digest, and fails later."""

    def digest(path: Path) -> str:
        if path.is_file():  # not a FIFO, whose opening would wait
            with contextlib.suppress(OSError), path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        return hashlib.sha256(os.fsencode(path)).hexdigest()

    with ThreadPoolExecutor(available_cpus()) as pool:
        return list(pool.map(digest, paths, chunksize=64))


def _decoded(
    paths: Sequence[Path],
    digests: Sequence[str],
    spec: InputSpec,
    cache: Path | None,
    on_progress: Callable[[int, int], None],
) -> tuple[NDArray[np.uint8], list[str]]:
    """Return the pixels of every file and, where it failed, the reason ("" where it did not)."""
    content = repr((_CACHE_VERSION, PIL.__version__, spec, tuple(digests)))
    key = hashlib.sha256(content.encode()).hexdigest()
    kept = cache and cache / f"pixels-{key[:32]}.npz"
    # A damaged file is decoded anew, and replaced.
    with contextlib.suppress(OSError, ValueError, KeyError, EOFError, BadZipFile):
        if kept and kept.is_file():
            with kept.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                return file["pixels_nhwc"], [str(reason) for reason in file["reasons"]]
    pixels_nhwc = np.zeros((len(paths), spec.height, spec.width, 3), np.uint8)

    def decode(index: int) -> str:
        try:
            pixels_nhwc[index] = images.load(paths[index], spec)
        except ImageError as error:
            return error.reason
        return ""

    reasons: list[str] = []
    with ThreadPoolExecutor(available_cpus()) as pool:
        for reason in pool.map(decode, range(len(paths)), chunksize=16):
            reasons.append(reason)
            on_progress(len(reasons), len(paths))
    if kept:
        _keep(kept, pixels_nhwc, reasons)
    return pixels_nhwc, reasons


def _keep(kept: Path, pixels_nhwc: NDArray[np.uint8], reasons: list[str]) -> None:
    """Write the cache file whole or not at all; a full disk costs the cache, not the training."""
    partial = kept.with_name(f"{kept.name}.{os.getpid()}.partial")
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                np.savez(file, pixels_nhwc=pixels_nhwc, reasons=np.array(reasons, np.str_))
            partial.replace(kept)
        finally:
            partial.unlink(missing_ok=True)


def _readable(
    files: LabelledFiles, pixels_nhwc: NDArray[np.uint8], reasons: list[str], start: int
) -> Split:
    good = [i for i in range(len(files.paths)) if not reasons[start + i]]
    whole = slice(start, start + len(files.paths))
    pixels = pixels_nhwc[whole] if len(good) == len(files.paths) else pixels_nhwc[whole][good]
    labels_n = np.array([files.labels[i] for i in good], np.int64)
    return Split(tuple(files.paths[i] for i in good), pixels, labels_n)


def _refuse_unlearnable(folders: Folders, splits: list[Split]) -> None:
    counts = np.bincount(splits[0].labels_n, minlength=len(folders.label_names))
    bad = [name for name, count in zip(folders.label_names, counts, strict=True) if not count]
    if bad:
        raise DatasetError(
            f"no training picture of these classes can be read: {', '.join(bad)}. "
            "Look at the files with: gclf-infer --batch FOLDER"
        )
    if not splits[1].paths:
        raise DatasetError(
            "no validation picture can be read. Look at the files with: gclf-infer --batch FOLDER"
        )
