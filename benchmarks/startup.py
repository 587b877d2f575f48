"""How long from a command to its first answer, and how long does an import take?

A whole process on a folder of one picture, files in the page cache; bytecode compiled for all. Ours
runs the network of the others, and the one that it brings.
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contenders import (
    OURS_EMBEDDED,
    SAME,
    Command,
    able,
    check_rows,
    commands_of,
    ours_of,
    peers_of,
)
from benchmarks.environments import python_of
from benchmarks.measuring import in_turns
from benchmarks.processes import run
from benchmarks.results import Result
from benchmarks.tables import NOT_STABLE, bound_of, in_seconds, markdown, times
from benchmarks.workplace import Workplace

# In the project's environment; gclf_runtime itself imports nothing before it is asked to.
_IMPORTS = (
    "from gclf_runtime import Classifier",
    "import onnxruntime",
    "import torch",
    "import torchvision",
)


def measure(place: Workplace) -> tuple[list[dict[str, Any]], list[str]]:
    """Start everybody."""
    notes: list[str] = []
    face = place.faces(1)
    names = {path.name for path in face.rglob("*.jpg")}
    commands = commands_of(place, face, ours_of(place), peers_of(place))
    first = able(
        commands, "one picture", notes, check=lambda who: check_rows(place.rows(who), names)
    )
    own = _IMPORTS[: 2 if place.quick else None]
    imports: dict[str, Command] = {
        statement: partial(_python, sys.executable, statement) for statement in own
    }
    for peer in peers_of(place):
        statement = f"import {peer.imports}"
        imports.setdefault(statement, partial(_python_of_peer, peer.adapter, statement))
    nothing: dict[str, Command] = {"pass": partial(_python, sys.executable, "pass")}
    found = [
        *_timed("first answer", first, place),
        *_timed("import", able(imports, "an import", notes), place),
        *_timed("python", able(nothing, "nothing", notes), place),
    ]
    return found, notes


def _python(python: str | Path, statement: str) -> list[str]:
    return [str(python), "-c", statement]


def _python_of_peer(adapter: Path, statement: str) -> list[str]:
    return _python(python_of(adapter), statement)


def _timed(what: str, willing: dict[str, Command], place: Workplace) -> list[dict[str, Any]]:
    def turn(command: Command) -> float:
        return run(command()).seconds

    rule = replace(place.rule, warm_up=0)
    timings = in_turns({who: partial(turn, command) for who, command in willing.items()}, rule)
    return [{"what": what, "who": who, "seconds": t.record()} for who, t in timings.items()]


def tables(result: Result) -> str:
    """Return first answers, beside ours with the same network where it was asked, then imports."""
    answers = [row for row in result.rows if row["what"] == "first answer"]
    by, bound = {row["who"]: row["seconds"] for row in answers}, bound_of(result.conditions)
    ours = SAME if SAME in by else OURS_EMBEDDED
    first = [
        [row["who"], in_seconds(row["seconds"]), times(row["seconds"], by[ours], bound=bound)]
        for row in sorted(answers, key=lambda row: row["seconds"]["median"])
    ]
    rest = [
        [f"`{row['who']}`", in_seconds(row["seconds"])]
        for row in result.rows
        if row["what"] != "first answer"
    ]
    return "\n\n".join(
        [
            markdown(("command to first answer", "seconds", f"{ours} is"), first),
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
