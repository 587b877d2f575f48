"""What a picture's file says before its pixels are decoded: format, size, orientation."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from gclf_runtime.cpus import available_cpus
from gclf_runtime.formats import DECODED

_ORIENTATION_TAG = 0x0112


@dataclass(frozen=True)
class Header:
    """One file.

    Attributes:
        kind: Format and pixel type as Pillow names them, such as `JPEG RGB`.
        is_turned: Whether its EXIF orientation asks to turn or mirror it.
    """

    kind: str
    width: int
    height: int
    is_turned: bool


def read_headers(paths: Sequence[Path]) -> list[Header | None]:
    """Read each file's header; None for what is no file, or not of a format that is decoded."""
    with warnings.catch_warnings(), ThreadPoolExecutor(available_cpus()) as pool:
        warnings.simplefilter("ignore")  # Pillow's, of odd files
        return list(pool.map(_read, paths, chunksize=64))


def _read(path: Path) -> Header | None:
    try:
        if not path.is_file():  # a FIFO, whose opening would wait; a picture from elsewhere
            return None
        with path.open("rb") as file, Image.open(file, formats=DECODED) as image:
            kind = f"{image.format} {image.mode}"
            return Header(kind, image.width, image.height, _is_turned(image))
    except Exception:  # Pillow raises nine kinds on bad files, SyntaxError among them
        return None


def _is_turned(image: Image.Image) -> bool:
    return "exif" in image.info and image.getexif().get(_ORIENTATION_TAG, 1) in range(2, 9)
