"""What came of a training.

Axes: n pictures, k classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gclf_trainer import checkpoint
from gclf_trainer.batches import Pixels
from gclf_trainer.evaluation import EVALUATED, Evaluation, Normalise, evaluate, logits
from gclf_trainer.pixels import Dataset, Split


@dataclass(frozen=True)
class Trained:
    """What came of a training: the best epoch by validation, measured again from its file.

    `logits` are float32 (N, K) by split: `validation`, and `test` if there is one.
    """

    checkpoint: Path
    label_names: tuple[str, ...]
    val: Evaluation
    test: Evaluation | None
    logits: Mapping[str, Tensor]


def measured(path: Path, dataset: Dataset, place: torch.device) -> Trained:
    """Measure a checkpoint on validation and, if there is one, on the test split."""
    best = checkpoint.load(path)
    network = best.network.to(place).to(memory_format=torch.channels_last)
    normalise = Normalise(best.spec.mean, best.spec.std).to(place)

    def answer(split: Split) -> Tensor:
        pixels = Pixels(split.pixels_nhwc, place, is_held=False)
        batches = pixels.batches(torch.arange(len(pixels)), EVALUATED)
        return logits(network, normalise, batches, len(pixels))

    def measure(split: Split, logits_nk: Tensor) -> Evaluation:
        return evaluate(logits_nk, torch.from_numpy(split.labels_n))

    answers = {"validation": answer(dataset.val)}
    if dataset.test.paths:
        answers["test"] = answer(dataset.test)
    val = measure(dataset.val, answers["validation"])
    test = measure(dataset.test, answers["test"]) if dataset.test.paths else None
    return Trained(path, dataset.label_names, val, test, answers)
