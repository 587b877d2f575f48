"""How long from a command to its first answer, and how long does an import take?

A whole process on a folder of one picture, files in the page cache; bytecode compiled for all.
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contenders import PEERS, Command, Ours, able
from benchmarks.environments import python_of
from benchmarks.files_to_rows import NETWORK
from benchmarks.measuring import in_turns
from benchmarks.processes import run
from benchmarks.results import Result
from benchmarks.tables import NOT_STABLE, in_seconds, markdown, times
from benchmarks.workplace import EMBEDDED, Workplace

_OURS = "gclf-infer"
_IMPORTS = ("gclf_runtime", "onnxruntime", "torch", "torchvision")  # in the project's environment


def measure(place: Workplace) -> tuple[list[dict[str, Any]], list[str]]:
    """Start everybody."""
    notes: list[str] = []
    folder, rows = place.faces(1), place.rows("first")
    ours = Ours(_OURS, EMBEDDED)
    commands: dict[str, Command] = {_OURS: lambda: ours.command(folder, rows)}
    own = _IMPORTS[: 2 if place.quick else None]
    imports: dict[str, Command] = {name: partial(_import, sys.executable, name) for name in own}
    if place.with_peers:
        models = place.models(NETWORK)
        for peer in PEERS:
            commands[peer.name] = lambda peer=peer: peer.command(folder, models, rows)
            imports.setdefault(
                peer.imports, lambda peer=peer: _import(python_of(peer.adapter), peer.imports)
            )
    nothing: dict[str, Command] = {"python -c pass": lambda: [sys.executable, "-c", "pass"]}
    found = [
        *_timed("first answer", commands, place, notes),
        *_timed("import", imports, place, notes),
        *_timed("python", nothing, place, notes),
    ]
    return found, notes


def _import(python: str | Path, name: str) -> list[str]:
    return [str(python), "-c", f"import {name}"]


def _timed(
    what: str, commands: dict[str, Command], place: Workplace, notes: list[str]
) -> list[dict[str, Any]]:
    willing = able(commands, f"the question of the {what}", notes)

    def turn(command: Command) -> float:
        return run(command()).seconds

    rule = replace(place.rule, warm_up=0)
    timings = in_turns({who: partial(turn, command) for who, command in willing.items()}, rule)
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
