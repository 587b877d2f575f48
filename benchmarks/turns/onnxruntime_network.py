"""onnxruntime as its documentation has it: one InferenceSession that computes on its own threads.

Without a variant it has one caller; `a caller per core` has as many callers as threads, each of
which computes for itself. A float NCHW model is given pixels that were made floats beforehand.
"""

from functools import cache
from typing import Any

import numpy as np
import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from benchmarks.turns.serving import per_picture, serve


@cache
def _session(model: str, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@cache
def _pixels(path: str, is_float_nchw: bool) -> NDArray[Any]:
    pixels_nhwc = np.load(path)
    if is_float_nchw:
        return np.ascontiguousarray(pixels_nhwc.transpose(0, 3, 1, 2), np.float32) / 255
    return pixels_nhwc


def _answer(request: dict[str, Any]) -> float | list[list[float]]:
    callers = request["threads"] if request["variant"] == "a caller per core" else 1
    session: Any = _session(request["model"], request["threads"] // callers)
    is_float_nchw = session.get_inputs()[0].type == "tensor(float)"
    batch = _pixels(request["pixels"], is_float_nchw)[: request["batch"]]
    if request["do"] == "answer":
        return session.run(["probabilities"], {"images": batch})[0].tolist()
    return per_picture(
        [lambda: session.run(["probabilities"], {"images": batch})] * callers,
        pictures=len(batch),
        at_least_s=request["at_least_s"],
    )


if __name__ == "__main__":
    serve(_answer)
