"""The report's confusion matrix: cells to read, or a map of many classes.

Axes: k classes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gclf_trainer.answers import Answers
from gclf_trainer.report.page import name, percent, safe, section, table

_NUMBERED = 12  # classes whose counts fit in a table of cells
_NAMED = 150  # classes whose names can be read beside the matrix, enlarged


def confusion(answers: Answers, label_names: Sequence[str]) -> str:
    """Show the confusion matrix and, of many classes, the pairs most often confused."""
    note = (
        f"The {answers.name} pictures: rows are the truth, columns the answers, shaded by the "
        "share of the row; right answers are blue, wrong ones red."
    )
    confusion_kk = answers.confusion_kk
    pairs = _pairs(confusion_kk, label_names) if len(label_names) > 2 else ""
    return section("Confusion", note, _confusion(confusion_kk, label_names), pairs)


def _pairs(confusion_kk: NDArray[np.int64], label_names: Sequence[str]) -> str:
    """List what was taken for what more than once."""
    wrong_kk = confusion_kk * (1 - np.eye(len(label_names), dtype=np.int64))
    flat: list[int] = np.argsort(-wrong_kk, axis=None, kind="stable")[:10].tolist()
    places = [divmod(place, len(label_names)) for place in flat if wrong_kk.flat[place] > 1]
    rows = (
        (
            name(label_names[truth]),
            name(label_names[answer]),
            f"{wrong_kk[truth, answer]:,} of {confusion_kk[truth].sum():,}",
        )
        for truth, answer in places
    )
    body = table("pairs", ("truth", "answer", "pictures"), rows)
    return f"<h3>Most often confused</h3>\n{body}" if places else ""


def _confusion(confusion_kk: NDArray[np.int64], label_names: Sequence[str]) -> str:
    """Show a confusion matrix, each row shaded by its share: cells to read, or a map of many.

    Args:
        confusion_kk: Counts, shape (K, K): rows are the truth, columns the answers.
        label_names: Names of the classes.
    """
    shares_kk = confusion_kk / np.maximum(1, confusion_kk.sum(1, keepdims=True))
    if len(label_names) <= _NUMBERED:
        return _cells(confusion_kk, shares_kk, label_names)
    return _matrix(confusion_kk, shares_kk, label_names)


def _cells(
    confusion_kk: NDArray[np.int64], shares_kk: NDArray[np.float64], label_names: Sequence[str]
) -> str:
    heads = "".join(f'<th scope="col">{name(label)}</th>' for label in label_names)
    rows = "".join(
        f'<tr><th scope="row">{name(label)}</th>'
        + "".join(
            _cell(
                int(confusion_kk[truth, answer]), float(shares_kk[truth, answer]), truth == answer
            )
            for answer in range(len(label_names))
        )
        + "</tr>\n"
        for truth, label in enumerate(label_names)
    )
    return (
        '<div class="wide"><table class="confusion"><thead><tr><th scope="col">'
        f"<small>truth ↓ answer →</small></th>{heads}</tr></thead>\n"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _cell(count: int, share: float, is_right: bool) -> str:
    color, deep = "right" if is_right else "wrong", ' class="deep"' if share > 0.55 else ""
    style = f"--shade: var(--{color}); --share: {100 * share:.1f}%"
    return f'<td{deep} style="{style}">{count:,}<small>{percent(share)}</small></td>'


def _matrix(
    confusion_kk: NDArray[np.int64], shares_kk: NDArray[np.float64], label_names: Sequence[str]
) -> str:
    """Draw a map of 9-pixel cells with names beside and above, while they can be read."""
    classes, side = len(label_names), 9
    margin = 110 if classes <= _NAMED else 4
    size = margin + side * classes + 4
    cells = "".join(
        _square(truth, answer, int(confusion_kk[truth, answer]), shares_kk, label_names, margin)
        for truth, answer in zip(*(axis.tolist() for axis in confusion_kk.nonzero()), strict=True)
    )
    names = "".join(
        f'<text x="{margin - 4}" y="{at}" dy=".35em" text-anchor="end">{short}</text>'
        f'<text transform="translate({at} {margin - 4}) rotate(-90)" dy=".35em">{short}</text>'
        for index, label in enumerate(label_names if classes <= _NAMED else ())
        for at in [margin + side * (index + 0.5)]
        for short in [safe(label, 22)]
    )
    return (
        f'<div class="wide" tabindex="0"><svg class="matrix" viewBox="0 0 {size} {size}" '
        f'style="min-width: {min(size, 700)}px; max-width: {1.6 * size:.0f}px" role="img" '
        'aria-label="Confusion matrix: truth downwards, answers across">\n'
        f'<rect class="ground" x="{margin}" y="{margin}" width="{side * classes}" '
        f'height="{side * classes}"/>{names}\n{cells}</svg></div>'
    )


def _square(
    truth: int,
    answer: int,
    count: int,
    shares_kk: NDArray[np.float64],
    label_names: Sequence[str],
    margin: int,
) -> str:
    share, color = float(shares_kk[truth, answer]), "right" if truth == answer else "wrong"
    spoken = f"{safe(label_names[truth], 80)} answered {safe(label_names[answer], 80)}"
    return (
        f'<rect class="{color}" x="{margin + 9 * answer}" y="{margin + 9 * truth}" width="8.5" '
        f'height="8.5" fill-opacity="{0.15 + 0.85 * share:.2f}"><title>{spoken}: {count:,} '
        f"({share:.1%})</title></rect>"
    )
