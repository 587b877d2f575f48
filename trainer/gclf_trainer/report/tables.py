"""The report's tables: classes, groups, the audit, and how to repeat the run."""

from collections.abc import Mapping, Sequence

import numpy as np

from gclf_trainer.answers import Answers
from gclf_trainer.groups import LEAST_COUNT, MOST_VALUES, Groups
from gclf_trainer.report.page import between, name, percent, safe, section, table
from gclf_trainer.scores import ClassScore, Score

_MOST_CLASSES = 30  # a table of more is folded
_SHOWN_CLASSES = 15  # and only the weakest are shown


def score_tile(score: Score) -> tuple[str, str, str]:
    """Show an accuracy with its interval."""
    note = f"{score.right:,} of {score.count:,}; 95% interval {between(score.interval)}"
    return f"{safe(score.name)} accuracy", percent(score.share), note


def worst_tile(groups: Groups) -> tuple[str, str, str] | None:
    """Show the worst group."""
    if groups.worst is None:
        return None
    column, score = groups.worst
    note = (
        f"{name(column)}: {name(score.name)}, {score.count:,} pictures, {between(score.interval)}"
    )
    return "worst group", percent(score.share), note


def class_table(scores: Sequence[ClassScore], answers: Answers) -> str:
    """Show precision, recall and F1 of each class; of many, the weakest first."""
    is_long = len(scores) > _MOST_CLASSES
    ordered = sorted(scores, key=lambda s: s.f1 if s.f1 is not None else 2.0) if is_long else scores
    limits, overall = _limits(scores), answers.score.share
    rows = [
        (
            name(score.name),
            f"{score.count:,}",
            percent(score.precision),
            percent(score.recall),
            percent(score.f1),
            between(score.interval),
            _interval_bar(score.share, score.interval, limits, overall),
        )
        for score in ordered
    ]
    heads = ("class", "pictures", "precision", "recall", "F1", "95% of recall", _ends(limits))
    above = table("numbers", heads, rows[:_SHOWN_CLASSES] if is_long else rows)
    below = f"<details><summary>The other {len(rows) - _SHOWN_CLASSES:,} classes</summary>\n"
    folded = below + table("numbers", heads, rows[_SHOWN_CLASSES:]) + "</details>"
    note = (
        f"The {answers.name} pictures{', the lowest F1 first' if is_long else ''}. Precision: of "
        "the answers, how many are right; recall: of the pictures, how many are found. Intervals "
        "are Wilson's, 95%; the grey line is the overall accuracy."
    )
    return section("Classes", note, above, folded if is_long else "")


def group_tables(groups: Groups, split: str) -> str:
    """Show the accuracy of each group, and the worst."""
    tables: list[str] = []
    for column, scores in groups.columns.items():
        limits = _limits(scores)
        rows = (
            (
                name(score.name),
                f"{score.count:,}",
                percent(score.share),
                between(score.interval),
                _interval_bar(score.share, score.interval, limits, groups.overall.share),
            )
            for score in scores
        )
        heads = (name(column), "pictures", "accuracy", "95% interval", _ends(limits))
        tables.append(table("numbers", heads, rows))
    note = (
        f"Accuracy on the {split} pictures by the columns of {safe(groups.source)}; the grey line "
        f"is the accuracy of all {groups.overall.count:,} that it names, "
        f"{percent(groups.overall.share)}."
    )
    if groups.unlisted:
        note += f" It does not name {groups.unlisted:,} others."
    if not tables:
        none = f"No column has 2 to {MOST_VALUES} values of two pictures or more on average."
        return section("Groups", note, f"<p>{none}</p>")
    return section("Groups", note, _worst(groups), *tables)


def _worst(groups: Groups) -> str:
    if groups.worst is None:
        return f"<p>No group has {LEAST_COUNT} pictures, too few to name the worst.</p>"
    column, score = groups.worst
    is_below = score.interval[1] < groups.overall.share
    certainty = (
        "its interval lies below the accuracy of all"
        if is_below
        else "its interval holds the accuracy of all, so chance may explain it"
    )
    return (
        f"<p>Worst group of at least {LEAST_COUNT} pictures: <b>{name(column)}: "
        f"{name(score.name)}</b>, {percent(score.share)} of {score.count:,} "
        f"({between(score.interval)}); {certainty}. Among many groups the lowest is low partly "
        "by chance.</p>"
    )


def _interval_bar(
    share: float, interval: tuple[float, float], limits: tuple[float, float], overall: float
) -> str:
    """Draw a share as a dot on its interval, with a line at the overall share."""
    low, high = limits

    def at(value: float) -> str:
        return f"{100 * (value - low) / (high - low):.2f}%"

    return (
        f'<svg class="range right" width="100%" aria-hidden="true"><line class="base" '
        f'x1="{at(overall)}" x2="{at(overall)}" y1="-30%" y2="130%"/><line stroke-width="2" '
        f'x1="{at(interval[0])}" x2="{at(interval[1])}" y1="50%" y2="50%"/>'
        f'<circle cx="{at(share)}" cy="50%" r="4"/></svg>'
    )


def _limits(scores: Sequence[Score]) -> tuple[float, float]:
    """Return an axis in whole tenths that holds the intervals of all that have pictures."""
    low = min((score.interval[0] for score in scores if score.count), default=0.0)
    high = max((score.interval[1] for score in scores if score.count), default=1.0)
    return np.floor(10 * low) / 10, max(np.ceil(10 * high), np.floor(10 * low) + 1) / 10


def _ends(limits: tuple[float, float]) -> str:
    low, high = limits
    return f'<span class="ends"><span>{low:.0%}</span><span>{high:.0%}</span></span>'


def findings(audit: Sequence[tuple[str, str]]) -> str:
    """List what the audit found: severity (refusal, warning or note) and a line."""
    rows = ((_badge(severity), f"<bdi>{safe(line)}</bdi>") for severity, line in audit)
    none = "<p>Nothing to report.</p>"
    body = table("findings", ("severity", "finding"), rows) if audit else none
    return section("Audit of the pictures", "", body)


def _badge(severity: str) -> str:
    color = {"refusal": "wrong", "warning": "other"}.get(severity, "soft")
    return f'<span class="badge {color}"><b>{safe(severity)}</b></span>'


def repeat(command: str, facts: Mapping[str, str]) -> str:
    """Show the command that repeats the run, and what it ran with."""
    rows = ((name(what), f"<bdi>{safe(value)}</bdi>") for what, value in facts.items())
    line = f"<pre>{safe(command, len(command))}</pre>"
    return section("Repeat this run", "", line, table("facts", (), rows) if facts else "")
