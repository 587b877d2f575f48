"""The single findings of an audit, as far as files and classes tell them.

A refusal is for a set whose result would mean nothing; a real one, with the flaws real ones have,
gets warnings.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gclf_trainer.headers import Header

Severity = Literal["refusal", "warning", "note"]
EXAMPLES = 20  # kept per finding

_UNREADABLE_REFUSED = 0.25  # what is left is another set than the one named
_IMBALANCED = 10  # largest class to smallest
_TINY = 20  # training pictures of a class
_GIVEAWAY = 0.2  # share of pictures more that the file format alone gets right


@dataclass(frozen=True)
class Finding:
    """One thing that is, or may be, wrong.

    Attributes:
        code: A short name that stays the same.
        line: One line, with the figures.
        remedy: What to do; empty when there is nothing to do.
        count: Pictures or classes concerned.
        share: That count as a fraction (0-1) of what it was counted among.
        examples: Paths; those in one tuple are pictures of one another.
    """

    code: str
    severity: Severity
    line: str
    remedy: str
    count: int
    share: float
    examples: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Survey:
    """What is known of all pictures that could be read: train, then val, then test.

    Attributes:
        splits_n: 0 for train, 1 for val, 2 for test. Every class is in train: what reads a dataset
            sees to it.
        input_px: Height and width of the model's input.
        headers: None where the picture has no file.
    """

    label_names: tuple[str, ...]
    paths: tuple[Path, ...]
    labels_n: NDArray[np.int64]
    splits_n: NDArray[np.int64]
    input_px: tuple[int, int]
    headers: Sequence[Header | None]


def of_unreadable(unreadable: Sequence[tuple[Path, str]], readable: int) -> Iterator[Finding]:
    """Say how many files cannot be read, and why."""
    if not unreadable:
        return
    count = len(unreadable)
    share = count / (count + readable)
    reason, times = Counter(reason for _, reason in unreadable).most_common(1)[0]
    yield Finding(
        "unreadable",
        "refusal" if share > _UNREADABLE_REFUSED else "warning",
        f"{count} files ({share:.2%}) cannot be read and are left out; most often ({times}): "
        f"{reason}",
        "Look at them with: gclf-infer --batch FOLDER",
        count,
        share,
        tuple((str(path),) for path, _ in unreadable[:EXAMPLES]),
    )


def of_classes(survey: Survey) -> Iterator[Finding]:
    """Say which classes are absent from a split, few, or many times others."""
    counts = np.zeros((3, len(survey.label_names)), np.int64)
    np.add.at(counts, (survey.splits_n, survey.labels_n), 1)
    yield from _absent(survey, counts[1], "val")
    yield from _absent(survey, counts[2], "test")
    tiny: list[int] = np.flatnonzero(counts[0] < _TINY).tolist()
    if tiny:
        names = _names(survey, tiny)
        yield Finding(
            "tiny classes",
            "warning",
            f"{len(tiny)} classes have fewer than {_TINY} training pictures: {names}",
            "Add pictures, or start from weights learnt elsewhere: --weights",
            len(tiny),
            len(tiny) / len(survey.label_names),
        )
    yield from _imbalance(survey, counts[0])


def _absent(survey: Survey, counts: NDArray[np.int64], split: str) -> Iterator[Finding]:
    """Name the classes that a split lacks which holds pictures."""
    if not counts.any():
        return
    if unmeasured := np.flatnonzero(counts == 0).tolist():
        yield Finding(
            f"absent from {split}",
            "warning",
            f"{len(unmeasured)} classes have no {split} picture: {_names(survey, unmeasured)}",
            f"Move some of their pictures to {split}, or its accuracy says nothing about them",
            len(unmeasured),
            len(unmeasured) / len(counts),
        )


def _imbalance(survey: Survey, counts: NDArray[np.int64]) -> Iterator[Finding]:
    few, many = counts.argmin(), counts.argmax()
    ratio = counts[many] / counts[few]
    if ratio > _IMBALANCED:
        yield Finding(
            "imbalance",
            "warning",
            f"{survey.label_names[many]} has {counts[many]} training pictures, {ratio:.0f} times "
            f"the {counts[few]} of {survey.label_names[few]}",
            "Weigh them alike: --balance, and judge by the figures per class",
            int(counts[few]),
            float(counts[few] / counts[many]),
        )


def _names(survey: Survey, labels: Sequence[int]) -> str:
    shown = ", ".join(survey.label_names[label] for label in labels[:10])
    return f"{shown}, ..." if len(labels) > 10 else shown


def of_files(survey: Survey) -> Iterator[Finding]:
    """Say what formats and sizes the files have, and whether the format gives the class away."""
    headers = [header for header in survey.headers if header]
    if not headers:
        return
    kinds = Counter(header.kind for header in headers)
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(6))
    yield Finding("formats", "note", f"formats: {listed}", "", len(kinds), 1.0)
    turned = sum(header.is_turned for header in headers)
    if turned:
        line = f"{turned} pictures are turned by their EXIF orientation, here and when answering"
        yield Finding("turned", "note", line, "", turned, turned / len(headers))
    yield _sizes(headers, survey.input_px)
    yield from _giveaway(survey)


def _sizes(headers: Sequence[Header], input_px: tuple[int, int]) -> Finding:
    by_area = sorted(headers, key=lambda header: header.width * header.height)
    named = [f"{by_area[i].width}×{by_area[i].height}" for i in (0, len(by_area) // 2, -1)]
    height, width = input_px
    small = sum(min(header.width, header.height) < min(height, width) for header in headers)
    share = small / len(headers)
    return Finding(
        "sizes",
        "warning" if share > 0.5 else "note",
        f"sizes: smallest {named[0]}, median {named[1]}, largest {named[2]} pixels; "
        f"{share:.1%} are smaller than the model's input of {width}×{height}",
        "A smaller --size costs less and loses nothing" if share > 0.5 else "",
        small,
        share,
    )


def _giveaway(survey: Survey) -> Iterator[Finding]:
    """Guess each picture's class from its file's format: better than chance is a shortcut."""
    known = [
        (h.kind, y) for h, y in zip(survey.headers, survey.labels_n.tolist(), strict=True) if h
    ]
    per_kind: dict[str, Counter[int]] = {}
    for kind, label in known:
        per_kind.setdefault(kind, Counter())[label] += 1
    guessed = sum(max(labels.values()) for labels in per_kind.values()) / len(known)
    chance = max(Counter(label for _, label in known).values()) / len(known)
    if guessed - chance > _GIVEAWAY:
        yield Finding(
            "format gives the class away",
            "warning",
            f"the file's format alone tells the class of {guessed:.0%} of the pictures "
            f"({chance:.0%} by always naming the largest): its traces may be learnt instead",
            "Save all pictures anew in one format and pixel type",
            round(guessed * len(known)),
            guessed,
        )
