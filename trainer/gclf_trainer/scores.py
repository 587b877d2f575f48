"""Scores: how often a network is right, with what precision and with what certainty.

Intervals are Wilson's (1927), 95 %.
Axes: k classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_Z = 1.959964  # two-sided 95 %


def wilson(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, 0-1; the whole range when `count` is 0."""
    if not count:
        return 0.0, 1.0
    share, width = right / count, _Z**2 / count
    middle = (share + width / 2) / (1 + width)
    reach = _Z / (1 + width) * (share * (1 - share) / count + width / (4 * count)) ** 0.5
    return max(0.0, middle - reach), min(1.0, middle + reach)


@dataclass(frozen=True)
class Score:
    """How many of some pictures were answered rightly."""

    name: str
    right: int
    count: int

    @property
    def share(self) -> float:
        """The accuracy, 0-1; 0 without pictures."""
        return self.right / max(1, self.count)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy."""
        return wilson(self.right, self.count)

    def to_record(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "count": self.count,
            "right": self.right,
            "accuracy": self.share,
            "interval": list(self.interval),
        }


@dataclass(frozen=True)
class ClassScore(Score):
    """One class: `count` pictures are of it, `answered` were said to be."""

    answered: int

    @property
    def precision(self) -> float | None:
        """The share of the answers that were right, or None if it was never answered."""
        return self.right / self.answered if self.answered else None

    @property
    def recall(self) -> float | None:
        """The share of its pictures that were found, or None if there are none."""
        return self.right / self.count if self.count else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of both, or None if it neither occurs nor was answered."""
        total = self.count + self.answered
        return 2 * self.right / total if total else None


def confusion(
    labels_n: NDArray[np.int64], predicted_n: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Count answers, shape (K, K): rows are the truth, columns the answers."""
    pairs_n = labels_n * classes + predicted_n
    return np.bincount(pairs_n, minlength=classes**2).reshape(classes, classes)


def class_scores(
    confusion_kk: NDArray[np.int64], label_names: Sequence[str]
) -> tuple[ClassScore, ...]:
    """Measure each class.

    Args:
        confusion_kk: Counts, shape (K, K): rows are the truth, columns the answers.
        label_names: Names of the classes.
    """
    columns = (np.diag(confusion_kk), confusion_kk.sum(1), confusion_kk.sum(0))
    numbers = zip(*(column.tolist() for column in columns), strict=True)
    pairs = zip(label_names, numbers, strict=True)
    return tuple(ClassScore(name, *three) for name, three in pairs)
