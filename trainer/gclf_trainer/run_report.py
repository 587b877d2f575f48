"""The page of a finished training, out of what its folder and its network say.

Axes: n pictures, k classes.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor

from gclf_runtime import ModelSpec
from gclf_trainer.answers import Answers, Samples
from gclf_trainer.audit import Audit
from gclf_trainer.calibration import Calibration
from gclf_trainer.groups import Attributes, Groups, group_scores
from gclf_trainer.loop import Training
from gclf_trainer.pixels import Dataset
from gclf_trainer.report import Report
from gclf_trainer.run import Run
from gclf_trainer.trained import Trained


def groups_of(
    trained: Trained, dataset: Dataset, attributes: Attributes, cross: Sequence[tuple[str, str]]
) -> Groups:
    """Measure the groups of the test split, or of validation where there is none."""
    split = dataset.test if trained.test else dataset.val
    right_n = (trained.test or trained.val).predicted_n == split.labels_n
    return group_scores(attributes, split.paths, right_n, cross=cross)


def page(
    run: Run,
    dataset: Dataset,
    training: Training,
    calibration: Calibration,
    logits: Mapping[str, Tensor],
    *,
    network: str,
    promise: ModelSpec,
    audit: Audit,
    groups: Groups | None,
    command: str,
    facts: Mapping[str, str],
) -> str:
    """Make RUN/report.html: figures, curves, tables and pictures of the best epoch.

    Args:
        run: The folder, with its epochs.
        dataset: What was learnt from.
        training: What learnt; it makes the sheet of samples.
        calibration: Of the best epoch.
        logits: Of the best epoch by split, float32 (N, K): `validation`, and `test` if there is.
        network: Its name.
        promise: With the normalisation that it learnt with.
        audit: What was found in the dataset.
        groups: Of the test split, or of validation where there is none.
        command: What repeats the run.
        facts: Versions, digests, device, precision: by name.
    """
    answers = partial(Answers.from_logits, temperature=calibration.temperature)
    validation = answers("validation", dataset.val, logits["validation"])
    test = answers("test", dataset.test, logits["test"]) if "test" in logits else None
    samples = Samples.from_batch(*training.first_batch(), mean=promise.mean, std=promise.std)
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
