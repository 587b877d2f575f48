"""One training at a time in a RUN folder."""

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

from gclf_runtime.lock import lock
from gclf_trainer.errors import RunError


@contextlib.contextmanager
def claimed(folder: Path) -> Generator[None]:
    """Keep other trainings out of a folder, which is made when missing, and removed if left empty.

    The lock ends with the process, also with one that is killed: the file that it leaves then,
    `.lock`, keeps nobody out.

    Raises:
        RunError: Another training has it, or it cannot be made.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise RunError(
            f"{folder} cannot be made or written ({error.strerror}). Name another --output"
        ) from error
    try:
        if not lock(descriptor) or not _is(path, descriptor):
            raise RunError(
                f"{folder} is being written by another training. Wait for it, or name another "
                "--output"
            )
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()  # while it is ours
                folder.rmdir()
    finally:
        os.close(descriptor)


def _is(path: Path, descriptor: int) -> bool:
    """Say whether a name still means an open file: the one before us may just have removed it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False
