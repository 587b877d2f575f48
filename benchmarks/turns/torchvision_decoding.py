"""torchvision: `decode_image` and the antialiased resize of its transforms."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.io import (  # pyright: ignore[reportMissingTypeStubs]
    ImageReadMode,
    decode_image,
)
from torchvision.transforms.v2 import functional  # pyright: ignore[reportMissingTypeStubs]

from benchmarks.turns.serving import per_picture, serve

_SIDE = 64


@cache
def _read(paths: tuple[str, ...]) -> list[bytes]:
    return [Path(path).read_bytes() for path in paths]


def _decode(data: bytes) -> NDArray[np.uint8]:
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    pixels_chw = decode_image(encoded, mode=ImageReadMode.RGB)
    return functional.resize(pixels_chw, [_SIDE, _SIDE], antialias=True).permute(1, 2, 0).numpy()


def _answer(request: dict[str, Any]) -> Any:
    if request["do"] == "names":
        return ["torchvision"]
    encoded = _read(tuple(request["pictures"]))
    if request["do"] == "pixels":
        return np.save(request["pixels"], np.stack([_decode(data) for data in encoded]))
    return per_picture(
        [lambda: [_decode(data) for data in encoded]],
        pictures=len(encoded),
        at_least_s=0.0,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve(_answer)
