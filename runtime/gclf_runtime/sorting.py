"""Pictures into a folder per class, as copies or as links."""

import filecmp
import os
import shutil
from pathlib import Path, PurePosixPath

from gclf_runtime.errors import OutputError
from gclf_runtime.items import Item


class Sorter:
    """Places each picture at FOLDER/CLASS/its path below its source. Nothing is overwritten.

    Args:
        folder: Where the class folders go; made when needed.
        link: Place symbolic links; what has no file of its own (a member of an archive) is copied.
    """

    def __init__(self, folder: Path, *, link: bool = False) -> None:
        self._folder, self._link = folder, link

    def place(self, item: Item, label: str) -> None:
        """Place one picture; what lies there already from a run before is left.

        Raises:
            OutputError: It cannot be written.
        """
        relative = PurePosixPath(item.relative or os.path.basename(item.name))
        try:
            self._place(item, self._folder / _folder_name(label) / relative)
        except OSError as error:
            raise OutputError(
                f"{item.name} cannot be sorted into {self._folder} ({error.strerror or error}). "
                "Name another --sort-into, or add --resume once there is room"
            ) from error

    def _place(self, item: Item, wanted: Path) -> None:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        path, number = wanted, 1
        while os.path.lexists(path):
            if self._is_there(item, path):
                return
            number += 1
            path = wanted.with_stem(f"{wanted.stem}~{number}")
        partial = path.with_name(f".{os.getpid()}.partial")
        try:
            if isinstance(item.data, bytes):
                partial.write_bytes(item.data)
            elif self._link:
                partial.symlink_to(os.path.abspath(item.name))
            else:
                shutil.copyfile(item.name, partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

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
