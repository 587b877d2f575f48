"""Ours: the call that the pipeline makes, `OnnxSession.run`, one thread per caller."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.turns.serving import per_picture, serve
from gclf_runtime.session import OnnxSession


@cache
def _session(model: str) -> OnnxSession:
    return OnnxSession(Path(model), device="cpu")


@cache
def _pixels(path: str) -> NDArray[np.uint8]:
    return np.load(path)


def _answer(request: dict[str, Any]) -> float | list[list[float]]:
    session, batch_nhwc = _session(request["model"]), _pixels(request["pixels"])[: request["batch"]]
    if request["do"] == "answer":
        return session.run(batch_nhwc)[0].tolist()
    return per_picture(
        [lambda: session.run(batch_nhwc)] * request["threads"],
        pictures=len(batch_nhwc),
        at_least_s=request["at_least_s"],
    )


if __name__ == "__main__":
    serve(_answer)
