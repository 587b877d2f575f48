"""An app whose threads send one encoded picture per request, and wait for its answer.

Variants: `gclf` shares one Classifier; `default` is what people write, Pillow and one shared
InferenceSession at its defaults; `one thread` is the same with a compute thread per call.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray
from PIL import Image

from benchmarks.turns.serving import closed_loop, serve
from gclf_runtime import Classifier

_Classify = Callable[[bytes], NDArray[np.float32]]


@cache
def _classify(model: str, variant: str) -> _Classify:
    if variant == "gclf":
        classifier = Classifier(Path(model), device="cpu")
        return lambda data: classifier.predict_images([data])[0].probabilities_k
    options = ort.SessionOptions()
    if variant == "one thread":
        options.intra_op_num_threads = 1
    session: Any = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def plainly(data: bytes) -> NDArray[np.float32]:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        pixels_hwc = np.array(image.resize((64, 64), Image.Resampling.BILINEAR))
        return session.run(["probabilities"], {"images": pixels_hwc[None]})[0][0]

    return plainly


@cache
def _pictures(folder: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(Path(folder).rglob("*.jpg"))]


def _answer(request: dict[str, Any]) -> Any:
    classify = _classify(request["model"], request["variant"])
    pictures, callers = _pictures(request["pictures"]), request["callers"]
    if request["do"] == "answer":
        return [list(map(float, classify(data))) for data in pictures]
    starts = (index * len(pictures) // callers for index in range(callers))
    works = [_caller(classify, islice(cycle(pictures), start, None)) for start in starts]
    return asdict(closed_loop(works, at_least_s=request["at_least_s"]))


def _caller(classify: _Classify, pictures: Iterator[bytes]) -> Callable[[], object]:
    return lambda: classify(next(pictures))


if __name__ == "__main__":
    serve(_answer)
