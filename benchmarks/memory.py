"""How much memory does a run hold, by the number of pictures?

The proportional set size of the whole process tree, looked at every 50 ms, or the kernel's own
peak of its largest process where that is more. Larger folders are links to the same files.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contenders import PEERS, Ours
from benchmarks.files_to_rows import NETWORK
from benchmarks.processes import ProcessError, run
from benchmarks.results import Result
from benchmarks.tables import markdown
from benchmarks.workplace import EMBEDDED, Workplace

_COUNTS = (100, 1000, 5000)
_MANY = 50_000  # for ours alone: the others take minutes
_RUNS = 3


def measure(place: Workplace) -> tuple[list[dict[str, Any]], list[str]]:
    """Run everybody on more and more pictures."""
    notes: list[str] = []
    found: list[dict[str, Any]] = []
    rows = place.scratch / "rows" / "memory.csv"
    rows.parent.mkdir(exist_ok=True)
    faces = place.faces(5000)
    models = place.models(NETWORK)
    ours = (
        Ours("gclf, embedded int8", EMBEDDED),
        Ours(f"gclf, {NETWORK} fp32", models / "gclf.onnx"),
    )
    for count in (*_COUNTS, _MANY):
        folder = place.linked(faces, count)
        commands: dict[str, Callable[[], list[str]]] = {
            one.name: lambda one=one, folder=folder: one.command(folder, rows) for one in ours
        }
        if place.with_peers and count != _MANY:
            for peer in PEERS:
                commands[peer.name] = lambda p=peer, folder=folder: p.command(folder, models, rows)
        for who, command in commands.items():
            try:
                peaks = [_peak(command(), rows) for _ in range(_RUNS)]
            except ProcessError as error:
                notes.append(f"{who} did not run on {count}: {error}")
                continue
            found.append({"who": who, "count": count, "peaks_mb": peaks})
    return found, notes


def _peak(command: list[str], rows: Path) -> float:
    rows.unlink(missing_ok=True)
    return run(command, watch=True).peak_mb


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

    most = max(_COUNTS)
    values = {
        row["who"]: (median(row["peaks_mb"]), min(row["peaks_mb"]), max(row["peaks_mb"]))
        for row in result.rows
        if row["count"] == most
    }
    bars({f"peak megabytes, {most:,} faces": values}, path, marked="gclf")
