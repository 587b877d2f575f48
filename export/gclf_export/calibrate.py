"""The ranges of a graph's activations, found in three ways from one pass over training pictures.

onnxruntime's own calibrators keep every activation in memory (1.2 GB for 256 small pictures), and
its entropy, with as many bins as levels, is its min-max.
Axes: n pictures, h height, w width, c channels (RGB).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import onnx
import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

Method = Literal["minmax", "entropy", "percentile"]
Range = tuple[float, float]
METHODS: tuple[Method, ...] = get_args(Method)

_PERCENTILE = 99.99
_BINS = 4096
_CANDIDATES = 96  # thresholds that entropy tries
_BATCH = 16
_VALUES = 100_000  # of a tensor in a batch that are counted; every one is in its ends


@dataclass
class _Seen:
    """The values of one tensor: their ends, and how often each magnitude occurred."""

    low: float = np.inf
    high: float = -np.inf
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))

    @property
    def magnitude(self) -> float:
        return max(abs(self.low), abs(self.high)) or 1.0

    def count(self, values: NDArray[np.float32]) -> None:
        flat = values.ravel()
        some = np.abs(flat[:: len(flat) // _VALUES + 1]) * (_BINS / self.magnitude)
        bins = np.minimum(some.astype(np.int32), _BINS - 1)
        self.counts += np.bincount(bins, minlength=_BINS)

    def within(self, threshold: float) -> Range:
        return max(self.low, -threshold), min(self.high, threshold)


def find_ranges(
    model: onnx.ModelProto, names: Iterable[str], pixels_nhwc: NDArray[np.uint8]
) -> Mapping[Method, Mapping[str, Range]]:
    """Return the range of each named float tensor, by method.

    Args:
        model: A graph of the contract; it is left as it is.
        names: Tensors that it computes.
        pixels_nhwc: Pictures to compute them for, uint8 0-255, shape (N, H, W, 3), N at least 1.
    """
    seen = {name: _Seen() for name in names}
    session = _with_outputs(model, seen)
    batches = [pixels_nhwc[i : i + _BATCH] for i in range(0, len(pixels_nhwc), _BATCH)]
    for batch_nhwc in batches:
        for one, values in zip(seen.values(), _run(session, seen, batch_nhwc), strict=True):
            one.low, one.high = min(one.low, values.min()), max(one.high, values.max())
    for batch_nhwc in batches:
        for one, values in zip(seen.values(), _run(session, seen, batch_nhwc), strict=True):
            one.count(values)
    return {
        "minmax": {name: (float(one.low), float(one.high)) for name, one in seen.items()},
        "entropy": {name: one.within(_by_entropy(one)) for name, one in seen.items()},
        "percentile": {name: one.within(_by_percentile(one)) for name, one in seen.items()},
    }


def _by_percentile(seen: _Seen) -> float:
    """Return the magnitude that 99.99 % of the values do not exceed."""
    shares = np.cumsum(seen.counts) / seen.counts.sum()
    return float(np.searchsorted(shares, _PERCENTILE / 100) + 1) / _BINS * seen.magnitude


def _by_entropy(seen: _Seen) -> float:
    """Return the magnitude to clip at that loses least information (Kullback-Leibler)."""
    levels = 256 if seen.low >= 0 else 128
    candidates = np.unique(np.linspace(levels, _BINS, _CANDIDATES).astype(int))
    losses = [_divergence(seen.counts, int(bins), levels) for bins in candidates]
    return float(candidates[int(np.argmin(losses))]) / _BINS * seen.magnitude


def _divergence(counts: NDArray[np.int64], bins: int, levels: int) -> float:
    """Return how much a histogram, clipped and rounded to levels, differs from itself clipped."""
    kept = counts[:bins].astype(np.float64)
    clipped = kept.copy()
    clipped[-1] += counts[bins:].sum()
    starts = np.arange(levels) * bins // levels
    filled = np.add.reduceat((kept > 0).astype(np.float64), starts)
    means = np.add.reduceat(kept, starts) / np.maximum(filled, 1)
    widths = np.diff(np.append(starts, bins))
    rounded = np.repeat(means, widths) * (kept > 0)
    p, q = clipped / clipped.sum(), rounded / max(rounded.sum(), 1)
    present = p > 0
    return float((p[present] * np.log(p[present] / np.maximum(q[present], 1e-12))).sum())


def _with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> Any:
    """Open a graph that gives these tensors too."""
    augmented = onnx.ModelProto()
    augmented.CopyFrom(model)
    given = {output.name for output in augmented.graph.output}
    augmented.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in names
        if name not in given
    )
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised, not logged
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    data = augmented.SerializeToString()
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _run(
    session: Any, names: Iterable[str], batch_nhwc: NDArray[np.uint8]
) -> list[NDArray[np.float32]]:
    return session.run(list(names), {"images": batch_nhwc})
