"""What came of a training: its best epoch, measured and calibrated.

Axes: n pictures, k classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from gclf_trainer import checkpoint
from gclf_trainer.batches import Pixels
from gclf_trainer.calibration import Calibration, calibrate
from gclf_trainer.checkpoint import Checkpoint
from gclf_trainer.evaluation import EVALUATED, Evaluation, Normalise, evaluate, logits
from gclf_trainer.pixels import Dataset, Split


@dataclass(frozen=True)
class Trained:
    """What came of a training: the best epoch by validation, measured again from its file.

    `logits` are float32 (N, K) by split: `validation`, and `test` if there is one. The test split
    is measured when the training ends and never again: of a run that was over before,
    RUN/result.json has its figures, and `test` is None.
    """

    checkpoint: Path
    label_names: tuple[str, ...]
    val: Evaluation
    test: Evaluation | None
    logits: Mapping[str, Tensor]


def measured(
    path: Path, best: Checkpoint, dataset: Dataset, place: torch.device, *, with_test: bool
) -> Trained:
    """Measure a checkpoint, read from `path`, on validation and, if asked, on the test split."""
    network = best.network.to(place).to(memory_format=torch.channels_last)
    normalise = Normalise(best.spec.mean, best.spec.std).to(place)

    def answer(split: Split) -> Tensor:
        pixels = Pixels(split.pixels_nhwc, place, is_held=False)
        batches = pixels.batches(torch.arange(len(pixels)), EVALUATED)
        return logits(network, normalise, batches, len(pixels))

    def measure(split: Split, logits_nk: Tensor) -> Evaluation:
        return evaluate(logits_nk, torch.from_numpy(split.labels_n))

    answers = {"validation": answer(dataset.val)}
    if with_test and dataset.test.paths:
        answers["test"] = answer(dataset.test)
    val = measure(dataset.val, answers["validation"])
    test = measure(dataset.test, answers["test"]) if "test" in answers else None
    return Trained(path, dataset.label_names, val, test, answers)


def calibrated(
    path: Path, best: Checkpoint, dataset: Dataset, val_logits_nk: Tensor
) -> Calibration:
    """Fit the temperature of a checkpoint on validation, and write it to `path`."""
    calibration = calibrate(val_logits_nk, torch.from_numpy(dataset.val.labels_n))
    errors = {"val_ece": calibration.error, "val_ece_before": calibration.before.error}
    spec = replace(
        best.spec,
        temperature=calibration.temperature,
        metrics={**best.spec.metrics, **errors},
    )
    checkpoint.save(path, best.network_name, best.network, spec)
    return calibration
