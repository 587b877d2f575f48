# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6", "opencv-python-headless==5.0.0.93"]
# [tool.uv]
# exclude-newer = "2026-11-22T00:00:00Z"
# ///
"""OpenCV: `imdecode`, `resize` and the channels turned round, with each interpolation in use.

It cannot ask a picture for its size before decoding it. `IMREAD_REDUCED` is what an app may write
that knows how large its pictures are: the smallest scale at which none is smaller than 64 px.
"""

from functools import partial

import cv2  # pyright: ignore[reportMissingImports]
import numpy as np
from numpy.typing import NDArray

from benchmarks.turns.decoders import SIDE, Decoder, serve_decoders

_REDUCED = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
}


def _decode(data: bytes, interpolation: int, flag: int = cv2.IMREAD_COLOR) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    small = cv2.resize(image, (SIDE, SIDE), interpolation=interpolation)
    return cv2.cvtColor(small, cv2.COLOR_BGR2RGB)


def _ways(encoded: list[bytes]) -> dict[str, Decoder]:
    ways: dict[str, Decoder] = {
        "OpenCV, INTER_AREA": partial(_decode, interpolation=cv2.INTER_AREA),
        "OpenCV, INTER_LINEAR": partial(_decode, interpolation=cv2.INTER_LINEAR),
    }
    smallest = min(_shorter_side(data) for data in encoded)
    flag = next((flag for scale, flag in _REDUCED.items() if smallest >= SIDE * scale), None)
    if flag is not None:
        ways["OpenCV, IMREAD_REDUCED"] = partial(_decode, interpolation=cv2.INTER_AREA, flag=flag)
    return ways


def _shorter_side(data: bytes) -> int:
    height, width, _ = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape
    return min(height, width)


if __name__ == "__main__":
    cv2.setNumThreads(1)
    serve_decoders(_ways)
