"""Golden vectors: a few pictures and the answers to them, so that any machine can check itself.

The pictures are made here, never taken from anybody's data, and each goes another way through the
decoder: a plain PNG, a JPEG decoded at a reduced scale, one lying on its side by EXIF, 16-bit
grey, and a palette with transparency.
"""

import base64
import io
import json

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GOLDEN_KEY = "gclf.golden"


def pictures() -> dict[str, bytes]:
    """Make the pictures: encoded images by name, the same on every call."""
    sideways = Image.Exif()
    sideways[0x0112] = 6
    wave = _waves(120, 80)
    return {
        "plain.png": _encode(Image.fromarray(wave), "PNG"),
        "large.jpg": _encode(Image.fromarray(_waves(960, 720)), "JPEG", quality=60),
        "sideways.jpg": _encode(Image.fromarray(wave), "JPEG", quality=80, exif=sideways),
        "grey16.png": _encode(Image.fromarray(wave[:, :, 0].astype(np.uint16) * 257), "PNG"),
        "palette.png": _encode(
            Image.fromarray(wave).quantize(16), "PNG", transparency=bytes(range(0, 256, 16))
        ),
    }


def to_json(names: list[str], probabilities_nk: NDArray[np.float32]) -> str:
    """Write the pictures and the expected probabilities, one row per name."""
    encoded = pictures()
    rows = [
        {
            "name": name,
            "image": base64.b64encode(encoded[name]).decode("ascii"),
            "probabilities": [round(float(p), 7) for p in row],
        }
        for name, row in zip(names, probabilities_nk, strict=True)
    ]
    return json.dumps({"tolerance": 1e-4, "pictures": rows})


def _waves(width: int, height: int) -> NDArray[np.uint8]:
    """Draw smooth coloured waves, shape (height, width, 3); they compress well."""
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    channels = [
        np.sin(6.3 * (a * x + b * y) + c) for a, b, c in ((1, 0.4, 0), (0.3, 1.2, 1), (1.5, -1, 2))
    ]
    return ((np.stack(channels, -1) + 1) * 127.5).astype(np.uint8)


def _encode(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()
