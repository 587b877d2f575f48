"""How good a network is: logits over a split, and what follows from them.

Axes: n pictures, h height, w width, c channels (RGB), k classes.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name every PyTorch reader knows

from gclf_trainer.scores import confusion

EVALUATED = 256  # pictures at once


@dataclass(frozen=True)
class Evaluation:
    """What a network answered on a split.

    Attributes:
        loss: Mean cross-entropy, in nats, without label smoothing.
        accuracy: Fraction of right answers, 0-1.
        predicted_n: Class indices, shape (N,).
        confusion_kk: Counts, shape (K, K): rows are the truth, columns the answers.
    """

    loss: float
    accuracy: float
    predicted_n: NDArray[np.int64]
    confusion_kk: NDArray[np.int64]


class Normalise(nn.Module):
    """Turn 0-255 pixels into what the network expects; part of the exported graph.

    Args:
        mean: Per-channel mean of pixels scaled to 0-1.
        std: Per-channel standard deviation, likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1) * 255)

    def forward(self, pixels_nchw: Tensor) -> Tensor:
        """Normalise float 0-255 pixels."""
        return (pixels_nchw - self.mean) / self.std


def to_nchw(pixels_nhwc: Tensor) -> Tensor:
    """Turn uint8 NHWC to float NCHW; in memory it stays NHWC, which is torch's channels_last."""
    return pixels_nhwc.permute(0, 3, 1, 2).float()


@torch.inference_mode()
def logits(
    network: nn.Module, normalise: Normalise, batches: Iterable[Tensor], count: int
) -> Tensor:
    """Compute logits in float32, never in a reduced precision, whatever the device.

    Args:
        network: Takes normalised NCHW pixels.
        normalise: Its normalisation.
        batches: uint8 0-255, shape (B, H, W, 3), on the network's device, at least one of them.
        count: N, how many pictures there are in all batches together.

    Returns:
        float32, shape (N, K), on the CPU.
    """
    network.eval()
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        parts = (network(normalise(to_nchw(pixels_nhwc))) for pixels_nhwc in batches)
        # Into one tensor made beforehand: small ones kept between the large ones that are freed
        # would hold all of those in the heap, 50 KB for each picture of 64×64.
        first_nk = next(parts)
        logits_nk = torch.empty(count, first_nk.shape[1])
        done = 0
        for part_nk in itertools.chain([first_nk], parts):
            logits_nk[done : done + len(part_nk)] = part_nk
            done += len(part_nk)
    return logits_nk


def evaluate(logits_nk: Tensor, labels_n: Tensor) -> Evaluation:
    """Compare logits with the truth; both on the CPU, N at least 1."""
    predicted_n = logits_nk.argmax(1)
    return Evaluation(
        loss=float(F.cross_entropy(logits_nk, labels_n)),
        accuracy=float((predicted_n == labels_n).double().mean()),
        predicted_n=predicted_n.numpy(),
        confusion_kk=confusion(labels_n.numpy(), predicted_n.numpy(), logits_nk.shape[1]),
    )
