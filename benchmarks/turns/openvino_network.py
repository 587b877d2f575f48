# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6", "openvino==2026.4.1"]
# [tool.uv]
# exclude-newer = "2026-11-22T00:00:00Z"
# ///
"""OpenVINO as its documentation has it: `Core.compile_model` of our file, for one shape.

With one thread it is told to care for latency, and one infer request is run; with several for
throughput, and as many requests as it says suit it are run at the same time. `f32` asks for exact
arithmetic; `default` leaves it to OpenVINO, which may take bfloat16. It reads the pixels where
they are, without a copy.
"""

from functools import cache, lru_cache, partial
from typing import Any

import numpy as np
import openvino as ov  # pyright: ignore[reportMissingImports]
from numpy.typing import NDArray

from benchmarks.turns.serving import per_picture, serve


@lru_cache(maxsize=1)  # one shape is measured after the other
def _requests(model: str, shape: tuple[int, ...], threads: int, precision: str) -> list[Any]:
    hint = "LATENCY" if threads == 1 else "THROUGHPUT"
    options: dict[str, Any] = {"PERFORMANCE_HINT": hint, "INFERENCE_NUM_THREADS": threads}
    if precision != "default":
        options["INFERENCE_PRECISION_HINT"] = precision
    core = ov.Core()
    network = core.read_model(model)
    network.reshape(list(shape))
    compiled = core.compile_model(network, "CPU", options)
    count = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") if threads > 1 else 1
    return [compiled.create_infer_request() for _ in range(count)]


@cache
def _pixels(path: str) -> NDArray[np.uint8]:
    return np.load(path)


def _answer(request: dict[str, Any]) -> Any:
    batch_nhwc = _pixels(request["pixels"])[: request["batch"]]
    requests = _requests(request["model"], batch_nhwc.shape, request["threads"], request["variant"])
    if request["do"] == "answer":
        answer = requests[0].infer({"images": batch_nhwc}, share_inputs=True)
        return answer["probabilities"].tolist()
    return per_picture(
        [partial(each.infer, {"images": batch_nhwc}, share_inputs=True) for each in requests],
        pictures=len(batch_nhwc),
        at_least_s=request["at_least_s"],
    )


if __name__ == "__main__":
    serve(_answer)
