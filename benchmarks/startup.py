"""How long from a command to its first answer, and how long does an import take?

A whole process on a folder of one picture, files in the page cache; bytecode compiled for all.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contenders import PEERS, Ours
from benchmarks.environments import python_of
from benchmarks.files_to_rows import NETWORK
from benchmarks.measuring import in_turns
from benchmarks.processes import ProcessError, run
from benchmarks.results import Result
from benchmarks.tables import NOT_STABLE, in_seconds, markdown, times
from benchmarks.workplace import EMBEDDED, Workplace

_OURS = "gclf-infer"
_IMPORTS = ("gclf_runtime", "onnxruntime", "torch", "torchvision")  # in the project's environment


def measure(place: Workplace) -> tuple[list[dict[str, Any]], list[str]]:
    """Start everybody."""
    notes: list[str] = []
    folder = place.faces(1)
    (place.scratch / "rows").mkdir(exist_ok=True)
    rows = place.scratch / "rows" / "first.csv"
    commands = {_OURS: Ours(_OURS, EMBEDDED).command(folder, rows)}
    imports = {name: _import(sys.executable, name) for name in _IMPORTS[: 2 if place.quick else 4]}
    if place.with_peers:
        models = place.models(NETWORK)
        for peer in PEERS:
            commands[peer.name] = peer.command(folder, models, rows)
            imports.setdefault(peer.imports, _import(python_of(peer.adapter), peer.imports))
    found = [
        *_timed("first answer", commands, rows, place, notes),
        *_timed("import", imports, rows, place, notes),
        *_timed("python", {"python -c pass": [sys.executable, "-c", "pass"]}, rows, place, notes),
    ]
    return found, notes


def _import(python: str | Path, name: str) -> list[str]:
    return [str(python), "-c", f"import {name}"]


def _timed(
    what: str, commands: dict[str, list[str]], rows: Path, place: Workplace, notes: list[str]
) -> list[dict[str, Any]]:
    def turn(who: str) -> list[float]:
        rows.unlink(missing_ok=True)
        return [run(commands[who]).seconds]

    able: dict[str, list[str]] = {}
    for who, command in commands.items():
        try:
            turn(who)
            able[who] = command
        except ProcessError as error:
            notes.append(f"{who}: {error}")
    timings = in_turns({who: partial(turn, who) for who in able}, place.rule)
    return [{"what": what, "who": who, "seconds": t.record()} for who, t in timings.items()]


def tables(result: Result) -> str:
    """Return first answers, then imports."""
    answers = [row for row in result.rows if row["what"] == "first answer"]
    ours = next(row["seconds"] for row in answers if row["who"] == _OURS)
    first = [
        [row["who"], in_seconds(row["seconds"]), times(row["seconds"], ours)]
        for row in sorted(answers, key=lambda row: row["seconds"]["median"])
    ]
    rest = [
        [
            f"{row['what']} {row['who']}" if row["what"] == "import" else row["who"],
            in_seconds(row["seconds"]),
        ]
        for row in result.rows
        if row["what"] != "first answer"
    ]
    return "\n\n".join(
        [
            markdown(("command to first answer", "seconds", f"{_OURS} is"), first),
            markdown(("a process that does no more than", "seconds"), rest),
            NOT_STABLE,
        ]
    )


def plot(result: Result, path: Path) -> None:
    """Draw the seconds to the first answer."""
    from benchmarks.plots import bars

    values = {
        row["who"]: tuple(row["seconds"][end] for end in ("median", "low", "high"))
        for row in result.rows
        if row["what"] == "first answer"
    }
    bars({"seconds from command to first answer": values}, path, marked="gclf", digits=2)
