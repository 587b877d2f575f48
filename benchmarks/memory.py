"""How much memory does a run hold, by the number of pictures?

The proportional set size of the whole process tree, looked at every 10 ms, or the kernel's own
peak of its largest process where that is more: a lower bound for whoever has worker processes.
Larger folders are links to the same files.
"""

from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contenders import able, check_rows, commands_of, ours_of, peers_of
from benchmarks.processes import run
from benchmarks.results import Result
from benchmarks.tables import markdown
from benchmarks.workplace import Workplace

_COUNTS, _FEW = (100, 1000, 5000), (10, 20)
_MANY = 50_000  # for ours alone: the others take minutes
_RUNS = 2


def measure(place: Workplace) -> tuple[list[dict[str, Any]], list[str]]:
    """Run everybody on more and more pictures."""
    notes: list[str] = []
    found: list[dict[str, Any]] = []
    counts = _FEW if place.quick else (*_COUNTS, _MANY)
    faces = place.faces(max(_FEW if place.quick else _COUNTS))
    for count in counts:
        folder, peers = place.linked(faces, count), () if count == _MANY else peers_of(place)
        names = {path.name for path in folder.rglob("*.jpg")}
        commands = able(
            commands_of(place, folder, ours_of(place), peers),
            f"{count} pictures",
            notes,
            check=lambda who, names=names: check_rows(place.rows(who), names),
        )
        for who, command in commands.items():
            peaks = [run(command(), watch=True).peak_mb for _ in range(_RUNS)]
            found.append({"who": who, "count": count, "peaks_mb": peaks})
    return found, notes


def tables(result: Result) -> str:
    """Return a column per number of pictures."""
    counts = sorted({row["count"] for row in result.rows})
    peaks = {(row["who"], row["count"]): median(row["peaks_mb"]) for row in result.rows}
    lines: list[list[str]] = []
    for who in dict.fromkeys(row["who"] for row in result.rows):
        cells = [f"{peaks[who, n]:,.0f}" if (who, n) in peaks else "" for n in counts]
        lines.append([who, *cells])
    return markdown(("peak MB, by pictures", *(f"{count:,}" for count in counts)), lines)


def plot(result: Result, path: Path) -> None:
    """Draw the peak at the number of pictures that all have run on."""
    from benchmarks.plots import bars

    most = max(row["count"] for row in result.rows if row["count"] != _MANY)
    values = {
        row["who"]: (median(row["peaks_mb"]), min(row["peaks_mb"]), max(row["peaks_mb"]))
        for row in result.rows
        if row["count"] == most
    }
    bars({f"peak megabytes, {most:,} faces": values}, path, marked="gclf")
