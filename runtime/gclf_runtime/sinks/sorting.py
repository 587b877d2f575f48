"""Pictures into a folder per class, as copies or as links."""

import errno
import filecmp
import os
import shutil
from pathlib import Path, PurePosixPath

from gclf_runtime.errors import OutputError
from gclf_runtime.items import Item
from gclf_runtime.sinks.whole import written_whole

_STOPPING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


class Sorter:
    """Places each picture at FOLDER/CLASS/its path below its source. Nothing is overwritten.

    Args:
        folder: Where the class folders go; made when needed.
        link: Place symbolic links; what has no file of its own (a member of an archive) is copied.

    Raises:
        OutputError: The folder cannot be made.
    """

    def __init__(self, folder: Path, *, link: bool = False) -> None:
        self._folder, self._link = folder, link
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_sort(folder, error) from error

    def place(self, item: Item, label: str) -> bool:
        """Place one picture; what lies there already from a run before is left.

        Returns:
            Whether it lies there; not when its own name or its file is at fault.

        Raises:
            OutputError: Nothing can be written there.
        """
        relative = PurePosixPath(item.relative or os.path.basename(item.name))
        try:
            self._place(item, self.folder_of(label) / relative)
        except OSError as error:
            if error.errno not in _STOPPING:
                return False
            raise _cannot_sort(self._folder, error) from error
        return True

    def folder_of(self, label: str) -> Path:
        """Return the folder of a class."""
        return self._folder / _folder_name(label)

    def _place(self, item: Item, wanted: Path) -> None:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        path, number = wanted, 1
        while os.path.lexists(path):
            if self._is_there(item, path):
                return
            number += 1
            path = wanted.with_stem(f"{wanted.stem}~{number}")
        with written_whole(path) as partial:
            partial.unlink(missing_ok=True)
            if isinstance(item.data, bytes):
                partial.write_bytes(item.data)
            elif self._link:
                partial.symlink_to(os.path.abspath(item.name))
            else:
                shutil.copyfile(item.name, partial)

    def _is_there(self, item: Item, path: Path) -> bool:
        if isinstance(item.data, bytes):
            return path.is_file() and path.read_bytes() == item.data
        if path.is_symlink():
            return os.readlink(path) == os.path.abspath(item.name)
        return path.is_file() and filecmp.cmp(item.name, path, shallow=False)


def _folder_name(label: str) -> str:
    """Make a class name the name of one folder, whatever is in it."""
    name = "".join("_" if c in '/\\:*?"<>|' or not c.isprintable() else c for c in label)
    return "_" + name if name.startswith(".") else name


def _cannot_sort(folder: Path, error: OSError) -> OutputError:
    return OutputError(
        f"pictures cannot be sorted into {folder} ({error.strerror or error}). Name another "
        "--sort-into, or add --resume once there is room"
    )
