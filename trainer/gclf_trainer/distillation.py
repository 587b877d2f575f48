"""Distillation: a network in training also follows the answers of a trained one, its teacher.

Axes: n batch, h height, w width, c channels (RGB), k classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name every PyTorch reader knows

from gclf_runtime import InputSpec
from gclf_trainer import checkpoint
from gclf_trainer.errors import CheckpointError
from gclf_trainer.evaluation import Normalise


@dataclass(frozen=True)
class Teacher:
    """A trained network that answers, and learns nothing.

    It sees every batch as the one that it teaches does, augmented and mixed (Beyer et al. 2022,
    "Knowledge distillation: a good teacher is patient and consistent").

    Attributes:
        network: In evaluation mode.
        normalise: Its own normalisation.
        sha256: Digest of its checkpoint.
    """

    network: nn.Module
    normalise: Normalise
    sha256: str

    def to(self, device: torch.device) -> "Teacher":
        """Move it to a device."""
        network = self.network.to(device).to(memory_format=torch.channels_last)
        return Teacher(network, self.normalise.to(device), self.sha256)

    @torch.no_grad()  # and not inference_mode, whose tensors no loss can go back through
    def logits(self, pixels_nchw: Tensor) -> Tensor:
        """Answer float pixels, 0-255, shape (N, 3, H, W), by logits (N, K)."""
        return self.network(self.normalise(pixels_nchw))


def read_teacher(path: Path, label_names: Sequence[str], spec: InputSpec) -> Teacher:
    """Read a checkpoint of gclf-train that can teach these classes on these pixels.

    Raises:
        CheckpointError: It is missing, foreign or damaged, or made for other classes or pixels.
    """
    known = checkpoint.load(path, option="--teacher-network")
    if known.spec.label_names != tuple(label_names):
        raise CheckpointError(
            f"{path} tells {', '.join(known.spec.label_names[:5])}, and the pictures are "
            f"{', '.join(label_names[:5])}. Train a teacher on the same classes"
        )
    if known.spec.input != spec:
        size = f"{known.spec.input.width}×{known.spec.input.height}, {known.spec.input.fit}"
        raise CheckpointError(
            f"{path} takes other pixels ({size}). Pass its --size and --fit, or another --teacher"
        )
    return Teacher(known.network, Normalise(known.spec.mean, known.spec.std), known.sha256)


def distillation_loss(predicted_nk: Tensor, taught_nk: Tensor, *, temperature: float) -> Tensor:
    """Return how far answers are from the teacher's (Hinton et al. 2015).

    The Kullback-Leibler divergence of both softened by the temperature, times its square, which
    keeps the gradient's length comparable with that of the cross-entropy.

    Args:
        predicted_nk: Logits, float32, shape (N, K).
        taught_nk: The teacher's.
        temperature: Above 0; 1 softens nothing.
    """
    predicted_log_nk = F.log_softmax(predicted_nk / temperature, 1)
    taught_log_nk = F.log_softmax(taught_nk / temperature, 1)
    divergence = F.kl_div(predicted_log_nk, taught_log_nk, reduction="batchmean", log_target=True)
    return divergence * temperature**2
