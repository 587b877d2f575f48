"""The cache's files: the decoded pixels of many pictures, written a part at a time, then mapped.

A file holds the pixels of all readable pictures one after another, then JSON with their shape and
why the others could not be read, then the length of that JSON in 8 bytes. It gets its name when it
is whole and on the disk.
Axes: n pictures, h height, w width, c channels (RGB).
"""

import contextlib
import errno
import json
import math
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Part = tuple[NDArray[np.uint8], list[str]]
"""Pixels of the readable ones of some files, and a reason per file, "" for the readable."""

_LENGTH = 8
_DEAD_S = 3600  # what nobody has written to for so long was left by a kill


def keep(path: Path, shape: Sequence[int], parts: Iterable[Part]) -> None:
    """Write a file whole or not at all, holding one part at a time.

    Args:
        path: Its name.
        shape: (N, H, W, 3) if every picture can be read.
        parts: Pixels and reasons, in order.

    Raises:
        OSError: The disk is full, or it cannot be written; nothing is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_dead(path.parent, "pixels-*.partial")
    if shutil.disk_usage(path.parent).free < math.prod(shape):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # before hours of decoding
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            reasons: list[str] = []
            for pixels_nhwc, part_reasons in parts:
                file.write(pixels_nhwc.data if pixels_nhwc.size else b"")
                reasons += part_reasons
            unreadable = {index: reason for index, reason in enumerate(reasons) if reason}
            count = len(reasons) - len(unreadable)
            record = {"shape": [count, *shape[1:]], "unreadable": unreadable}
            content = json.dumps(record).encode()
            file.write(content + len(content).to_bytes(_LENGTH, "little"))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def open_kept(path: Path, files: int) -> tuple[NDArray[np.uint8], list[str]]:
    """Map a file that `keep` wrote of so many files; pages are read as they are looked at.

    Returns:
        Pixels of the readable ones, uint8 (N, H, W, 3), read-only; and each file's reason or "".

    Raises:
        OSError: There is none.
        ValueError: It is damaged.
    """
    with path.open("rb") as file:
        file.seek(-_LENGTH, os.SEEK_END)  # an OSError in a shorter file
        length = int.from_bytes(file.read(_LENGTH), "little")
        file.seek(-_LENGTH - length, os.SEEK_END)
        size = file.tell()
        try:
            record = json.loads(file.read(length))
            shape = tuple(int(axis) for axis in record["shape"])
            reasons = [str(record["unreadable"].get(str(index), "")) for index in range(files)]
            is_whole = math.prod(shape) == size and reasons.count("") == shape[0]
        except (LookupError, TypeError, AttributeError) as error:  # JSON of another shape
            raise ValueError(f"{path} is damaged") from error
        if not is_whole:
            raise ValueError(f"{path} is damaged")
        if not size:  # an empty file cannot be mapped
            return np.zeros(shape, np.uint8), reasons
        return np.asarray(np.memmap(file, np.uint8, "r", shape=shape)), reasons


def remove_dead(folder: Path, pattern: str) -> None:
    """Remove what kills have left unfinished: files, or folders of files, of such names."""
    for partial in folder.glob(pattern):
        with contextlib.suppress(OSError):
            if time.time() - partial.stat().st_mtime > _DEAD_S:
                shutil.rmtree(partial) if partial.is_dir() else partial.unlink()
