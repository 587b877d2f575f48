"""Batches on a GPU: few fixed shapes, buffers that stay there, and what to do when memory ends.

A shape that CUDA has not seen costs a search by cuDNN, and its memory pool grows with the variety
of shapes, so a batch is cut and padded to one of a few. It does not know where batches come from.
Axes: n batch, h height, w width, c channels (RGB), k classes.
"""

import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gclf_runtime.errors import ModelError

SHAPES = (1, 8, 32, 128, 512)  # each at most four times the one before: a quarter is never padding
_TRIALS = (32, 128, 512)
_TRIAL_RUNS = 3
_OUT_OF_MEMORY = ("failed to allocate", "out of memory", "alloc_failed", "available memory")


class _Buffers(threading.local):
    """A thread's inputs by shape: on the device, and here."""

    def __init__(self) -> None:
        self.by_shape: dict[int, tuple[Any, NDArray[np.uint8]]] = {}


class DeviceRunner:
    """Runs an onnxruntime session in few batch shapes, with its input held on the device.

    Calls may come from any thread; each thread has its own buffers, so that one copies while
    another computes.

    Args:
        ort: The module onnxruntime.
        session: Its session, with the contract's graph.
        size_hw: Height and width of the input.
        outputs: Names of the outputs to fetch.
        device: onnxruntime's name of the device, for instance `cuda`.
        batch_size: The largest batch; the fastest of a few when None, which takes some runs.
    """

    def __init__(
        self,
        ort: Any,
        session: Any,
        *,
        size_hw: tuple[int, int],
        outputs: list[str],
        device: str = "cuda",
        batch_size: int | None = None,
    ) -> None:
        self._ort, self._session, self._device = ort, session, device
        self._size_hw, self._outputs = size_hw, outputs
        self._buffers = _Buffers()
        self.batch_size: int = batch_size or SHAPES[-1]
        if batch_size is None:
            self.batch_size = self._fastest()

    def run(self, pixels_nhwc: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Return the outputs for a batch of any size, each float32 (N, K).

        When the device's memory ends, the largest batch is halved from then on.
        """
        parts: list[list[NDArray[np.float32]]] = []
        start = 0
        while start < len(pixels_nhwc):
            shape = self._shape_for(len(pixels_nhwc) - start)
            part_nhwc = pixels_nhwc[start : start + shape]
            try:
                parts.append(self._run_padded(part_nhwc, shape))
            except Exception as error:
                if not _is_out_of_memory(error):
                    raise
                if shape == 1:
                    raise ModelError(
                        "the GPU has no memory for a single picture. Free some (nvidia-smi says "
                        "who holds it), or pass --device cpu"
                    ) from error
                self._buffers = _Buffers()
                self.batch_size = min(self.batch_size, shape // 2)
                continue
            start += len(part_nhwc)
        return [np.concatenate(output) for output in zip(*parts, strict=True)]

    def _shape_for(self, count: int) -> int:
        allowed = [shape for shape in SHAPES if shape < self.batch_size] + [self.batch_size]
        return next((shape for shape in allowed if shape >= count), self.batch_size)

    def _run_padded(self, pixels_nhwc: NDArray[np.uint8], shape: int) -> list[NDArray[np.float32]]:
        images, padded_nhwc = self._buffer(shape)
        padded_nhwc[: len(pixels_nhwc)] = pixels_nhwc  # behind them are older pictures, not read
        images.update_inplace(padded_nhwc)
        binding: Any = self._session.io_binding()
        binding.bind_ortvalue_input("images", images)
        for name in self._outputs:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding)
        return [output[: len(pixels_nhwc)] for output in binding.copy_outputs_to_cpu()]

    def _buffer(self, shape: int) -> tuple[Any, NDArray[np.uint8]]:
        """Return this thread's input of a shape, on the device and here."""
        held = self._buffers.by_shape
        if shape not in held:
            here_nhwc = np.zeros((shape, *self._size_hw, 3), np.uint8)
            there = self._ort.OrtValue.ortvalue_from_numpy(here_nhwc, self._device, 0)
            held[shape] = there, here_nhwc
        return held[shape]

    def _fastest(self) -> int:
        """Time a few batch sizes and return that with the most pictures per second."""
        rates: dict[int, float] = {}
        for size in _TRIALS:
            pixels_nhwc = np.zeros((size, *self._size_hw, 3), np.uint8)
            self.run(pixels_nhwc)  # the first run of a shape searches and allocates
            if self.batch_size < size:
                break
            start = time.perf_counter()
            for _ in range(_TRIAL_RUNS):
                self.run(pixels_nhwc)
            rates[size] = size * _TRIAL_RUNS / (time.perf_counter() - start)
        return max(rates, key=lambda size: rates[size], default=self.batch_size)


def _is_out_of_memory(error: Exception) -> bool:
    return any(sign in str(error).lower() for sign in _OUT_OF_MEMORY)
