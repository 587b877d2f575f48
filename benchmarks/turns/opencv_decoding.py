# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6", "opencv-python-headless==5.0.0.93"]
# [tool.uv]
# exclude-newer = "2026-11-22T00:00:00Z"
# ///
"""OpenCV: `imdecode`, `resize` and the channels turned round, with each interpolation in use."""

from functools import cache
from pathlib import Path
from typing import Any

import cv2  # pyright: ignore[reportMissingImports]
import numpy as np
from numpy.typing import NDArray

from benchmarks.turns.serving import per_picture, serve

_WAYS = {"OpenCV, INTER_AREA": cv2.INTER_AREA, "OpenCV, INTER_LINEAR": cv2.INTER_LINEAR}
_SIDE = 64


@cache
def _read(paths: tuple[str, ...]) -> list[bytes]:
    return [Path(path).read_bytes() for path in paths]


def _decode(data: bytes, interpolation: int) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=interpolation)
    return cv2.cvtColor(small, cv2.COLOR_BGR2RGB)


def _answer(request: dict[str, Any]) -> Any:
    if request["do"] == "names":
        return list(_WAYS)
    encoded, way = _read(tuple(request["pictures"])), _WAYS[request["name"]]
    if request["do"] == "pixels":
        return np.save(request["pixels"], np.stack([_decode(data, way) for data in encoded]))
    return per_picture(
        [lambda: [_decode(data, way) for data in encoded]],
        pictures=len(encoded),
        at_least_s=0.0,
    )


if __name__ == "__main__":
    cv2.setNumThreads(1)
    serve(_answer)
