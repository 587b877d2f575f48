"""The certificate: the checkpoint and an exported file, each by its whole path, compared.

The checkpoint's answers are made by `reference`, from its own spec; the file's by the runtime,
from the spec in the file. Classes are compared by name, so that a file whose outputs or names are
in another order is another model.
Axes: n pictures, k classes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gclf_export import awkward, reference
from gclf_export.errors import ExportError
from gclf_export.precision import Precision
from gclf_runtime import Classifier, ImageError
from gclf_trainer.checkpoint import Checkpoint
from gclf_trainer.folders import LabelledFiles
from gclf_trainer.scores import wilson

MAX_DIFFERENCE = 1e-4  # in fp32: kernels differ in their order of summing, by some 1e-6
# In reduced precision the accuracy decides; where more probability than this lies on other classes
# in the mean, it is another model. Measured: int8 of a 126-class resnet10 0.016 on 300 validation
# pictures and 0.031 on the awkward ones, fp16 0.0005 on both.
MAX_MEAN_DIFFERENCE, MAX_AWKWARD_MEAN_DIFFERENCE = 0.05, 0.1


@dataclass(frozen=True)
class Rung:
    """How one exported file compares with its checkpoint on one provider.

    Attributes:
        precision: Of the file.
        provider: onnxruntime's name of what ran it.
        count: Validation pictures compared.
        accuracy: Of the file, 0-1.
        accuracy_low: Lower end of its 95 % interval (Wilson).
        accuracy_high: Upper end.
        checkpoint_accuracy: Of the checkpoint, 0-1.
        checkpoint_accuracy_low: Lower end of its 95 % interval.
        checkpoint_accuracy_high: Upper end.
        agreement: Share of the pictures with the same top-1 answer, 0-1.
        mean_difference: How much probability lies on other classes, in the mean over the
            pictures (total variation), 0-1.
        max_difference: Largest difference between two probabilities of the same class.
        awkward_count: Awkward pictures compared.
        awkward_agreement: As `agreement`, on those.
        awkward_mean_difference: As `mean_difference`, on those.
        awkward_max_difference: As `max_difference`, on those.
        batch_size: Pictures per run in the timing, 0 where there was none.
        milliseconds: Median of a run, on one thread on the CPU; 0 where it was not timed.
        speedup: Median of fp32, timed in turns with it, over its own; 1 for fp32 itself.
        verdict: What was decided, and why.
    """

    precision: Precision
    provider: str
    count: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    checkpoint_accuracy: float
    checkpoint_accuracy_low: float
    checkpoint_accuracy_high: float
    agreement: float
    mean_difference: float
    max_difference: float
    awkward_count: int
    awkward_agreement: float
    awkward_mean_difference: float
    awkward_max_difference: float
    batch_size: int = 0
    milliseconds: float = 0.0
    speedup: float = 1.0
    verdict: str = ""

    @property
    def drop(self) -> float:
        """How much accuracy the file costs, 0-1."""
        return self.checkpoint_accuracy - self.accuracy

    def fault(self, *, max_drop: float) -> str:
        """Say why the file may not be used in the checkpoint's place; "" when it may.

        In fp32 no probability may differ by 1e-4, on real or awkward pictures, so that two
        answers can differ only where both classes are as likely. In reduced precision the
        accuracy may not fall by more than `max_drop` (0-1), nor more probability move to other
        classes, in the mean over the pictures, than the limit for each kind of them.
        """
        # All are written so that a figure that is not a number fails too.
        if self.precision == "fp32":
            for count, agreement, worst, what in (
                (self.count, self.agreement, self.max_difference, "validation"),
                (
                    self.awkward_count,
                    self.awkward_agreement,
                    self.awkward_max_difference,
                    "awkward",
                ),
            ):
                if not worst < MAX_DIFFERENCE:
                    return (
                        f"{agreement:.2%} of the answers to {count} {what} pictures agree, "
                        f"probabilities differ by up to {worst:.1e} (limit {MAX_DIFFERENCE:.0e})"
                    )
            return ""
        if not self.drop <= max_drop + 1e-9:
            return (
                f"it costs {self.drop:.2%} accuracy on {self.count} pictures, the limit is "
                f"{max_drop:.2%}"
            )
        for difference, limit, what in (
            (self.mean_difference, MAX_MEAN_DIFFERENCE, "validation"),
            (self.awkward_mean_difference, MAX_AWKWARD_MEAN_DIFFERENCE, "awkward"),
        ):
            if not difference <= limit:
                return (
                    f"on {what} pictures {difference:.3f} of the probability lies on other "
                    f"classes in the mean, the limit is {limit}"
                )
        return ""


class Witness:
    """What the checkpoint answers, asked once and compared with many files.

    Args:
        trained: The checkpoint.
        files: Validation pictures with their true classes, at least one.

    Raises:
        ExportError: A picture cannot be read, or the checkpoint answers with no numbers.
    """

    def __init__(self, trained: Checkpoint, files: LabelledFiles) -> None:
        self.label_names = trained.spec.label_names
        self.paths = files.paths
        self._labels_n = np.asarray(files.labels)
        self._awkward = awkward.pictures()
        names = [str(path) for path in files.paths]
        self._real_nk = reference.answer(trained, names, lambda name: Path(name).read_bytes())
        self._drawn_nk = reference.answer(trained, list(self._awkward), self._awkward.__getitem__)
        if not (np.isfinite(self._real_nk).all() and np.isfinite(self._drawn_nk).all()):
            raise ExportError(
                "the checkpoint answers with numbers that are not finite. "
                "Train it again with a lower --learning-rate"
            )

    def compare(self, exported: Classifier) -> Rung:
        """Answer the same pictures by an exported file, through the runtime's own pipeline.

        Raises:
            ExportError: It has other classes, or cannot read a picture.
            ModelError: It answers with numbers that are not finite.
        """
        order = _order(self.label_names, exported.spec.label_names)
        real_nk = _file_answers(exported, self.paths)[:, order]
        drawn_nk = _drawn_answers(exported, self._awkward)[:, order]
        count, labels_n = len(self.paths), self._labels_n
        accuracy, low, high = _accuracy(real_nk, labels_n)
        checkpoint_accuracy, checkpoint_low, checkpoint_high = _accuracy(self._real_nk, labels_n)
        return Rung(
            precision=exported.spec.precision,
            provider=exported.provider,
            count=count,
            accuracy=accuracy,
            accuracy_low=low,
            accuracy_high=high,
            checkpoint_accuracy=checkpoint_accuracy,
            checkpoint_accuracy_low=checkpoint_low,
            checkpoint_accuracy_high=checkpoint_high,
            agreement=_agreement(real_nk, self._real_nk),
            mean_difference=_moved(real_nk, self._real_nk),
            max_difference=float(np.abs(real_nk - self._real_nk).max()),
            awkward_count=len(self._awkward),
            awkward_agreement=_agreement(drawn_nk, self._drawn_nk),
            awkward_mean_difference=_moved(drawn_nk, self._drawn_nk),
            awkward_max_difference=float(np.abs(drawn_nk - self._drawn_nk).max()),
        )


def warnings_of(rungs: Sequence[Rung], classes: int) -> list[str]:
    """Say what a reader of a certificate must not miss."""
    first = rungs[0]
    if first.accuracy_high * classes >= 1:
        return []
    return [
        f"worse than chance: {first.accuracy:.2%} of {first.count} pictures, where guessing one "
        f"of {classes} classes gives {1 / classes:.2%}. Are the classes in the order of the "
        "training?"
    ]


def to_json(
    rungs: Sequence[Rung], refused: Mapping[str, str], *, max_drop: float, classes: int
) -> str:
    """Write the certificate that travels in the file, and stands on the model card.

    Args:
        rungs: What was measured, those that were not written too; at least one.
        refused: By precision, why one was not even measured.
        max_drop: The limit on the loss of accuracy.
        classes: How many there are to choose from.
    """
    record = as_record(rungs, refused, max_drop=max_drop, classes=classes)
    return json.dumps(record, indent=1, allow_nan=False)


def as_record(
    rungs: Sequence[Rung], refused: Mapping[str, str], *, max_drop: float, classes: int
) -> dict[str, Any]:
    """Return what `to_json` writes."""
    return {
        "limits": {
            "fp32_max_difference": MAX_DIFFERENCE,
            "max_drop": max_drop,
            "max_mean_difference": MAX_MEAN_DIFFERENCE,
            "max_awkward_mean_difference": MAX_AWKWARD_MEAN_DIFFERENCE,
        },
        "rungs": [asdict(rung) for rung in rungs],
        "refused": dict(refused),
        "warnings": warnings_of(rungs, classes),
        "versions": {name: version(name) for name in ("torch", "onnx", "gclf-export")},
    }


def _order(ours: Sequence[str], theirs: Sequence[str]) -> list[int]:
    if sorted(ours) != sorted(theirs):
        raise ExportError(
            f"the exported file has the classes {', '.join(theirs)}, the checkpoint "
            f"{', '.join(ours)}. Nothing was written; report it with the checkpoint"
        )
    return [theirs.index(name) for name in ours]


def _file_answers(exported: Classifier, paths: Sequence[Path]) -> NDArray[np.float32]:
    answers: list[NDArray[np.float32]] = []
    for result in exported.predict_files(paths):
        if result.prediction is None:
            raise ExportError(f"{result.error}. Remove it from the pictures to verify on")
        answers.append(result.prediction.probabilities_k)
    return np.stack(answers)


def _drawn_answers(exported: Classifier, pictures: Mapping[str, bytes]) -> NDArray[np.float32]:
    try:
        answers = exported.predict_images(pictures.values())
    except ImageError as error:
        raise ExportError(f"an awkward picture cannot be read: {error}") from error
    return np.stack([answer.probabilities_k for answer in answers])


def _accuracy(
    answers_nk: NDArray[np.float32], labels_n: NDArray[np.int64]
) -> tuple[float, float, float]:
    right, count = int((answers_nk.argmax(1) == labels_n).sum()), len(labels_n)
    return right / count, *wilson(right, count)


def _agreement(ours_nk: NDArray[np.float32], theirs_nk: NDArray[np.float32]) -> float:
    return float((ours_nk.argmax(1) == theirs_nk.argmax(1)).mean())


def _moved(ours_nk: NDArray[np.float32], theirs_nk: NDArray[np.float32]) -> float:
    """Return the mean total variation; over classes too, it would vanish where they are many."""
    return float(np.abs(ours_nk - theirs_nk).sum(1).mean()) / 2
