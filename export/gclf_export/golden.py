"""Golden vectors: a few pictures and the answers to them, so that any machine can check itself.

The pictures are made here, never taken from anybody's data, and each goes another way through the
decoder: a plain PNG, a JPEG decoded at a reduced scale, one lying on its side by EXIF, 16-bit
grey, and a palette with transparency.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gclf_runtime.golden import GOLDEN_KEY as GOLDEN_KEY
from gclf_runtime.golden import sha256_of

# How far another machine may be off: float kernels differ in their order of summing, those of 16
# bits in where they round, int8 ones also in how they saturate.
TOLERANCE = {"fp32": 1e-4, "fp16": 0.01, "bf16": 0.05, "int8": 0.05}


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


def to_json(
    encoded: Mapping[str, bytes],
    answers: Sequence[NDArray[np.float32]],
    tolerance: float,
    *,
    spec_json: str,
) -> str:
    """Write encoded pictures by name with the expected probabilities, float32 (K,) each.

    The digest of the spec's JSON goes with them: small pictures do not tell every change of it.
    """
    records = [
        {
            "name": name,
            "image": base64.b64encode(data).decode("ascii"),
            "probabilities": [round(float(p), 7) for p in probabilities_k],
        }
        for (name, data), probabilities_k in zip(encoded.items(), answers, strict=True)
    ]
    spec_sha256 = sha256_of(spec_json)
    return json.dumps({"tolerance": tolerance, "spec_sha256": spec_sha256, "pictures": records})


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
