"""Figures as Markdown: thousands with commas, what is not stable with a tilde before it."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.measuring import interval, is_stable

NOT_STABLE = "A tilde (~) stands before a figure whose median was not known within the bound."


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the first column is text, the others are numbers."""
    marks = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, marks, *rows])


def bound_of(conditions: Mapping[str, Any]) -> float:
    """Return how well the medians of a result were to be known; infinite where it was quick."""
    bound = conditions["rule"]["bound"]
    return math.inf if bound is None else bound


def tilde(timing: Mapping[str, Any]) -> str:
    """Return what stands before a figure."""
    return "" if timing["is_stable"] else "~"


def rates(timing: Mapping[str, Any], count: float) -> tuple[float, float, float]:
    """Return per second what `count` was done of: by the median, and the ends of its interval."""
    return count / timing["median"], count / timing["high"], count / timing["low"]


def per_second(timing: dict[str, Any], count: int) -> str:
    """Return a rate with its interval, of the seconds that `count` took."""
    middle, low, high = rates(timing, count)
    return f"{tilde(timing)}{middle:,.0f} ({low:,.0f} to {high:,.0f})"


def in_seconds(timing: dict[str, Any]) -> str:
    """Return seconds with their interval."""
    return f"{tilde(timing)}{timing['median']:.3f} ({timing['low']:.3f} to {timing['high']:.3f})"


def times(slow: Mapping[str, Any], fast: Mapping[str, Any], *, bound: float) -> str:
    """Return how many times as fast the second is, by the ratios of each round.

    They have a tilde of their own: two figures may be unsteady, and what divides them known.
    """
    ratios = [a / b for a, b in zip(slow["rounds"], fast["rounds"], strict=True)]
    low, high = interval(ratios)
    middle = statistics.median(ratios)
    return f"{'' if is_stable(ratios, bound) else '~'}{middle:.2f}× ({low:.2f} to {high:.2f})"


def plain(timing: dict[str, Any], count: int) -> str:
    """Return a rate without its interval."""
    return f"{tilde(timing)}{count / timing['median']:,.0f}"
