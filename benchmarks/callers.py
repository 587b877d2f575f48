"""How fast, and how late at worst, does an app answer that embeds the runtime?

Its threads each send one encoded face and wait for the answer, then send the next (a closed loop):
throughput and latency by their number. Beside ours is what people write, on the same file: Pillow
and one InferenceSession that all share, with its default threads, and with one.
"""

import statistics
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import in_turns, interval, ratio
from benchmarks.results import Result
from benchmarks.tables import figure, notes, table
from benchmarks.workers import Worker
from benchmarks.workplace import EMBEDDED, Workplace

_CALLERS = (1, 2, 4, 8, 16, 64)
_FACES = 200
_TURN_S = 1.0
_BUDGET_S = 20.0  # of one number of callers
_OURS = "gclf"
_VARIANTS = {
    _OURS: "gclf",
    "Pillow + session": "default",
    "Pillow + session, 1 thread": "one thread",
}


def measure(place: Workplace) -> tuple[list[dict[str, Any]], list[str]]:
    """Let the apps take turns, for each number of callers."""
    asked = {"model": str(EMBEDDED), "pictures": str(place.faces(20 if place.quick else _FACES))}
    rule = replace(place.rule, budget_s=min(place.rule.budget_s, _BUDGET_S))
    turn_s = 0.1 if place.quick else _TURN_S
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        apps = {
            name: partial(stack.enter_context(Worker("callers")).ask, variant=variant, **asked)
            for name, variant in _VARIANTS.items()
        }
        answers = {name: np.array(ask(do="answer", callers=1)) for name, ask in apps.items()}
        for callers in (1, 4) if place.quick else _CALLERS:
            rates: dict[str, list[float]] = {name: [] for name in apps}
            turns = {
                name: partial(
                    _turn, partial(ask, do="turn", callers=callers, at_least_s=turn_s), rates[name]
                )
                for name, ask in apps.items()
            }
            timings = in_turns(turns, rule)
            for name, timing in timings.items():
                counted = rates[name][rule.warm_up :]
                low, high = interval(counted)
                rows.append(
                    {
                        "callers": callers,
                        "contender": name,
                        "rate": statistics.median(counted),
                        "rate_low": low,
                        "rate_high": high,
                        "speed_to_gclf": ratio(timings[_OURS], timing),
                        "max_dp": float(np.abs(answers[name] - answers[_OURS]).max()),
                        **timing.record(),
                    }
                )
    return rows, []


def _turn(ask: Callable[[], Any], rates: list[float]) -> list[float]:
    reply = ask()
    rates.append(reply["rate"])
    return reply["seconds"]


def tables(result: Result) -> str:
    """Return requests per second, and milliseconds of latency."""
    numbers = list(dict.fromkeys(row["callers"] for row in result.rows))
    names = list(dict.fromkeys(row["contender"] for row in result.rows))
    rows = {(row["contender"], row["callers"]): row for row in result.rows}
    header = ["callers", *map(str, numbers)]
    speeds = [
        [n, *(figure(rows[n, c]["rate"], is_stable=rows[n, c]["is_stable"]) for c in numbers)]
        for n in names
    ]
    late = [[n, *(_latency(rows[n, c]) for c in numbers)] for n in names]
    return "\n\n".join(
        (
            "Requests per second:",
            table(header, speeds),
            "Latency, ms: p50 / p95 / p99:",
            table(header, late),
            notes(result.notes, result.rows),
        )
    )


def _latency(row: dict[str, Any]) -> str:
    return " / ".join(figure(row[name] * 1e3) for name in ("p50", "p95", "p99"))


def plot(result: Result, path: Path) -> None:
    """Draw throughput and p99 by number of callers."""
    from matplotlib import pyplot

    picture, (left, right) = pyplot.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for name in dict.fromkeys(row["contender"] for row in result.rows):
        mine = [row for row in result.rows if row["contender"] == name]
        callers = [row["callers"] for row in mine]
        width = 3 if name == _OURS else 1.2
        left.plot(callers, [row["rate"] for row in mine], "o-", label=name, linewidth=width)
        right.plot(callers, [row["p99"] * 1e3 for row in mine], "o-", linewidth=width)
    for panel, label in ((left, "requests per second"), (right, "p99 of latency, ms")):
        panel.set_xscale("log", base=2)
        panel.set_xlabel("callers")
        panel.set_ylabel(label)
    left.set_ylim(bottom=0)
    right.set_yscale("log")
    left.legend(fontsize="small")
    picture.savefig(path, dpi=120)
    pyplot.close(picture)
