# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6", "openvino==2026.4.1"]
# [tool.uv]
# exclude-newer = "2026-11-22T00:00:00Z"
# ///
"""OpenVINO as its documentation has it: `Core.compile_model` of our file.

With one thread it is told to care for latency, and one infer request is run; with several for
throughput, and as many requests as it says suit it are run at the same time. `f32` asks for exact
arithmetic; `default` leaves it to OpenVINO, which may take bfloat16.
"""

from functools import cache, partial
from typing import Any

import numpy as np
import openvino as ov  # pyright: ignore[reportMissingImports]
from numpy.typing import NDArray

from benchmarks.turns.serving import per_picture, serve


@cache
def _requests(model: str, threads: int, precision: str) -> list[Any]:
    hint = "LATENCY" if threads == 1 else "THROUGHPUT"
    options: dict[str, Any] = {"PERFORMANCE_HINT": hint, "INFERENCE_NUM_THREADS": threads}
    if precision != "default":
        options["INFERENCE_PRECISION_HINT"] = precision
    compiled = ov.Core().compile_model(model, "CPU", options)
    count = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") if threads > 1 else 1
    return [compiled.create_infer_request() for _ in range(count)]


@cache
def _pixels(path: str) -> NDArray[np.uint8]:
    return np.load(path)


def _answer(request: dict[str, Any]) -> Any:
    requests = _requests(request["model"], request["threads"], request["variant"])
    batch_nhwc = _pixels(request["pixels"])[: request["batch"]]
    if request["do"] == "answer":
        return requests[0].infer({"images": batch_nhwc})["probabilities"].tolist()
    return per_picture(
        [partial(each.infer, {"images": batch_nhwc}) for each in requests],
        pictures=len(batch_nhwc),
        at_least_s=request["at_least_s"],
    )


if __name__ == "__main__":
    serve(_answer)
