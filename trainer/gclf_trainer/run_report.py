"""What is told of a finished training: its temperature, and its page.

Axes: n pictures, k classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from gclf_trainer import checkpoint
from gclf_trainer.answers import Answers, Samples
from gclf_trainer.audit import Audit
from gclf_trainer.calibration import Calibration, calibrate
from gclf_trainer.groups import Attributes, group_scores
from gclf_trainer.loop import Training
from gclf_trainer.pixels import Dataset
from gclf_trainer.report import Report
from gclf_trainer.run import Run


def calibrated(path: Path, dataset: Dataset, val_logits_nk: Tensor) -> Calibration:
    """Fit the temperature of a checkpoint on validation, and write it into the checkpoint."""
    calibration = calibrate(val_logits_nk, torch.from_numpy(dataset.val.labels_n))
    best = checkpoint.load(path)
    measured = {"val_ece": calibration.error, "val_ece_before": calibration.before.error}
    spec = replace(
        best.spec,
        temperature=calibration.temperature,
        metrics={**best.spec.metrics, **measured},
    )
    checkpoint.save(path, best.network_name, best.network, spec)
    return calibration


def page(
    run: Run,
    dataset: Dataset,
    training: Training,
    calibration: Calibration,
    logits: Mapping[str, Tensor],
    *,
    network: str,
    audit: Audit,
    attributes: Attributes | None,
    command: str,
    facts: Mapping[str, str],
) -> str:
    """Write RUN/report.html: figures, curves, tables and pictures of the best epoch.

    Args:
        run: The folder, with its epochs.
        dataset: What was learnt from.
        training: What learnt; it makes the sheet of samples.
        calibration: Of the best epoch.
        logits: Of the best epoch by split, float32 (N, K): `validation`, and `test` if there is.
        network: Its name.
        audit: What was found in the dataset.
        attributes: Of the pictures, for figures by group.
        command: What repeats the run.
        facts: Versions, digest, device: by name.
    """
    answers = partial(Answers.from_logits, temperature=calibration.temperature)
    validation = answers("validation", dataset.val, logits["validation"])
    test = answers("test", dataset.test, logits["test"]) if "test" in logits else None
    shown = test or validation
    groups = group_scores(attributes, shown.split.paths, shown.right_n) if attributes else None
    spec = checkpoint.load(run.checkpoint).spec
    samples = Samples.from_batch(*training.first_batch(), mean=spec.mean, std=spec.std)
    return Report(
        title=f"{network}, {run.folder.name}",
        label_names=dataset.label_names,
        epochs=run.epochs,
        marks=_marks(run, training),
        validation=validation,
        test=test,
        calibration=calibration,
        groups=groups,
        samples=samples,
        findings=_findings(audit),
        command=command,
        facts=facts,
    ).to_html()


def _marks(run: Run, training: Training) -> dict[int, str]:
    marks = {run.best.number: "best"} if run.best else {}
    last = len(run.epochs)
    if last < training.recipe.epochs:
        marks[last] = f"{marks[last]}, stopped early" if last in marks else "stopped early"
    return marks


def _findings(audit: Audit) -> Sequence[tuple[str, str]]:
    return [(f.severity, f"{f.line}. {f.remedy}".rstrip(" .")) for f in audit.findings]
