"""Answers: what a network made of a split, picture by picture, and what it was shown to learn.

Axes: n pictures, h height, w width, c channels (RGB), k classes.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gclf_trainer.pixels import Split
from gclf_trainer.scores import Score, confusion

SplitName = Literal["validation", "test"]


@dataclass(frozen=True)
class Answers:
    """A network's probabilities for a split.

    Attributes:
        name: Of the split.
        split: The pictures and their labels, N at least 1.
        probabilities_nk: After the temperature, 0-1, shape (N, K).
    """

    name: SplitName
    split: Split
    probabilities_nk: NDArray[np.float64]

    @classmethod
    def from_logits(
        cls, name: SplitName, split: Split, logits_nk: Tensor, *, temperature: float
    ) -> "Answers":
        """Make probabilities of logits, shape (N, K), on the CPU."""
        return cls(name, split, torch.softmax(logits_nk.double() / temperature, 1).numpy())

    @property
    def predicted_n(self) -> NDArray[np.int64]:
        """Class indices."""
        return self.probabilities_nk.argmax(1)

    @property
    def right_n(self) -> NDArray[np.bool_]:
        """Whether each answer is right."""
        return self.predicted_n == self.split.labels_n

    @property
    def score(self) -> Score:
        """The accuracy."""
        return Score(self.name, int(self.right_n.sum()), len(self.right_n))

    @property
    def confusion_kk(self) -> NDArray[np.int64]:
        """Counts: rows are the truth, columns the answers."""
        return confusion(self.split.labels_n, self.predicted_n, self.probabilities_nk.shape[1])

    def mistakes(self, limit: int) -> list[int]:
        """Return the wrong answers, the most confident first."""
        return self._ordered(~self.right_n, -self.probabilities_nk.max(1), limit)

    def hardest(self, limit: int) -> list[int]:
        """Return the right answers, the least confident first."""
        return self._ordered(self.right_n, self.probabilities_nk.max(1), limit)

    def _ordered(
        self, chosen_n: NDArray[np.bool_], key_n: NDArray[np.float64], limit: int
    ) -> list[int]:
        indices: list[int] = chosen_n.nonzero()[0].tolist()
        return sorted(indices, key=lambda index: float(key_n[index]))[:limit]


@dataclass(frozen=True)
class Samples:
    """Training pictures as the network saw them, after augmentation and mixing.

    Attributes:
        pixels_nhwc: uint8 0-255, shape (N, H, W, 3).
        targets_nk: The share of each class in what was to be learnt, 0-1, shape (N, K).
    """

    pixels_nhwc: NDArray[np.uint8]
    targets_nk: NDArray[np.float64]

    @classmethod
    def from_batch(
        cls,
        pixels_nchw: Tensor,
        targets_nk: Tensor,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> "Samples":
        """Turn a batch that went into the network back to pixels.

        Args:
            pixels_nchw: Normalised, shape (N, 3, H, W), on any device. What augmentation
                brightened beyond 0-255 is cut there.
            targets_nk: One-hot or mixed, before label smoothing, shape (N, K).
            mean: The normalisation's, of pixels scaled to 0-1.
            std: Likewise.
        """
        pixels_nhwc = pixels_nchw.detach().float().cpu().permute(0, 2, 3, 1)
        pixels_nhwc = (pixels_nhwc * torch.tensor(std) + torch.tensor(mean)) * 255
        rounded_nhwc = pixels_nhwc.round().clamp(0, 255).to(torch.uint8)
        return cls(rounded_nhwc.numpy(), targets_nk.detach().double().cpu().numpy())
