"""Listed files to pixels: decoded once, in parallel, by the runtime's own images.load.

What was decoded is kept on disk under a name made from the content of the files and the model's
input, so that the same pictures are never decoded twice and changed ones always are. From there
it is mapped, not read: a set may be larger than memory.
Axes: n pictures, h height, w width, c channels (RGB).
"""

import contextlib
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import PIL
import torch
from numpy.typing import NDArray

from gclf_runtime import ImageError, InputSpec, images
from gclf_runtime.cpus import available_cpus
from gclf_trainer.errors import DatasetError
from gclf_trainer.folders import Folders, LabelledFiles
from gclf_trainer.memory import HELD_SHARE, free_bytes
from gclf_trainer.pixel_file import Part, keep, open_kept

# Raise it when images.load changes what it returns: cached pixels of before are then ignored.
_CACHE_VERSION = 1
_PART_BYTES = 32 * 2**20  # decoded, then written, at once


@dataclass(frozen=True)
class Split:
    """Decoded pictures.

    Attributes:
        paths: Their files.
        pixels_nhwc: uint8 0-255 RGB, shape (N, height, width, 3); mapped from a file if there is
            a cache, so look at a part at a time.
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
        split_sha256: The same of each split: train, val and test.
        uncached: Why the pixels could not be kept on disk; empty where they were, or need not be.
    """

    label_names: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    unreadable: tuple[tuple[Path, str], ...]
    sha256: str
    split_sha256: Mapping[str, str] = field(default_factory=dict[str, str])
    uncached: str = ""

    @property
    def splits(self) -> dict[str, Split]:
        """The three by name: train, val, test."""
        return {"train": self.train, "val": self.val, "test": self.test}


def default_cache() -> Path:
    """Return the folder where decoded pixels are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gclf"


def load_dataset(
    folders: Folders,
    spec: InputSpec,
    *,
    cache: Path | None,
    held_share: float = HELD_SHARE,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Dataset:
    """Decode the listed files; unreadable ones are left out and named.

    Args:
        folders: What `read_folders` returned.
        spec: The model's input.
        cache: Where decoded pixels are kept, and read from as they are needed; None holds them in
            memory.
        held_share: Where they cannot be kept, they are held in memory if they take up no more
            than this share (0-1) of what is free.
        on_progress: Called with (files done, files in all) as pictures are decoded.

    Raises:
        DatasetError: A split or a class has no readable picture, or there is no room for the
            pixels, neither on the disk nor in memory.
    """
    lists = (folders.train, folders.val, folders.test)
    paths = tuple(path for files in lists for path in files.paths)
    digests = _digests(paths)
    pixels_nhwc, reasons, uncached = _decoded(paths, digests, spec, cache, held_share, on_progress)
    splits: list[Split] = []
    contents: list[str] = []
    file, picture = 0, 0
    for files in lists:
        mine = reasons[file : file + len(files.paths)]
        contents.append(_digest(folders, files, digests[file : file + len(mine)]))
        splits.append(_split(files, mine, pixels_nhwc[picture:]))
        file, picture = file + len(mine), picture + len(splits[-1].paths)
    unreadable = tuple((p, r) for p, r in zip(paths, reasons, strict=True) if r)
    _refuse_unlearnable(folders, splits, dict(unreadable))
    return Dataset(
        folders.label_names,
        *splits,
        unreadable=unreadable,
        sha256=contents[0],
        split_sha256=dict(zip(("train", "val", "test"), contents, strict=True)),
        uncached=uncached,
    )


def _digest(folders: Folders, files: LabelledFiles, digests: Sequence[str]) -> str:
    """Digest a split, in whatever order its files come."""
    names = (folders.label_names[label] for label in files.labels)
    content = sorted(f"{name}\t{digest}" for name, digest in zip(names, digests, strict=True))
    return hashlib.sha256("\n".join(content).encode("utf-8", "surrogateescape")).hexdigest()


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
    held_share: float,
    on_progress: Callable[[int, int], None],
) -> tuple[NDArray[np.uint8], list[str], str]:
    """Return the pixels of the files that can be read, and each file's reason if it cannot ("").

    The last is why they could not be kept in the cache, if there is to be one.
    """
    parts = partial(_parts, paths, spec, on_progress)
    shape = (len(paths), spec.height, spec.width, 3)
    if cache is None:
        return *_in_memory(shape, parts()), ""
    content = repr((_CACHE_VERSION, PIL.__version__, spec, tuple(digests)))
    kept = cache / f"pixels-{hashlib.sha256(content.encode()).hexdigest()[:32]}.raw"
    with contextlib.suppress(OSError, ValueError):  # absent or damaged: decoded, and replaced
        return *open_kept(kept, len(paths)), ""
    try:
        keep(kept, shape, parts())
        return *open_kept(kept, len(paths)), ""
    except OSError as error:
        reason = f"{error.strerror or error}"
        if math.prod(shape) > held_share * free_bytes(torch.device("cpu")):
            raise DatasetError(
                f"{math.prod(shape) / 1e9:.1f} GB of decoded pixels cannot be kept in {cache} "
                f"({reason}) and are too much for memory. Free space there, or "
                "name another folder: --cache FOLDER"
            ) from error
    return *_in_memory(shape, parts()), f"{cache} cannot be written ({reason})"


def _parts(
    paths: Sequence[Path], spec: InputSpec, on_progress: Callable[[int, int], None]
) -> Iterator[Part]:
    """Decode the files, some at a time; in `pixels_nhwc` are those that can be read."""
    size = max(64, _PART_BYTES // (spec.height * spec.width * 3))
    with ThreadPoolExecutor(available_cpus()) as pool:
        for start in range(0, len(paths), size):
            part = paths[start : start + size]
            pixels_nhwc = np.zeros((len(part), spec.height, spec.width, 3), np.uint8)
            reasons: list[str] = []
            for reason in pool.map(partial(_decode, spec), part, pixels_nhwc, chunksize=16):
                reasons.append(reason)
                on_progress(start + len(reasons), len(paths))
            yield pixels_nhwc[[not reason for reason in reasons]], reasons


def _decode(spec: InputSpec, path: Path, pixels_hwc: NDArray[np.uint8]) -> str:
    try:
        pixels_hwc[:] = images.load(path, spec)
    except ImageError as error:
        return error.reason
    return ""


def _in_memory(
    shape: tuple[int, ...], parts: Iterable[Part]
) -> tuple[NDArray[np.uint8], list[str]]:
    pixels_nhwc, reasons, count = np.empty(shape, np.uint8), list[str](), 0
    for part_nhwc, part_reasons in parts:
        pixels_nhwc[count : count + len(part_nhwc)] = part_nhwc
        count += len(part_nhwc)
        reasons += part_reasons
    return pixels_nhwc[:count], reasons


def _split(files: LabelledFiles, reasons: Sequence[str], pixels_nhwc: NDArray[np.uint8]) -> Split:
    good = [i for i, reason in enumerate(reasons) if not reason]
    labels_n = np.array([files.labels[i] for i in good], np.int64)
    return Split(tuple(files.paths[i] for i in good), pixels_nhwc[: len(good)], labels_n)


def _refuse_unlearnable(
    folders: Folders, splits: Sequence[Split], reasons: Mapping[Path, str]
) -> None:
    counts = np.bincount(splits[0].labels_n, minlength=len(folders.label_names))
    bad = [name for name, count in zip(folders.label_names, counts, strict=True) if not count]
    if bad:
        label = folders.label_names.index(bad[0])
        files = zip(folders.train.paths, folders.train.labels, strict=True)
        example = next(path for path, its_label in files if its_label == label)
        raise DatasetError(
            f"no training picture of these classes can be read: {', '.join(bad)}. "
            f"{_example(example, reasons)}"
        )
    if not splits[1].paths:
        raise DatasetError(
            f"no validation picture can be read. {_example(folders.val.paths[0], reasons)}"
        )


def _example(path: Path, reasons: Mapping[Path, str]) -> str:
    return f"One is {path}: {reasons[path]}. Look at all with: gclf-infer --batch FOLDER"
