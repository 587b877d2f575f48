"""Decoders in processes of their own: encoded pictures to 64×64 RGB, one after the other."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.turns.serving import per_picture, serve

SIDE = 64
Decoder: TypeAlias = Callable[[bytes], NDArray[np.uint8]]


def serve_decoders(ways: Callable[[list[bytes]], dict[str, Decoder]]) -> None:
    """Answer with the names, the pixels and the turns of decoders.

    Args:
        ways: Returns those that suit the given pictures, by name.
    """

    @cache
    def read(paths: tuple[str, ...]) -> tuple[list[bytes], dict[str, Decoder]]:
        encoded = [Path(path).read_bytes() for path in paths]
        return encoded, ways(encoded)

    def answer(request: dict[str, Any]) -> Any:
        encoded, decoders = read(tuple(request["pictures"]))
        if request["do"] == "names":
            return list(decoders)
        decode = decoders[request["name"]]
        if request["do"] == "pixels":
            return np.save(request["pixels"], np.stack([decode(data) for data in encoded]))
        return per_picture(
            [lambda: [decode(data) for data in encoded]], pictures=len(encoded), at_least_s=0.0
        )

    serve(answer)
