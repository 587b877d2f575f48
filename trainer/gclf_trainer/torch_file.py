"""Files of torch, read as data and never as code, and only where they are as they were written."""

import zipfile
from pathlib import Path

import torch

_ARCHIVE, _PICKLE = b"PK\x03\x04", b"\x80"  # how torch's files begin, today and of old


def read(path: Path) -> object:
    """Read tensors and plain data onto the CPU; nothing in the file is executed.

    Raises:
        OSError: It cannot be read.
        ValueError: It is foreign or damaged.
    """
    with path.open("rb") as file:
        start = file.read(4)
    if not start.startswith((_ARCHIVE, _PICKLE)):
        raise ValueError("torch.save did not write it" if start else "it is empty")
    try:
        if start == _ARCHIVE:
            _check_archive(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and struct errors, a dozen kinds
        raise ValueError(_own_words(error)) from error


def _check_archive(path: Path) -> None:
    """Compare the checksums, as torch does not, of an archive that unpacks to no more than it is.

    torch.save compresses nothing: an archive that does is of another program, or a bomb.
    """
    with zipfile.ZipFile(path) as file:
        unpacked = sum(part.file_size for part in file.infolist())
        if unpacked > path.stat().st_size:
            raise _OwnWordsError(
                f"it unpacks to {unpacked:,} bytes, more than it has, and torch.save packs nothing"
            )
        if damaged := file.testzip():
            raise _OwnWordsError(f"its part {damaged} is damaged")


class _OwnWordsError(ValueError):
    """Why a file is not read, in our own words."""


def _own_words(error: Exception) -> str:
    """Say what is wrong: torch talks of its internals, and advises to run what is in the file."""
    if isinstance(error, _OwnWordsError):
        return str(error)
    if "GLOBAL" in str(error):
        return "it holds code, not weights; it was not run"
    return "it is cut or damaged, or torch.save did not write it"


def reason_of(error: Exception) -> str:
    """Return what an error says, on one line that is never empty."""
    said = " ".join(str(error).split())
    return said[:200] or type(error).__name__
