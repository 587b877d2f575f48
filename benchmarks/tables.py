"""Figures as Markdown: thousands with commas, what is not stable with a tilde before it."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.measuring import interval

NOT_STABLE = "A tilde (~) stands before a figure whose median was not known within the bound."


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the first column is text, the others are numbers."""
    marks = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, marks, *rows])


def per_second(timing: dict[str, Any], count: int) -> str:
    """Return a rate with its interval, of the seconds that `count` took."""
    low, high = (count / timing[end] for end in ("high", "low"))
    tilde = "" if timing["is_stable"] else "~"
    return f"{tilde}{count / timing['median']:,.0f} ({low:,.0f} to {high:,.0f})"


def in_seconds(timing: dict[str, Any]) -> str:
    """Return seconds with their interval."""
    tilde = "" if timing["is_stable"] else "~"
    return f"{tilde}{timing['median']:.2f} ({timing['low']:.2f} to {timing['high']:.2f})"


def times(slow: dict[str, Any], fast: dict[str, Any]) -> str:
    """Return how many times as fast the second is, by the ratios of each round."""
    ratios = [a / b for a, b in zip(slow["rounds"], fast["rounds"], strict=True)]
    low, high = interval(ratios)
    return f"{statistics.median(ratios):.2f}× ({low:.2f} to {high:.2f})"


def plain(timing: dict[str, Any], count: int) -> str:
    """Return a rate without its interval."""
    return f"{'' if timing['is_stable'] else '~'}{count / timing['median']:,.0f}"
