"""Where images come from: the files below a folder, in stable order."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gclf_runtime.errors import SourceError
from gclf_runtime.formats import HEAD_BYTES, has_image_suffix, sniff


@dataclass
class Skipped:
    """How many entries were no input: counted while `find_images` runs."""

    hidden: int = 0
    not_images: int = 0
    unreadable_folders: int = 0


def find_images(folder: Path, skipped: Skipped | None = None) -> Iterator[Path]:
    """List the pictures below a folder, recursively.

    A file is an input when its suffix names an image format or its first bytes are an image's,
    however broken it is. Hidden files and folders (a leading dot) are not entered. Links to
    folders are followed, except back into a folder that is being listed.

    Args:
        folder: Where to start.
        skipped: Counts what was left out, when given.

    Yields:
        Paths, sorted by name within each folder, a folder's files in their place among them.

    Raises:
        SourceError: The folder itself cannot be listed.
    """
    try:
        found = [(iter(_list(folder)), _identity(folder))]
    except OSError as error:
        raise SourceError(
            f"{folder} cannot be listed ({error.strerror}). Name a folder that you may read"
        ) from error
    skipped = skipped or Skipped()
    while found:  # the folders that are being listed, from the first down
        entry = next(found[-1][0], None)
        if entry is None:
            found.pop()
        elif entry.name.startswith("."):
            skipped.hidden += 1
        elif _is_folder(entry):
            path = Path(entry.path)
            try:
                identity = _identity(path)
                if identity not in [ancestor for _, ancestor in found]:
                    found.append((iter(_list(path)), identity))
            except OSError:
                skipped.unreadable_folders += 1
        elif has_image_suffix(entry.name) or _begins_like_an_image(Path(entry.path)):
            yield Path(entry.path)
        else:
            skipped.not_images += 1


def _list(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that loops onto itself
        return False


def _begins_like_an_image(path: Path) -> bool:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a FIFO would wait for ever
            return False
        with path.open("rb", buffering=0) as file:
            return sniff(file.read(HEAD_BYTES)) is not None
    except OSError:
        return False
