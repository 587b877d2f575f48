"""The findings of an audit on pictures that are there twice: across splits, under two labels."""

import contextlib
import filecmp
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gclf_trainer.chosen import Chosen
from gclf_trainer.duplicates import NearPairs, near_pairs, same_pixels
from gclf_trainer.findings import EXAMPLES, Finding, Survey
from gclf_trainer.folders import SPLITS

_LOUD = 0.01  # of a split: its accuracy is flattered by up to this share of its errors
_REFUSED = 0.05
_REFUSED_COUNT = 10  # a small set is not refused for one picture
_REFUSED_ALWAYS = 0.5  # however few: most of what is measured is then what was memorised


@dataclass(frozen=True)
class Copies:
    """Which pictures are the same.

    Attributes:
        groups_n: Pictures of one number have equal pixels; numbers run from 0.
        near: Pairs of such numbers that are nearly the same.
    """

    groups_n: NDArray[np.int64]
    near: NearPairs


def find(pixels: Sequence[NDArray[np.uint8]]) -> Copies:
    """Compare all pictures, uint8 0-255 of shape (N, H, W, C) per split, N at least 1."""
    digests = np.array([digest.hex() for part in pixels for digest in same_pixels(part)])
    _, first_g, groups_n = np.unique(digests, return_index=True, return_inverse=True)
    return Copies(groups_n, near_pairs(Chosen(pixels, first_g)))


def of_copies(survey: Survey, copies: Copies) -> Iterator[Finding]:
    """Say what is in two splits, under two labels, or twice in training."""
    yield from _two_labels(survey, copies)
    for split, other in ((1, 0), (2, 0), (2, 1)):
        yield from _leak(survey, copies, split, other)
    yield from _repeated(survey, copies)


def _leak(survey: Survey, copies: Copies, split: int, other: int) -> Iterator[Finding]:
    """Count the pictures of one split that another one holds too."""
    members = np.flatnonzero(survey.splits_n == split)
    others = np.flatnonzero(survey.splits_n == other)
    if not len(members) or not len(others):
        return
    holder = _first_of_group(copies, others)
    exact = members[holder[copies.groups_n[members]] >= 0]
    if len(exact):
        share = len(exact) / len(members)
        pairs = _pairs(exact, holder[copies.groups_n[exact]])
        yield _leak_finding(
            survey, "the same", pairs, share, (split, other), _is_refused(len(exact), share)
        )
    near_holder = np.full(len(holder), -1)
    for one, two in _both_ways(copies.near):
        known = holder[two] >= 0
        near_holder[one[known]] = holder[two[known]]
    near = members[(near_holder >= 0)[copies.groups_n[members]]]
    near = near[holder[copies.groups_n[near]] < 0]
    if len(near):
        pairs = _pairs(near, near_holder[copies.groups_n[near]])
        yield _leak_finding(
            survey, "nearly the same", pairs, len(near) / len(members), (split, other)
        )


def _leak_finding(
    survey: Survey,
    how: str,
    pairs: list[tuple[int, int]],
    share: float,
    splits: tuple[int, int],
    is_refused: bool = False,
) -> Finding:
    names = tuple(SPLITS)
    split, other = (names[index] for index in splits)
    weak = "note" if how != "the same" and share <= _LOUD else "warning"
    loud = f": {split} accuracy is flattered" if share > _LOUD else ""
    return Finding(
        f"{how} in {split} and {other}",
        "refusal" if is_refused else weak,
        f"{len(pairs)} {split} pictures ({share:.2%}) are {how} as {_one_of(other)}{loud}",
        f"Remove them from {other}, or keep pictures of one origin in one split",
        len(pairs),
        share,
        _examples(survey, pairs),
    )


def _is_refused(count: int, share: float) -> bool:
    return share > _REFUSED_ALWAYS or (share > _REFUSED and count >= _REFUSED_COUNT)


def _one_of(split: str) -> str:
    return "a training picture" if split == "train" else f"a {split} picture"


def _two_labels(survey: Survey, copies: Copies) -> Iterator[Finding]:
    """Count the pictures that are there under more than one label; mirrored ones may well be."""
    first = _first_of_group(copies, np.arange(len(survey.labels_n)))
    differs_n = survey.labels_n != survey.labels_n[first[copies.groups_n]]
    mixed_g = np.zeros(len(first), bool)
    mixed_g[copies.groups_n[differs_n]] = True
    pairs = _pairs(np.flatnonzero(differs_n), first[copies.groups_n[differs_n]])
    yield from _label_finding(survey, "the same", pairs, int(mixed_g[copies.groups_n].sum()))
    near = copies.near
    one, two = (first[k][~near.mirrored_k] for k in (near.first_k, near.second_k))
    other = survey.labels_n[one] != survey.labels_n[two]
    count = len(np.unique([one[other], two[other]]))
    yield from _label_finding(survey, "nearly the same", _pairs(one[other], two[other]), count)


def _label_finding(
    survey: Survey, how: str, pairs: list[tuple[int, int]], count: int
) -> Iterator[Finding]:
    if not count:
        return
    share = count / len(survey.labels_n)
    is_refused = how == "the same" and _is_refused(count, share)
    weak = "note" if how != "the same" and share <= _LOUD else "warning"
    yield Finding(
        f"{how} under two labels",
        "refusal" if is_refused else weak,
        f"{count} pictures ({share:.2%}) are {how} as one with another label",
        "Keep each picture in the one folder it belongs to",
        count,
        share,
        _examples(survey, pairs),
    )


def _repeated(survey: Survey, copies: Copies) -> Iterator[Finding]:
    """Count the training pictures that add nothing, or little, to others."""
    members = np.flatnonzero(survey.splits_n == 0)
    first = _first_of_group(copies, members)
    again = members[first[copies.groups_n[members]] != members]
    pairs = _pairs(again, first[copies.groups_n[again]])
    identical = sum(_same_bytes(survey, *pair) for pair in pairs)
    one, two = first[copies.near.first_k], first[copies.near.second_k]
    both = (one >= 0) & (two >= 0)
    near = _pairs(one[both], two[both])
    for how, found, more in (
        ("the same", pairs, f" ({identical} byte for byte)"),
        ("nearly the same", near, ""),
    ):
        if found:
            share = len(found) / len(members)
            yield Finding(
                f"{how} in training",
                "warning" if share > _REFUSED else "note",
                f"{len(found)} pairs of training pictures ({share:.2%}) are {how}{more}",
                "Remove one of each pair, or know that it counts twice",
                len(found),
                share,
                _examples(survey, found),
            )


def _same_bytes(survey: Survey, one: int, two: int) -> bool:
    if survey.headers[one] is None or survey.headers[two] is None:
        return False
    with contextlib.suppress(OSError):  # one is gone since
        return filecmp.cmp(survey.paths[one], survey.paths[two], shallow=False)
    return False


def _first_of_group(copies: Copies, members: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first of these pictures in each group, -1 where there is none."""
    first = np.full(int(copies.groups_n.max()) + 1, -1)
    first[copies.groups_n[members[::-1]]] = members[::-1]
    return first


def _pairs(one: NDArray[np.int64], two: NDArray[np.int64]) -> list[tuple[int, int]]:
    return list(zip(one.tolist(), two.tolist(), strict=True))


def _both_ways(near: NearPairs) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    yield near.first_k, near.second_k
    yield near.second_k, near.first_k


def _examples(survey: Survey, pairs: Sequence[tuple[int, int]]) -> tuple[tuple[str, ...], ...]:
    return tuple((str(survey.paths[i]), str(survey.paths[j])) for i, j in pairs[:EXAMPLES])
