"""Batches of pixels on a device: from memory where the pictures fit, else from the cache's file.

Axes: n pictures, b batch, h height, w width, c channels (RGB).
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_AHEAD = 2  # batches that wait while one is learnt from
_PART = 4096  # pictures copied at once


class Pixels:
    """The pictures of a split, given out in batches; the same ones to the bit either way.

    Args:
        pixels_nhwc: uint8, shape (N, H, W, 3), in memory or mapped from a file.
        device: Where the batches go.
        is_held: Whether all of them are kept on the device. Otherwise each batch is read when its
            turn comes near, by a thread, and memory has room for a few of them.
    """

    def __init__(
        self, pixels_nhwc: NDArray[np.uint8], device: torch.device, *, is_held: bool
    ) -> None:
        self.is_held = is_held
        self._device = device
        self._host_nhwc = pixels_nhwc
        if is_held:
            self._held_nhwc = _copied(pixels_nhwc, device)

    def __len__(self) -> int:
        return len(self._host_nhwc)

    def batches(self, order_n: Tensor, size: int) -> Iterator[Tensor]:
        """Yield the pictures of these rows, uint8 (B, H, W, 3) on the device.

        Args:
            order_n: int64 indices on the CPU, shape (N,).
            size: How many to a batch; the last one may be shorter.
        """
        if self.is_held:
            for rows_b in order_n.to(self._device).split(size):
                yield self._held_nhwc[rows_b]
            return
        with ThreadPoolExecutor(1) as reader:
            waiting: deque[Future[Tensor]] = deque()
            for rows_b in order_n.split(size):
                waiting.append(reader.submit(self._read, rows_b.numpy()))
                if len(waiting) > _AHEAD:
                    yield self._sent(waiting.popleft())
            while waiting:
                yield self._sent(waiting.popleft())

    def _read(self, rows_b: NDArray[np.int64]) -> Tensor:
        """Gather rows in the order of the file, which spares the disk."""
        by_place = np.argsort(rows_b, kind="stable")
        shape = (len(rows_b), *self._host_nhwc.shape[1:])
        # Pinned, for only then does the copy to a GPU wait for nothing.
        is_pinned = self._device.type == "cuda"
        batch_nhwc = torch.empty(shape, dtype=torch.uint8, pin_memory=is_pinned)
        # take, not [...]: the other threads run while it waits for the disk.
        batch_nhwc.numpy()[by_place] = np.take(self._host_nhwc, rows_b[by_place], axis=0)
        return batch_nhwc

    def _sent(self, read: Future[Tensor]) -> Tensor:
        return read.result().to(self._device, non_blocking=True)


def _copied(pixels_nhwc: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Put pixels on a device, a part at a time; what is in the device's memory already stays."""
    if device.type == "cpu" and pixels_nhwc.flags.writeable:  # a mapped file is not
        return torch.from_numpy(pixels_nhwc)
    held_nhwc = torch.empty(pixels_nhwc.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(pixels_nhwc), _PART):
        part = slice(start, start + _PART)
        held_nhwc[part] = torch.from_numpy(np.array(pixels_nhwc[part]))
    return held_nhwc
