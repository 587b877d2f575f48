"""Files that get their names at the end, all checked: `.NAME.DRAFT.PID.RANDOM.partial` before.

A kill at any moment leaves each file the old one or the new one, complete.
"""

import contextlib
import glob
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

import onnx

from gclf_export.errors import ExportError
from gclf_runtime.model_file import seal

# Another container on the same disk may write a part, and its processes cannot be seen from here.
_STRAY_AFTER_S = 3600
CARD_START = b"# Model card: "

_pending: set[Path] = set()


class Delivery:
    """The files of one export; what was not delivered is removed at the end of the `with`.

    Args:
        output: The name that the export was given; what killed exports to it have left for an hour
            is removed.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        self._partials: dict[str, Path] = {}

    def __enter__(self) -> "Delivery":
        remove_stray(self._output.parent, self._output.stem)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for partial in self._partials.values():
            discard_partial(partial)

    def write_model(self, draft: str, model: onnx.ModelProto, metadata: Mapping[str, str]) -> Path:
        """Write a sealed model; its metadata become those given. Otherwise as `write`."""
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, dict(metadata))
        return self.write(draft, seal(model.SerializeToString()))

    def write(self, draft: str, content: bytes) -> Path:
        """Write a file, on the disk for good, and say where.

        Args:
            draft: What to call it until it has its name; an older one of that name is replaced.
            content: All of it.

        Raises:
            ExportError: It cannot be written.
        """
        if draft not in self._partials:
            self._partials[draft] = name_partial(
                self._output.parent, f"{self._output.name}.{draft}"
            )
        partial = self._partials[draft]
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(self._output, error) from error
        return partial

    def named(self, text: str) -> str:
        """Return a text with the output's name in the place of its drafts'."""
        for partial in self._partials.values():
            text = text.replace(str(partial), str(self._output))
        return text

    def deliver(self, names: Mapping[str, Path]) -> None:
        """Give written files their names, in place of older ones.

        Args:
            names: By draft.

        Raises:
            ExportError: One is a folder's or a device's, then nothing was named; or one may not
                be given.
        """
        for path in names.values():
            _require(path)
        done: list[str] = []
        for draft, output in names.items():
            try:
                self._partials[draft].replace(output)
            except OSError as error:
                raise _unwritable(output, error, done) from error
            done.append(output.name)
            _sync(output.parent)


def require_places(
    models: Iterable[Path], cards: Iterable[Path], *, source: Path | None = None
) -> None:
    """See that an export may write these names: nothing is there, or what an export wrote.

    Args:
        models: Of the models.
        cards: Of their cards.
        source: The checkpoint, which is never written over, whatever its name.

    Raises:
        ExportError: One is a folder's, a device's, the checkpoint's, or another program's file.
    """
    for path in models:
        _require(path, source, is_ours=path.suffix.lower() == ".onnx", what="not named .onnx")
    for path in cards:
        _require(path, source, is_ours=_is_card(path), what="no model card")


def _require(
    path: Path, source: Path | None = None, *, is_ours: bool = True, what: str = ""
) -> None:
    try:
        if not path.exists():
            return
        is_source = source is not None and source.exists() and path.samefile(source)
    except OSError as error:
        raise _unwritable(path, error) from error
    if is_source:
        raise ExportError(f"{path} is the checkpoint itself. Name another --output")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise ExportError(f"{path} cannot be written (it is {kind}). Name another --output")
    if not is_ours:
        raise ExportError(
            f"{path} is there, and {what}: it is not replaced. Remove it, or name another --output"
        )


def _is_card(path: Path) -> bool:
    """Tell whether a regular file begins as a model card does."""
    with contextlib.suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                return file.read(len(CARD_START)) == CARD_START
    return False


def name_partial(folder: Path, name: str) -> Path:
    """Name what has no name yet, as nobody else does; a signal's `discard` removes it."""
    partial = folder / f".{name}.{os.getpid()}.{secrets.token_hex(4)}.partial"
    _pending.add(partial)
    return partial


def discard_partial(partial: Path) -> None:
    """Remove a file or folder that was not given its name, if it is there."""
    with contextlib.suppress(OSError):  # on Windows, an open file stays
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)
    _pending.discard(partial)


def discard() -> str:
    """Remove what this process has begun, for a signal, and return the last words."""
    for partial in tuple(_pending):
        discard_partial(partial)
    return "stopped: each file is the old one, or the new one complete"


def remove_stray(folder: Path, stem: str) -> None:
    """Remove what killed exports to a name have left an hour ago or more."""
    for partial in folder.glob(f".{glob.escape(stem)}.*.partial"):
        with contextlib.suppress(OSError):
            is_old = time.time() - partial.stat().st_mtime > _STRAY_AFTER_S
            if is_old and partial not in _pending and not _is_at_work(partial):
                discard_partial(partial)


def _is_at_work(partial: Path) -> bool:
    """Tell whether the process that a part is named after runs here, and is not this one."""
    pids = [int(part) for part in partial.name.split(".")[-3:-1] if part.isdecimal()]
    return any(pid != os.getpid() and _is_alive(pid) for pid in pids[:1])


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # there signal 0 is Ctrl-C
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _unwritable(output: Path, error: OSError, done: Iterable[str] = ()) -> ExportError:
    reason = error.strerror or str(error)
    new = f"; {' and '.join(done)} are the new ones already" if done else ""
    return ExportError(f"{output} cannot be written ({reason}){new}. Name another --output")


def _sync(folder: Path) -> None:
    """Make a rename last through a power cut; not every system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
