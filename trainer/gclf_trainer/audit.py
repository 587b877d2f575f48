"""What is wrong with a set of labelled pictures, before time is spent on learning it.

Axes: n pictures, in the order train, val, test.
"""

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gclf_trainer import copies, findings
from gclf_trainer.findings import Finding, Severity, Survey
from gclf_trainer.headers import read_headers
from gclf_trainer.pixels import Dataset

_ORDER: tuple[Severity, ...] = ("refusal", "warning", "note")
_SHOWN = 3  # examples in the text; the record has them all


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        pictures: How many can be read, per split and class name.
        findings: The worst first.
        seconds: What the audit took, decoding aside.
    """

    pictures: dict[str, dict[str, int]]
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def is_refused(self) -> bool:
        """Whether the set should not be learnt from as it is."""
        return any(finding.severity == "refusal" for finding in self.findings)

    def to_record(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return asdict(self)

    def to_text(self) -> str:
        """Write a few lines per finding: what, examples, what to do."""
        totals = {name: sum(counts.values()) for name, counts in self.pictures.items()}
        counted = ", ".join(f"{count} {name}" for name, count in totals.items())
        lines = [f"audit of {counted}: {self._verdict()} ({self.seconds:.1f} s)"]
        for finding in self.findings:
            lines.append(f"{finding.severity}: {finding.line}")
            lines += [f"    {' = '.join(paths)}" for paths in finding.examples[:_SHOWN]]
            lines += [f"    {finding.remedy}"] if finding.remedy else []
        return "\n".join(lines)

    def _verdict(self) -> str:
        severities = [finding.severity for finding in self.findings]
        counts = {severity: severities.count(severity) for severity in _ORDER}
        named = [f"{n} {s}{'s' if n > 1 else ''}" for s, n in counts.items() if n]
        return ", ".join(named) or "nothing found"


def audit(dataset: Dataset) -> Audit:
    """Look for what spoils a training or flatters its result.

    Files are opened once more for their headers; what has no file of its own (a set of
    torchvision's) is judged by its pixels alone.

    Args:
        dataset: The decoded pictures; any split but `train` may be empty.
    """
    start = time.perf_counter()
    splits = dataset.splits
    paths = tuple(path for split in splits.values() for path in split.paths)
    survey = Survey(
        label_names=dataset.label_names,
        paths=paths,
        labels_n=np.concatenate([split.labels_n for split in splits.values()]),
        splits_n=np.repeat(np.arange(3), [len(split.labels_n) for split in splits.values()]),
        input_px=(dataset.train.pixels_nhwc.shape[1], dataset.train.pixels_nhwc.shape[2]),
        headers=read_headers(paths),
    )
    pixels = [split.pixels_nhwc for split in splits.values() if len(split.labels_n)]
    found = [
        *findings.of_unreadable(dataset.unreadable, len(paths)),
        *copies.of_copies(survey, copies.find(pixels)),
        *findings.of_classes(survey),
        *findings.of_files(survey),
    ]
    found.sort(key=lambda finding: _ORDER.index(finding.severity))
    counts = {
        name: {
            label_name: int(np.count_nonzero(split.labels_n == label))
            for label, label_name in enumerate(dataset.label_names)
        }
        for name, split in splits.items()
    }
    return Audit(counts, tuple(found), time.perf_counter() - start)
