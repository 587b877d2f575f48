"""Which int8: the calibration that stays nearest to the checkpoint, and what must stay in float.

Half of the calibration pictures set the ranges, the other half judges; validation pictures are
seen only by the certificate. A few hundred training pictures cannot tell two calibrations apart by
their accuracy, so the mean difference of the probabilities does. The first matrix is kept in
float32, as the last always is, where int8 costs too much accuracy on those pictures.
Axes: n pictures, h height, w width, c channels (RGB), k classes.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from gclf_export.calibrate import METHODS, Method, Range, find_ranges
from gclf_export.errors import ExportError
from gclf_export.quantize import Kept, quantised_tensors, to_int8
from gclf_runtime import ModelSpec
from gclf_runtime.model_file import seal
from gclf_runtime.session import OnnxSession

_BATCH = 64


@dataclass(frozen=True)
class Trial:
    """One way to quantise, judged.

    Attributes:
        model: The graph.
        method: How its ranges were found.
        kept: What of it stays in float32.
        mean_difference: Mean total variation from the float graph's probabilities, 0-1.
        drop: Accuracy it costs, 0-1.
    """

    model: onnx.ModelProto
    method: Method
    kept: Kept
    mean_difference: float
    drop: float


def best_int8(
    model: onnx.ModelProto,
    spec: ModelSpec,
    pixels_nhwc: NDArray[np.uint8],
    labels_n: NDArray[np.int64],
    *,
    max_drop: float,
) -> Trial:
    """Quantise a graph in several ways and return the best.

    Args:
        model: What `graph.to_onnx` returned; it is left as it is.
        spec: Its input, mean and std.
        pixels_nhwc: Training pictures, uint8 0-255, shape (N, H, W, 3), at least 2, in any order.
        labels_n: Their classes.
        max_drop: How much accuracy may go before more is kept in float32, 0-1.

    Raises:
        ExportError: There are fewer than 2 pictures.
    """
    if len(pixels_nhwc) < 2:
        raise ExportError(
            f"int8 is calibrated on one half of the training pictures and judged on the other, "
            f"got {len(pixels_nhwc)}. Give at least 2, better some hundred"
        )
    order = np.random.default_rng(0).permutation(len(pixels_nhwc))
    half = len(order) // 2
    ranges = find_ranges(model, quantised_tensors(model), pixels_nhwc[order[:half]])
    judge = _Judge(model, spec, pixels_nhwc[order[half:]], labels_n[order[half:]])
    trials = [judge.trial(ranges[method], method, "last") for method in METHODS]
    best = min(trials, key=_distance)
    if best.drop <= max_drop:
        return best
    careful = judge.trial(ranges[best.method], best.method, "first and last")
    return careful if careful.drop <= max_drop else min(best, careful, key=_distance)


def _distance(trial: Trial) -> float:
    return trial.mean_difference


class _Judge:
    """Compares int8 with float on pictures that calibrated nothing."""

    def __init__(
        self,
        model: onnx.ModelProto,
        spec: ModelSpec,
        pixels_nhwc: NDArray[np.uint8],
        labels_n: NDArray[np.int64],
    ) -> None:
        self._model, self._spec = model, spec
        self._pixels_nhwc, self._labels_n = pixels_nhwc, labels_n
        self._float_nk = self._answers(model)

    def trial(self, ranges: Mapping[str, Range], method: Method, kept: Kept) -> Trial:
        quantised = to_int8(self._model, self._spec, ranges, kept=kept)
        answers_nk = self._answers(quantised)
        difference = float(np.abs(answers_nk - self._float_nk).sum(1).mean()) / 2
        drop = self._accuracy(self._float_nk) - self._accuracy(answers_nk)
        return Trial(quantised, method, kept, difference, drop)

    def _accuracy(self, answers_nk: NDArray[np.float32]) -> float:
        return float((answers_nk.argmax(1) == self._labels_n).mean())

    def _answers(self, model: onnx.ModelProto) -> NDArray[np.float32]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trial.onnx"
            path.write_bytes(seal(model.SerializeToString()))
            session = OnnxSession(path, device="cpu", spec=self._spec)
        starts = range(0, len(self._pixels_nhwc), _BATCH)
        parts = [session.run(self._pixels_nhwc[start : start + _BATCH])[0] for start in starts]
        return np.concatenate(parts)
