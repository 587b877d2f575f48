"""The files below a folder, in stable order, at some twenty bytes of memory each."""

import heapq
import os
import stat
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from typing import NamedTuple

from gclf_runtime.items import Choice

EVERYTHING = ("**",)

# Sorted and packed as they are listed: a hundred thousand names as a list are 7 MB, packed 2.
_NAMES_PER_RUN = 4096


class _Level(NamedTuple):
    """A folder that is being listed: what is left of it, and how it was reached."""

    entries: Iterator[str]
    relative: str
    identity: tuple[int, int]
    positions: frozenset[int]


def find_files(
    folder: str, choice: Choice, *, pattern: Sequence[str] = EVERYTHING, names_them: bool = False
) -> Iterator[str]:
    """List the inputs below a folder that match a pattern.

    Links to folders are followed, except back into a folder that is being listed, and each folder
    is entered by a link once: folders that link to each other would multiply. Names with a
    leading dot are hidden, except from a part of the pattern with a leading dot.

    Args:
        folder: Where to start.
        choice: Which entries are inputs.
        pattern: The parts of a path below `folder`, as in a shell; ** is any number of folders.
        names_them: Whether a file that matches is an input whatever it holds.

    Yields:
        Paths below `folder`, sorted by name within each folder, a folder's files in its place.

    Raises:
        OSError: The folder itself cannot be listed.
    """
    end = len(pattern)
    entered_by_link: set[tuple[int, int]] = set()
    levels = [_Level(_list(folder), "", _identity(folder), _open_ends(pattern, {0}))]
    while levels:
        level = levels[-1]
        entry = next(level.entries, None)
        if entry is None:
            levels.pop()
            continue
        name, kind = entry[:-2], entry[-1]
        relative = level.relative + name
        path = os.path.join(folder, relative)
        positions = _advance(pattern, level.positions, name)
        is_folder = kind == "d" or (kind == "l" and os.path.isdir(path))
        is_wanted = bool(positions - {end}) if is_folder else end in positions
        is_hidden = name.startswith(".") and not _names_hidden(pattern, level.positions)
        if not is_wanted or (is_hidden and not choice.takes_hidden()):
            continue
        if is_folder:
            try:
                identity = _identity(path)
                if kind == "l":
                    if identity in entered_by_link:
                        continue
                    entered_by_link.add(identity)
                if all(identity != above.identity for above in levels):
                    levels.append(_Level(_list(path), relative + "/", identity, positions))
            except OSError:
                choice.skipped.unreadable_folders += 1
        elif names_them or choice.takes(name, lambda size, path=path: _read_head(path, size)):
            yield relative


def _list(folder: str) -> Iterator[str]:
    """List a folder as name, NUL, kind; neither NUL nor the slash between two occurs in a name."""
    runs: list[str] = []
    with os.scandir(folder) as entries:
        while run := sorted(
            f"{entry.name}\0{_kind(entry)}" for entry in islice(entries, _NAMES_PER_RUN)
        ):
            runs.append("/".join(run) + "/")
    return heapq.merge(*map(_split, runs))


def _split(run: str) -> Iterator[str]:
    start = 0
    while start < len(run):
        end = run.index("/", start)
        yield run[start:end]
        start = end + 1


def _kind(entry: os.DirEntry[str]) -> str:
    """Tell a link, a folder and the rest apart by what the listing itself says."""
    if entry.is_symlink():
        return "l"
    return "d" if entry.is_dir(follow_symlinks=False) else "f"


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _advance(pattern: Sequence[str], positions: frozenset[int], name: str) -> frozenset[int]:
    """Return where in the pattern a path may stand after one more name."""
    found: set[int] = set()
    for position in positions:
        if position < len(pattern):
            if pattern[position] == "**":
                found.add(position)
            elif fnmatchcase(name, pattern[position]):
                found.add(position + 1)
    return _open_ends(pattern, found)


def _open_ends(pattern: Sequence[str], positions: set[int]) -> frozenset[int]:
    """Add the positions after each **, which may stand for no folder at all."""
    for position in sorted(positions):
        while position < len(pattern) and pattern[position] == "**":
            position += 1
            positions.add(position)
    return frozenset(positions)


def _names_hidden(pattern: Sequence[str], positions: frozenset[int]) -> bool:
    return any(p < len(pattern) and pattern[p].startswith(".") for p in positions)


def _read_head(path: str, size: int) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # reading a FIFO would wait for ever
            return b""
        with open(path, "rb", buffering=0) as file:
            return file.read(size)
    except OSError:
        return b""
