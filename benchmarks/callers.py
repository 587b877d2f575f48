"""How fast, and how late at worst, does an app answer that embeds the runtime?

Its threads each send one encoded face and wait for the answer, then send the next (a closed loop):
throughput and latency by their number. Beside ours is what people write, on the same file: Pillow
and one InferenceSession that all share, with its default threads, and with one.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measuring import in_turns
from benchmarks.results import Result
from benchmarks.tables import NOT_STABLE, markdown, plain
from benchmarks.turns.worker import Worker
from benchmarks.workplace import EMBEDDED, Workplace

_CALLERS = (1, 2, 4, 8, 16, 64)
_FACES = 200
_TURN_S = 1.0
BUDGET_S = 20.0  # of one number of callers
_OURS = "gclf"
_VARIANTS = {
    _OURS: "gclf",
    "Pillow + session": "default",
    "Pillow + session, 1 thread": "one thread",
}


def measure(place: Workplace) -> tuple[list[dict[str, Any]], list[str]]:
    """Let the apps take turns, for each number of callers."""
    given = {"model": str(EMBEDDED), "pictures": str(place.faces(20 if place.quick else _FACES))}
    rule = replace(place.rule, budget_s=BUDGET_S)
    turn_s = 0.1 if place.quick else _TURN_S
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        apps = {
            name: partial(stack.enter_context(Worker("calls")).ask, variant=variant, **given)
            for name, variant in _VARIANTS.items()
        }
        answers = {name: np.array(ask(do="answer", callers=1)) for name, ask in apps.items()}
        for callers in (1, 4) if place.quick else _CALLERS:
            late: dict[str, list[list[float]]] = {name: [] for name in apps}
            asked = {"do": "turn", "callers": callers, "at_least_s": turn_s}
            turns = {n: partial(_turn, partial(app, **asked), late[n]) for n, app in apps.items()}
            for name, timing in in_turns(turns, rule).items():
                counted = np.concatenate(late[name][rule.warm_up :])
                difference = float(np.abs(answers[name] - answers[_OURS]).max())
                row = {"callers": callers, "who": name, "max_dp": difference}
                row |= {"seconds": timing.record(), "latency_s": _percentiles(counted)}
                rows.append(row)
    return rows, []


def _turn(ask: Callable[[], Any], late: list[list[float]]) -> float:
    """Return the seconds per request of all callers together; keep those of each request."""
    calls = ask()
    late.append(calls["seconds"])
    return 1 / calls["per_second"]


def _percentiles(seconds: NDArray[np.float64]) -> dict[str, float]:
    named = {"p50": 50, "p95": 95, "p99": 99, "largest": 100}
    found = {name: float(np.percentile(seconds, share)) for name, share in named.items()}
    return found | {"samples": len(seconds)}


def tables(result: Result) -> str:
    """Return requests per second, and milliseconds of latency."""
    numbers = list(dict.fromkeys(row["callers"] for row in result.rows))
    names = list(dict.fromkeys(row["who"] for row in result.rows))
    by = {(row["who"], row["callers"]): row for row in result.rows}
    rates = [[name, *(plain(by[name, n]["seconds"], 1) for n in numbers)] for name in names]
    late = [[name, *(_latency(by[name, number]) for number in numbers)] for name in names]
    return "\n\n".join(
        (
            "Requests per second, by callers:",
            markdown(["", *map(str, numbers)], rates),
            "Latency in ms, p50 / p95 / p99 / largest, by callers:",
            markdown(["", *map(str, numbers)], late),
            NOT_STABLE,
        )
    )


def _latency(row: dict[str, Any]) -> str:
    values = (row["latency_s"][name] * 1e3 for name in ("p50", "p95", "p99", "largest"))
    return " / ".join(f"{value:,.2f}" if value < 10 else f"{value:,.0f}" for value in values)


def plot(result: Result, path: Path) -> None:
    """Draw throughput and p99 by number of callers."""
    from benchmarks.plots import lines

    rates: dict[str, dict[int, float]] = {}
    late: dict[str, dict[int, float]] = {}
    for row in result.rows:
        rates.setdefault(row["who"], {})[row["callers"]] = 1 / row["seconds"]["median"]
        late.setdefault(row["who"], {})[row["callers"]] = row["latency_s"]["p99"] * 1e3
    groups = {"requests per second": rates, "p99 of latency, ms": late}
    lines(groups, path, over="callers", marked=_OURS)
