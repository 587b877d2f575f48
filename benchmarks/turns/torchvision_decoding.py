"""torchvision: `decode_image` and the antialiased resize of its transforms."""

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.io import (  # pyright: ignore[reportMissingTypeStubs]
    ImageReadMode,
    decode_image,
)
from torchvision.transforms.v2 import functional  # pyright: ignore[reportMissingTypeStubs]

from benchmarks.turns.decoders import SIDE, serve_decoders


def _decode(data: bytes) -> NDArray[np.uint8]:
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    pixels_chw = decode_image(encoded, mode=ImageReadMode.RGB)
    return functional.resize(pixels_chw, [SIDE, SIDE], antialias=True).permute(1, 2, 0).numpy()


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve_decoders(lambda _: {"torchvision": _decode})
