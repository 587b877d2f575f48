"""Some pictures of several arrays as if they were one array, read a few at a time.

Axes: n pictures, g chosen ones, k asked for, h height, w width, c channels (RGB).
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Pictures(Protocol):
    """An array of pictures, or what looks like one and reads a few when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        ...

    def __getitem__(self, index: slice | NDArray[np.int64], /) -> NDArray[np.uint8]: ...


class Chosen:
    """Some pictures of several arrays that may be larger than memory, read as they are asked for.

    Args:
        parts: uint8, shape (N, H, W, C) each.
        chosen_g: Which ones, counted through all parts.
    """

    def __init__(self, parts: Sequence[NDArray[np.uint8]], chosen_g: NDArray[np.int64]) -> None:
        self._parts = parts
        self._chosen_g = chosen_g
        self.shape: tuple[int, ...] = (len(chosen_g), *parts[0].shape[1:])

    def __getitem__(self, index: slice | NDArray[np.int64], /) -> NDArray[np.uint8]:
        rows_k = self._chosen_g[index]
        pixels_khwc = np.empty((len(rows_k), *self.shape[1:]), np.uint8)
        start = 0
        for part in self._parts:
            here = (rows_k >= start) & (rows_k < start + len(part))
            pixels_khwc[here] = part[rows_k[here] - start]
            start += len(part)
        return pixels_khwc
