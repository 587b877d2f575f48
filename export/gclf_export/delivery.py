"""Files that get their names at the end, all checked: `.NAME.PRECISION.PID.partial` before.

A kill at any moment leaves each file the old one or the new one, complete.
"""

import contextlib
import glob
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import onnx

from gclf_export.errors import ExportError
from gclf_runtime.model_file import seal

_pending: set[Path] = set()


class Delivery:
    """The files of one export; what was not delivered is removed at the end of the `with`.

    Args:
        output: The name that the export was given; what killed exports to it have left is removed.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        self._partials: dict[str, Path] = {}

    def __enter__(self) -> "Delivery":
        _remove_stray(self._output)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for partial in self._partials.values():
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            _pending.discard(partial)

    def write(self, draft: str, model: onnx.ModelProto, metadata: Mapping[str, str]) -> Path:
        """Write a sealed model, on the disk for good, and say where.

        Args:
            draft: What to call it until it has its name; an older one of that name is replaced.
            model: Its metadata become those given.
            metadata: Texts by key.

        Raises:
            ExportError: It cannot be written.
        """
        partial = self._output.with_name(f".{self._output.name}.{draft}.{os.getpid()}.partial")
        self._partials[draft] = partial
        _pending.add(partial)
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, dict(metadata))
        try:
            with partial.open("wb") as file:
                file.write(seal(model.SerializeToString()))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(self._output, error) from error
        return partial

    def named(self, error: Exception) -> str:
        """Say an error with the output's name in the place of its drafts'."""
        text = str(error)
        for partial in self._partials.values():
            text = text.replace(str(partial), str(self._output))
        return text

    def deliver(self, draft: str, output: Path) -> None:
        """Give a written file its name, in place of an older one.

        Raises:
            ExportError: The name is a folder's, or may not be given.
        """
        try:
            self._partials[draft].replace(output)
        except OSError as error:
            raise _unwritable(output, error) from error
        _sync(output.parent)


def discard() -> str:
    """Remove what this process has begun, for a signal, and return the last words."""
    for partial in tuple(_pending):
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return "stopped: each file is the old one, or the new one complete"


def _remove_stray(output: Path) -> None:
    """Remove what exports to this name have left that were killed, parts of cards too."""
    for partial in output.parent.glob(f".{glob.escape(output.stem)}.*.partial"):
        pid = partial.name.removesuffix(".partial").rpartition(".")[2]
        if pid.isdecimal() and not _is_alive(int(pid)):
            with contextlib.suppress(OSError):  # on Windows, an open file stays
                partial.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    if os.name == "nt" or pid == os.getpid():  # there signal 0 is Ctrl-C
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _unwritable(output: Path, error: OSError) -> ExportError:
    reason = error.strerror or str(error)
    return ExportError(f"{output} cannot be written ({reason}). Name another --output")


def _sync(folder: Path) -> None:
    """Make a rename last through a power cut; not every system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
