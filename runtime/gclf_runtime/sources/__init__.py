"""Where pictures come from: each argument of a run as a stream of inputs, in the order given."""

import os
import re
import stat
import sys
from collections.abc import Generator, Iterable, Iterator
from io import BufferedReader
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, cast

from gclf_runtime.errors import SourceError
from gclf_runtime.formats import HEAD_BYTES, sniff
from gclf_runtime.items import Choice, Item, Skipped, say
from gclf_runtime.sources.folders import find_files
from gclf_runtime.sources.lists import read_list

__all__ = ["Item", "Skipped", "find_images", "open_sources"]

_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_PACKED = (*_TAR, ".zip", ".parquet")
_LISTS = (".txt", ".list")
# Two letters at least: one is a drive of Windows.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def open_sources(
    arguments: Iterable[str],
    skipped: Skipped,
    *,
    all_files: bool = False,
    image_column: str | None = None,
) -> Generator[Item]:
    """Stream the inputs that some arguments name.

    An argument is, in this order:
        -                           paths on standard input, one per line or NUL-separated
        scheme://...                a file through fsspec; with * a pattern; with / at its end a
                                    folder
        a folder                    its pictures, recursively
        .txt .list                  a list of paths, relative to the current folder, and addresses
        .tar .tar.gz .zip ...       its members, not unpacked
        .parquet                    the rows of its column of pictures
        with * ? [                  the pictures that match, ** any number of folders; a pattern
                                    with one of the suffixes above opens each file that matches
        anything else               that file, whatever its suffix, even when it does not exist

    Args:
        arguments: What to read, as the user named it.
        skipped: Counts what was no input.
        all_files: Whether hidden files, and files that are no images, are inputs too.
        image_column: The column of Parquet files that holds the pictures; None finds it.

    Yields:
        Inputs, one for each time that one is named or found. One that cannot be read holds its
        error, and the rest goes on.

    Raises:
        SourceError: A folder, list, archive or table cannot be read, or not to its end; what was
            read before has been yielded. Or a pattern matches nothing.
    """
    choice = Choice(skipped, all_files)
    for is_file, group in groupby(arguments, key=_is_address_of_a_file):
        if is_file:  # those that follow each other are fetched at the same time
            yield from _fetched(group)
            continue
        for argument in group:
            if argument == "-":
                if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
                    raise SourceError("standard input is closed. Pipe a list of paths into it")
                yield from _listed(cast(BufferedReader, sys.stdin.buffer), "standard input")
            elif _is_address(argument):
                yield from _remote(argument, choice, image_column)
            else:
                yield from _local(argument, choice, image_column)


def find_images(
    folder: Path, skipped: Skipped | None = None, *, all_files: bool = False
) -> Iterator[Path]:
    """List the pictures below a folder, recursively.

    A file is an input when its suffix names an image format or its first bytes are an image's,
    however broken it is. Hidden files and folders (a leading dot) are not entered. Links to
    folders are followed, except back into a folder that is being listed.

    Args:
        folder: Where to start.
        skipped: Counts what was left out, when given.
        all_files: Whether to list what is hidden or no image too.

    Yields:
        Paths, sorted by name within each folder, a folder's files in their place among them.

    Raises:
        SourceError: The folder itself cannot be listed.
    """
    for item in _folder(str(folder), Choice(skipped or Skipped(), all_files)):
        yield Path(item.name)


def _local(path: str, choice: Choice, image_column: str | None) -> Iterator[Item]:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # its row says why
        mode = 0
    if stat.S_ISDIR(mode):
        yield from _folder(path, choice)
    elif stat.S_ISREG(mode) and path.lower().endswith(_PACKED + _LISTS):
        yield from _opened(path, choice, image_column)
    elif any(sign in path for sign in "*?[") and not os.path.lexists(path):
        yield from _matching(path, choice, image_column)
    else:
        yield Item(path)


def _folder(folder: str, choice: Choice) -> Iterator[Item]:
    try:
        for relative in find_files(folder, choice):
            yield Item(os.path.join(folder, relative), None, relative)
    except OSError as error:
        raise SourceError(
            f"{folder} cannot be listed ({say(error)}). Name a folder that you may read"
        ) from error


def _matching(pattern: str, choice: Choice, image_column: str | None) -> Iterator[Item]:
    """Match a pattern below the folder that its parts without a sign name."""
    names_them = pattern.lower().endswith(_PACKED + _LISTS)
    parts = pattern.replace(os.sep, "/").split("/")
    first = next(i for i, part in enumerate(parts) if any(sign in part for sign in "*?["))
    folder = "/".join(parts[:first]) + "/" if first else ""
    below = [part for part in parts[first:] if part] + ([] if parts[-1] else ["**", "*"])
    is_empty = True
    try:
        for relative in find_files(folder or ".", choice, pattern=below, names_them=names_them):
            is_empty = False
            if names_them:
                yield from _local(folder + relative, choice, image_column)
            else:
                yield Item(folder + relative, None, relative)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(
            f"{folder or '.'} cannot be listed ({say(error)}). Name a folder that you may read"
        ) from error
    if is_empty:
        raise SourceError(f"no picture matches {pattern}. Check the pattern, or name a folder")


def _opened(path: str, choice: Choice, image_column: str | None) -> Iterator[Item]:
    with _open(path) as file:
        if sniff(file.peek(HEAD_BYTES)[:HEAD_BYTES]) is not None:
            yield Item(path)
        elif path.lower().endswith(_LISTS):
            yield from _listed(file, path)
        else:
            yield from _members(file, path, choice, image_column)


def _open(path: str) -> BufferedReader:
    try:
        return open(path, "rb")
    except OSError as error:
        raise SourceError(
            f"{path} cannot be read ({say(error)}). Name a file that you may read"
        ) from error


def _members(file: BinaryIO, name: str, choice: Choice, image_column: str | None) -> Iterator[Item]:
    suffix = _without_query(name)
    if suffix.endswith(".parquet"):
        from gclf_runtime.sources.tables import read_rows

        yield from read_rows(file, name, image_column)
    elif suffix.endswith(".zip"):
        from gclf_runtime.sources.archives import read_zip

        yield from read_zip(file, name, choice)
    else:
        from gclf_runtime.sources.archives import read_tar

        yield from read_tar(file, name, choice)


def _listed(file: BufferedReader, name: str) -> Iterator[Item]:
    for is_address, group in groupby(read_list(file, name), key=_is_address):
        if is_address:
            yield from _fetched(group)
        else:
            yield from map(Item, group)


def _is_address(line: str) -> bool:
    return _ADDRESS.match(line) is not None


def _is_address_of_a_file(argument: str) -> bool:
    return (
        _is_address(argument)
        and "*" not in argument
        and not argument.endswith("/")
        and not _without_query(argument).endswith(_PACKED)
    )


def _without_query(name: str) -> str:
    return re.split(r"[?#]", name, maxsplit=1)[0].lower() if _is_address(name) else name.lower()


def _fetched(addresses: Iterable[str]) -> Iterator[Item]:
    from gclf_runtime.sources.remote import fetch

    return fetch(addresses)


def _remote(address: str, choice: Choice, image_column: str | None) -> Iterator[Item]:
    """Read an address that names several pictures: a pattern, a folder or an archive."""
    from gclf_runtime.sources import remote

    if not _without_query(address).endswith(_PACKED):
        yield from remote.fetch_found(address, choice)
        return
    for name in remote.match(address) if "*" in address else [address]:
        with remote.open_file(name) as file:
            yield from _members(file, name, choice, image_column)
