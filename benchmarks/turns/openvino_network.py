# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6", "openvino==2026.4.1"]
# [tool.uv]
# exclude-newer = "2026-11-22T00:00:00Z"
# ///
"""OpenVINO as its documentation has it: `Core.compile_model` of our file, one infer request.

`f32` asks for exact arithmetic; `default` leaves it to OpenVINO, which may take bfloat16.
"""

from functools import cache
from typing import Any

import numpy as np
import openvino as ov  # pyright: ignore[reportMissingImports]
from numpy.typing import NDArray

from benchmarks.turns.serving import per_picture, serve


@cache
def _compiled(model: str, threads: int, precision: str) -> Any:
    options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    if precision != "default":
        options["INFERENCE_PRECISION_HINT"] = precision
    return ov.Core().compile_model(model, "CPU", options).create_infer_request()


@cache
def _pixels(path: str) -> NDArray[np.uint8]:
    return np.load(path)


def _answer(request: dict[str, Any]) -> Any:
    found = _compiled(request["model"], request["threads"], request["variant"])
    batch_nhwc = _pixels(request["pixels"])[: request["batch"]]
    if request["do"] == "precision":
        return str(found.get_compiled_model().get_property("INFERENCE_PRECISION_HINT"))
    if request["do"] == "answer":
        return found.infer({"images": batch_nhwc})["probabilities"].tolist()
    return per_picture(
        lambda: found.infer({"images": batch_nhwc}),
        pictures=len(batch_nhwc),
        callers=1,
        at_least_s=request["at_least_s"],
    )


if __name__ == "__main__":
    serve(_answer)
