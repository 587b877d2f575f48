"""Files that are there whole or not at all."""

import contextlib
import hashlib
import os
from collections.abc import Generator
from pathlib import Path


@contextlib.contextmanager
def written_whole(path: Path) -> Generator[Path]:
    """Lend a name to write to; what is there at the end takes the place of `path`, all at once.

    The name is the same on every run, so that what a kill leaves is written over by the next. A
    link is followed, and a device is written to as it is.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        yield path
        return
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()
    partial = path.with_name(f".{digest[:16]}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
