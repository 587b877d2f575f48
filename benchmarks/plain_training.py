"""Training the plain way, as tutorials do: ImageFolder, DataLoader, transforms, eager float32."""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name every PyTorch reader knows
from torch.utils.data import DataLoader
from torchvision import transforms  # pyright: ignore[reportMissingTypeStubs]
from torchvision.datasets import ImageFolder  # pyright: ignore[reportMissingTypeStubs]

from gclf_trainer import Recipe
from gclf_trainer.optimizers import scheduler_of

SIZE, MEAN, STD = 64, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class PlainTraining:
    """Learn from pictures that are decoded, resized and augmented by workers, one per CPU.

    Args:
        network: What learns, in float32 and NCHW.
        data: A folder of class folders.
        paths: The pictures in it to learn from.
        recipe: Of an AdamW, one cycle and a clipped gradient.
        device: Pinned memory is used on CUDA.

    Attributes:
        seconds: Of all epochs.
        waited: Seconds of them in which the network had no pictures.
    """

    def __init__(
        self,
        network: nn.Module,
        data: Path,
        paths: Sequence[Path],
        recipe: Recipe,
        device: torch.device,
    ) -> None:
        self._device = device
        self._loader: DataLoader[Any] = DataLoader(
            _pictures(data, paths),
            batch_size=recipe.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=len(os.sched_getaffinity(0)),
            persistent_workers=True,
            pin_memory=device.type == "cuda",
        )
        self._network = network.to(device)
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(), lr=recipe.peak_rate, weight_decay=recipe.decay
        )
        self._scheduler = scheduler_of(self._optimizer, recipe, len(self._loader))
        self._clip_norm = recipe.clip_norm
        self.seconds, self.waited = 0.0, 0.0

    def run_epoch(self) -> float:
        """Learn from every picture once; return pictures per second."""
        self._network.train()
        start = time.perf_counter()
        learnt, waited, total = 0, 0.0, 0.0
        for taken, (pixels, labels) in _waiting(iter(self._loader)):
            waited += taken
            pixels = pixels.to(self._device, non_blocking=True)
            labels = labels.to(self._device, non_blocking=True)
            loss = F.cross_entropy(self._network(pixels), labels)
            self._optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self._network.parameters(), self._clip_norm)
            self._optimizer.step()
            self._scheduler.step()
            total += loss.item()  # to show it, as everyone does
            learnt += len(labels)
        seconds = time.perf_counter() - start
        self.seconds, self.waited = self.seconds + seconds, self.waited + waited
        return learnt / seconds


def _pictures(data: Path, paths: Sequence[Path]) -> ImageFolder:
    steps = [
        transforms.Resize((SIZE, SIZE)),
        transforms.RandomCrop((SIZE, SIZE), padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
    pictures = ImageFolder(str(data), transforms.Compose(steps))
    wanted = {str(path) for path in paths}  # not those of validation
    pictures.samples = [sample for sample in pictures.samples if sample[0] in wanted]
    assert len(pictures) == len(wanted)
    return pictures


def _waiting(batches: Iterator[Any]) -> Iterator[tuple[float, Any]]:
    """Yield each batch with the seconds that it was waited for."""
    while True:
        start = time.perf_counter()
        try:
            batch = next(batches)
        except StopIteration:
            return
        yield time.perf_counter() - start, batch
