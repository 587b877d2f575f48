"""Awkward pictures: every kind that goes another way through a decoder, drawn here.

They are the same on every machine and come from nobody's data. It does not know what is right for
them: the certificate asks the checkpoint and the exported file.
"""

import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_ORIENTATION_TAG = 0x0112
_HUGE = (6000, 4000)  # above three times any usual input at 1/8: decoded at a reduced scale


def pictures() -> dict[str, bytes]:
    """Draw them: encoded images by name, the same on every call; some 0.7 s for the largest."""
    return dict([*_turned(), *_palettes(), *_greys(), *_inks(), *_sizes()])


def _turned() -> Iterator[tuple[str, bytes]]:
    """Draw one JPEG for each EXIF orientation; no two sides of it look alike."""
    picture = Image.fromarray(_scene(120, 80))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[_ORIENTATION_TAG] = orientation
        yield f"orientation-{orientation}.jpg", _encode(picture, "JPEG", quality=85, exif=exif)


def _palettes() -> Iterator[tuple[str, bytes]]:
    picture = Image.fromarray(_scene(90, 110)).quantize(32)
    yield "palette.png", _encode(picture, "PNG")
    yield "palette.gif", _encode(picture, "GIF")
    yield "palette-clear.png", _encode(picture, "PNG", transparency=bytes(range(0, 256, 8)))


def _greys() -> Iterator[tuple[str, bytes]]:
    grey_hw = _scene(100, 70)[:, :, 1]
    picture = Image.fromarray(grey_hw)
    yield "grey.png", _encode(picture, "PNG")
    yield "grey.jpg", _encode(picture, "JPEG", quality=80)
    yield "grey-16-bit.png", _encode(Image.fromarray(grey_hw.astype(np.uint16) * 257), "PNG")
    yield "one-bit.png", _encode(picture.convert("1"), "PNG")
    clear = Image.merge("LA", (picture, picture.rotate(180)))
    yield "grey-alpha.png", _encode(clear, "PNG")


def _inks() -> Iterator[tuple[str, bytes]]:
    picture = Image.fromarray(_scene(100, 100))
    yield "cmyk.jpg", _encode(picture.convert("CMYK"), "JPEG", quality=85)
    clear = picture.convert("RGBA")
    clear.putalpha(picture.convert("L"))
    yield "rgba.png", _encode(clear, "PNG")
    yield "rgba.webp", _encode(clear, "WEBP", lossless=True)
    yield "progressive.jpg", _encode(picture, "JPEG", quality=75, progressive=True)
    yield "full-chroma.jpg", _encode(picture, "JPEG", quality=85, subsampling=0)
    yield "bitmap.bmp", _encode(picture, "BMP")


def _sizes() -> Iterator[tuple[str, bytes]]:
    picture = Image.fromarray(_scene(257, 131))
    yield "pixel.png", _encode(picture.resize((1, 1)), "PNG")
    yield "row.png", _encode(picture.resize((300, 1)), "PNG")
    yield "column.jpg", _encode(picture.resize((1, 300)), "JPEG", quality=90)
    yield "odd.jpg", _encode(picture, "JPEG", quality=70)
    # Fine stripes: what is resized without antialias comes out as another pattern.
    yield "stripes.png", _encode(Image.fromarray(_stripes(640, 480)), "PNG")
    huge = picture.resize(_HUGE, Image.Resampling.BILINEAR)
    yield "huge.jpg", _encode(huge, "JPEG", quality=50)


def _scene(width: int, height: int) -> NDArray[np.uint8]:
    """Draw waves of colour that are brighter at the top and redder at the left, (H, W, 3)."""
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    red = 0.9 - 0.7 * x + 0.1 * np.sin(25 * y)
    green = 0.5 + 0.3 * np.sin(9 * x + 4 * y) - 0.2 * y
    blue = 0.8 - 0.6 * y + 0.2 * np.sin(17 * x)
    return (np.stack([red, green, blue], -1).clip(0, 1) * 255).astype(np.uint8)


def _stripes(width: int, height: int) -> NDArray[np.uint8]:
    stripes_w = (np.arange(width) % 7 < 3) * np.linspace(100, 255, width)
    return np.broadcast_to(stripes_w[None, :, None], (height, width, 3)).astype(np.uint8)


def _encode(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()
