"""JPEG by simplejpeg, where it is installed: the pixels that Pillow decodes, sooner.

Both wrap libjpeg-turbo, and their pixels are the same bytes; simplejpeg spends a third less on a
face. It decodes what every camera and every web page has. The rest (EXIF that may turn the
picture, progressive and lossless coding, ink colours, damage of any kind) is left to Pillow,
whose verdict is the one that counts.
"""

import contextlib
from importlib import import_module
from typing import Any

from PIL import Image

library: Any = None  # simplejpeg, where it is installed
with contextlib.suppress(ImportError):
    library = import_module("simplejpeg")

_BASELINE = (0xC0, 0xC1)
_OTHER_CODINGS = {0xC2, 0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)}
_APP1, _START_OF_SCAN = 0xE1, 0xDA
_MODES = {"YCbCr": ("RGB", "RGB"), "Gray": ("Gray", "L")}


def decode(data: bytes, margin: int, max_pixels: int) -> Image.Image | None:
    """Decode a plain JPEG as Pillow would after `draft(None, (margin, margin))`.

    Args:
        data: The whole file.
        margin: Decode at 1/2, 1/4 or 1/8 while both sides keep this many pixels; 0 is never.
        max_pixels: Decode nothing that holds more pixels than this.

    Returns:
        An RGB or grey image; None when this is a case for Pillow.
    """
    if library is None or not _is_plain(data):
        return None
    try:
        height, width, colors, _ = library.decode_jpeg_header(data)
        if colors not in _MODES:
            return None
        colorspace, mode = _MODES[colors]
        times = min(width // margin, height // margin) if margin else 1
        scale = next((s for s in (8, 4, 2) if times >= s), 1)
        # The smallest scale that keeps these sides is 1/scale exactly.
        rows, columns = -(-height // scale), -(-width // scale)
        if rows * columns > max_pixels:
            return None
        pixels = library.decode_jpeg(
            data, colorspace, min_height=rows, min_width=columns, min_factor=1, strict=True
        )
    except (ValueError, RuntimeError, MemoryError):
        return None
    return Image.frombuffer(mode, (columns, rows), pixels, "raw", mode, 0, 1)


def _is_plain(data: bytes) -> bool:
    """Tell whether a JPEG is baseline coded and carries neither EXIF nor XMP."""
    is_baseline, position = False, 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == _START_OF_SCAN:
            return is_baseline
        if marker == _APP1 or marker in _OTHER_CODINGS:
            return False
        is_baseline = is_baseline or marker in _BASELINE
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False
