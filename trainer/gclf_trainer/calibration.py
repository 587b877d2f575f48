"""Calibration: one temperature that makes probabilities mean what they say.

Guo et al., "On Calibration of Modern Neural Networks", 2017. No answer changes: dividing the
logits by a number keeps their order.
Axes: n pictures, k classes, b bins of confidence.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name every PyTorch reader knows

BINS = 15  # of equal width, as in the paper
_LOWEST, _HIGHEST = 0.05, 20.0
_DRAWS = 100


@dataclass(frozen=True)
class Reliability:
    """How often answers of a given confidence are right, in bins of equal width from 0 to 1.

    Attributes:
        count_b: Pictures by bin, shape (15,); bin i holds confidences in (i/15, (i+1)/15].
        confidence_b: Their mean confidence, 0-1; 0 where the bin is empty.
        right_b: How many of them were right.
        error: Expected calibration error, 0-1: the mean distance between confidence and accuracy
            of a bin, weighted by its pictures.
    """

    count_b: NDArray[np.int64]
    confidence_b: NDArray[np.float64]
    right_b: NDArray[np.int64]
    error: float


@dataclass(frozen=True)
class Calibration:
    """What a temperature does to a validation split.

    Attributes:
        fitted: The temperature with the least cross-entropy on the whole split.
        before: Of the network's own probabilities.
        after: Cross-fitted: each half is divided by the temperature that the other half gave, so
            no picture is judged with a temperature that it had a part in.
        loss_before: Mean cross-entropy in nats.
        loss_after: Likewise, cross-fitted.
        least_error: What the error would be, on average, if each cross-fitted confidence were
            exactly right: bins with few pictures differ from their confidence by chance. An error
            as low as this cannot be told from 0.
    """

    fitted: float
    before: Reliability
    after: Reliability
    loss_before: float
    loss_after: float
    least_error: float

    @property
    def is_kept(self) -> bool:
        """Whether it lowered the cross-entropy of pictures that it was not fitted on."""
        return self.loss_after < self.loss_before

    @property
    def temperature(self) -> float:
        """What `ModelSpec.temperature` should be: the fitted one if it helps, otherwise 1."""
        return self.fitted if self.is_kept else 1.0

    @property
    def error(self) -> float:
        """The calibration error at that temperature, 0-1, cross-fitted."""
        return self.after.error if self.is_kept else self.before.error


def fit_temperature(logits_nk: Tensor, labels_n: Tensor) -> float:
    """Find the temperature with the least cross-entropy.

    The cross-entropy is convex in 1/temperature, so halving an interval by its slope finds the
    one minimum, the same each time.

    Args:
        logits_nk: Finite logits, shape (N, K). N may be 0.
        labels_n: int64 class indices, shape (N,).

    Returns:
        A number from 0.05 to 20, to four decimals. 1 when no answer is wrong (or there is none):
        then nothing says how sure to be, and the least cross-entropy is at infinite confidence.

    Raises:
        ValueError: A logit is not a finite number.
    """
    logits_nk = logits_nk.double()
    if not torch.isfinite(logits_nk).all():
        raise ValueError("logits must be finite numbers to fit a temperature")
    if bool((logits_nk.argmax(1) == labels_n).all()):
        return 1.0
    low, high = np.log(1 / _HIGHEST), np.log(1 / _LOWEST)
    for _ in range(50):  # until the interval is as narrow as a float64
        middle = (low + high) / 2
        if _slope(logits_nk, labels_n, float(np.exp(middle))) > 0:
            high = middle
        else:
            low = middle
    return round(float(np.exp(-(low + high) / 2)), 4)


def _slope(logits_nk: Tensor, labels_n: Tensor, inverse: float) -> float:
    """Differentiate the cross-entropy by 1/temperature."""
    expected_n = (torch.softmax(logits_nk * inverse, 1) * logits_nk).sum(1)
    true_n = logits_nk.gather(1, labels_n[:, None])[:, 0]
    return float((expected_n - true_n).mean())


def measure_reliability(
    probabilities_nk: NDArray[np.floating], labels_n: NDArray[np.int64]
) -> Reliability:
    """Compare confidence with accuracy.

    Args:
        probabilities_nk: 0-1, shape (N, K). N may be 0, and then the error is 0.
        labels_n: Class indices, shape (N,).
    """
    confidence_n = probabilities_nk.max(1, initial=0).astype(np.float64)
    return _reliability(confidence_n, probabilities_nk.argmax(1) == labels_n)


def _reliability(confidence_n: NDArray[np.float64], right_n: NDArray[np.bool_]) -> Reliability:
    bin_n = np.clip(np.ceil(confidence_n * BINS).astype(np.int64) - 1, 0, BINS - 1)
    count_b = np.bincount(bin_n, minlength=BINS)
    sum_b = np.bincount(bin_n, confidence_n, BINS)
    right_b = np.bincount(bin_n, right_n, BINS)
    error = float(np.abs(sum_b - right_b).sum()) / max(1, len(confidence_n))
    mean_b = sum_b / np.maximum(1, count_b)
    return Reliability(count_b, mean_b, right_b.astype(np.int64), error)


def calibrate(logits_nk: Tensor, labels_n: Tensor) -> Calibration:
    """Fit a temperature and measure honestly what it does.

    Args:
        logits_nk: Of the validation split, shape (N, K), on the CPU. N at least 1.
        labels_n: int64 class indices, shape (N,).

    Raises:
        ValueError: A logit is not a finite number.
    """
    logits_nk = logits_nk.double()
    first_n = _halves(labels_n)
    crossed_nk = logits_nk.clone()
    for half_n in (first_n, ~first_n):
        crossed_nk[half_n] /= fit_temperature(logits_nk[~half_n], labels_n[~half_n])
    before_nk, after_nk = torch.softmax(logits_nk, 1).numpy(), torch.softmax(crossed_nk, 1).numpy()
    return Calibration(
        fitted=fit_temperature(logits_nk, labels_n),
        before=measure_reliability(before_nk, labels_n.numpy()),
        after=measure_reliability(after_nk, labels_n.numpy()),
        loss_before=float(F.cross_entropy(logits_nk, labels_n)),
        loss_after=float(F.cross_entropy(crossed_nk, labels_n)),
        least_error=_least_error(after_nk.max(1)),
    )


def _halves(labels_n: Tensor) -> Tensor:
    """Choose every second picture of each class, as a mask."""
    first_n = torch.zeros(len(labels_n), dtype=torch.bool)
    first_n[labels_n.argsort(stable=True)[::2]] = True
    return first_n


def _least_error(confidence_n: NDArray[np.float64]) -> float:
    """Draw right and wrong by the confidences themselves, and measure the error of that."""
    generator = np.random.default_rng(0)
    draws = (generator.random(len(confidence_n)) < confidence_n for _ in range(_DRAWS))
    return float(np.mean([_reliability(confidence_n, right_n).error for right_n in draws]))
