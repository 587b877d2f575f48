"""Markdown out of rows: figures that a reader can take in, and marks where one is not sure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

UNSTABLE = "~ marks a median that is not known within the stated bound: a busy machine."


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; numbers are to the right."""
    lines = [list(map(str, row)) for row in rows]
    columns = zip(*lines, strict=True) if lines else ([] for _ in header)
    rules = ["---:" if all(map(_is_number, column)) else "---" for column in columns]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rules, *lines))


def figure(value: float, *, is_stable: bool = True) -> str:
    """Return a number with three digits or more that count, and thousands commas."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{'' if is_stable else '~'}{value:,.{digits}f}"


def rate(row: Mapping[str, Any]) -> str:
    """Return pictures per second of a row whose timing is seconds per picture."""
    return figure(1 / row["median"], is_stable=row["is_stable"])


def ratio(values: Sequence[float] | None) -> str:
    """Return a ratio with its interval; a dash where there is none."""
    return "-" if values is None else f"{values[0]:.2f} ({values[1]:.2f} to {values[2]:.2f})"


def notes(lines: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return what is to be said below the tables."""
    marks = [] if all(row.get("is_stable", True) for row in rows) else [UNSTABLE]
    return "\n".join(f"- {line}" for line in (*lines, *marks))


def _is_number(text: str) -> bool:
    return text[:1] in "~-0123456789" or text in ("", "-")
