"""What a picture was answered, and what became of a file.

Axes: h height, w width, c channels (RGB), k classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gclf_runtime.errors import ImageError


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The answer for one picture.

    Attributes:
        label_names: Class names, in the order of the arrays.
        probabilities_k: float32 0-1, shape (K,), sum 1.
        logits_k: float32, shape (K,), before temperature.
        best: Index of the most probable class, the first of equals; found when not given.
    """

    label_names: tuple[str, ...]
    probabilities_k: NDArray[np.float32]
    logits_k: NDArray[np.float32]
    best: int = -1

    def __post_init__(self) -> None:
        if self.best < 0:
            object.__setattr__(self, "best", int(self.probabilities_k.argmax()))

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.label_names[self.best]

    @property
    def probability(self) -> float:
        """The probability of `label`, 0-1."""
        return float(self.probabilities_k[self.best])

    def top(self, count: int) -> list[tuple[str, float]]:
        """Return the `count` most probable classes with their probabilities, best first."""
        order = np.argsort(-self.probabilities_k, kind="stable")[:count]
        return [(self.label_names[i], float(self.probabilities_k[i])) for i in order]


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of one file: exactly one of `prediction` and `error` is set.

    Attributes:
        path: Its name, as it was given or found.
        prediction: The answer.
        error: Why there is none.
        pixels_hwc: What the model saw, uint8 RGB (height, width, 3), when it was asked for.
    """

    path: str
    prediction: Prediction | None
    error: ImageError | None
    pixels_hwc: NDArray[np.uint8] | None = None
