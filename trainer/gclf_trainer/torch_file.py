"""Files of torch, read as data and never as code, and only where they are as they were written."""

import zipfile
from pathlib import Path

import torch


def read(path: Path) -> object:
    """Read tensors and plain data onto the CPU; nothing in the file is executed.

    Raises:
        Exception: It is foreign or damaged: zip, pickle and struct errors, a dozen kinds.
    """
    if zipfile.is_zipfile(path):  # torch does not compare the checksums that it writes
        with zipfile.ZipFile(path) as file:
            if damaged := file.testzip():
                raise ValueError(f"its part {damaged} is damaged")
    return torch.load(path, map_location="cpu", weights_only=True)


def reason_of(error: Exception) -> str:
    """Return what an error says, on one line that is never empty."""
    said = " ".join(str(error).split())
    return said[:200] or type(error).__name__
