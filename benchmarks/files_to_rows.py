"""How fast does a folder of pictures become a file of rows, whole process, and what is the limit?

Everybody classifies the same folder with the same network and writes a row per picture; all take
turns. Ours also runs what the others cannot: the same network in int8, and the embedded model.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contenders import PEERS, Ours, answers, disagreement
from benchmarks.measuring import in_turns
from benchmarks.processes import ProcessError, Run, run
from benchmarks.results import Result
from benchmarks.stages import measure_stages
from benchmarks.tables import NOT_STABLE, markdown, per_second, times
from benchmarks.workplace import EMBEDDED, Workplace

NETWORK = "cnn"
_SAME, _EMBEDDED = f"gclf, {NETWORK} fp32", "gclf, embedded int8"
_SAMPLE = 1000  # pictures that the stages are timed on


def measure(place: Workplace) -> tuple[list[dict[str, Any]], list[str]]:
    """Run all, on faces and on photos."""
    sizes = (60, 4) if place.quick else (5000, 500)
    notes: list[str] = []
    rows: list[dict[str, Any]] = []
    for name, folder in (
        ("faces", place.faces(sizes[0])),
        ("photos", place.photos(sizes[1])),
    ):
        rows += _measure(place, name, folder, notes)
    return rows, notes


def _ours(place: Workplace) -> list[Ours]:
    embedded = Ours(_EMBEDDED, EMBEDDED)
    if place.quick:
        return [embedded]
    files = {network: place.models(network) for network in (NETWORK, "resnet10")}
    return [
        Ours(_SAME, files[NETWORK] / "gclf.onnx"),
        Ours(f"gclf, {NETWORK} int8", files[NETWORK] / "gclf.int8.onnx"),
        Ours("gclf, resnet10 fp32", files["resnet10"] / "gclf.onnx"),
        embedded,
    ]


def _measure(place: Workplace, name: str, folder: Path, notes: list[str]) -> list[dict[str, Any]]:
    ours = _ours(place)
    rows_of = _RowFiles(place.scratch / "rows")
    commands: dict[str, Callable[[], list[str]]] = {}
    for one in ours:
        commands[one.name] = lambda one=one: one.command(folder, rows_of(one.name))
    if place.with_peers:
        models = place.models(NETWORK)
        for peer in PEERS:
            commands[peer.name] = lambda p=peer: p.command(folder, models, rows_of(p.name))
    commands = _able(commands, name, notes)
    taken: dict[str, list[Run]] = {who: [] for who in commands}

    def turn(who: str) -> list[float]:
        taken[who].append(run(commands[who]()))
        return [taken[who][-1].seconds]

    rule = replace(place.rule, warm_up=0)  # each has run once already
    timings = in_turns({who: partial(turn, who) for who in commands}, rule)
    count = len(list(folder.rglob("*.jpg")))
    given = {who: answers(rows_of.last[who]) for who in commands}
    expected = given[ours[0].name]
    sample = sorted(folder.rglob("*.jpg"))[: min(_SAMPLE, count)]
    measured = {one.name: one.model for one in ours}
    versions = {peer.name: peer.versions() for peer in PEERS if peer.name in commands}
    found: list[dict[str, Any]] = []
    for who, timing in timings.items():
        row: dict[str, Any] = {
            "pictures": name,
            "count": count,
            "who": who,
            "is_ours": who in measured,
            "is_packaged": any(p.name == who and p.is_packaged for p in PEERS),
            "versions": versions.get(who, {}),
            "seconds": timing.record(),
            "cpu_s": sorted(r.cpu_s for r in taken[who])[len(taken[who]) // 2],
            "peak_mb": run(commands[who](), watch=True).peak_mb,
        }
        if who in measured:
            rounds = 1 if place.quick else 5
            row["stages"] = measure_stages(measured[who], sample, rounds=rounds).record()
        if who not in measured or who == ours[0].name:  # the others have other weights
            row["answered_otherwise"], row["largest_difference"] = disagreement(
                given[who], expected
            )
        found.append(row)
    return found


class _RowFiles:
    """A new file of rows for each run, for none may go on where another stopped."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._numbers = folder, itertools.count()
        self.last: dict[str, Path] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, who: str) -> Path:
        words = "".join(letter if letter.isalnum() else "-" for letter in who)
        self.last[who] = self._folder / f"{words}-{next(self._numbers)}.csv"
        self.last[who].unlink(missing_ok=True)
        return self.last[who]


def _able(
    commands: Mapping[str, Callable[[], list[str]]], pictures: str, notes: list[str]
) -> dict[str, Callable[[], list[str]]]:
    """Run each once; leave out and note who cannot."""
    able: dict[str, Callable[[], list[str]]] = {}
    for who, command in commands.items():
        try:
            run(command())
            able[who] = command
        except ProcessError as error:
            if who.startswith("gclf"):
                raise
            notes.append(f"{who} did not run on {pictures}: {error}")
    return able


def tables(result: Result) -> str:
    """Return who is how fast, then where our time goes."""
    parts: list[str] = []
    for pictures in dict.fromkeys(row["pictures"] for row in result.rows):
        rows = [row for row in result.rows if row["pictures"] == pictures]
        parts += [_speeds(rows), _limits([row for row in rows if row["is_ours"]])]
    return "\n\n".join([*parts, NOT_STABLE])


def _speeds(rows: list[dict[str, Any]]) -> str:
    first, count = rows[0], rows[0]["count"]
    same = first if first["who"] == _SAME else None
    embedded = next((row for row in rows if row["who"] == _EMBEDDED), None)
    lines: list[list[str]] = []
    for row in sorted(rows, key=lambda row: row["seconds"]["median"]):
        otherwise = row.get("answered_otherwise")
        lines.append(
            [
                row["who"],
                per_second(row["seconds"], count),
                times(row["seconds"], same["seconds"]) if same else "",
                times(row["seconds"], embedded["seconds"]) if embedded else "",
                f"{row['cpu_s'] / count * 1e6:,.0f}",
                f"{row['peak_mb']:,.0f}",
                "" if otherwise is None else f"{otherwise:.2%}, {row['largest_difference']:.1g}",
            ]
        )
    header = (
        f"{count:,} {first['pictures']}",
        "pictures/s",
        f"{_SAME} is",
        "embedded is",
        "CPU µs a picture",
        "peak MB",
        f"answered otherwise than {_SAME}, and probability off by up to",
    )
    return markdown(header, lines)


def _limits(rows: list[dict[str, Any]]) -> str:
    lines: list[list[str]] = []
    for row in rows:
        stages = row["stages"]
        named = ("read", "decode", "decode_by_pillow", "network", "rest")
        costs = [f"{stages[name]:,.0f}" for name in named]
        share = row["count"] / row["seconds"]["median"] / stages["limit"]
        lines.append([row["who"], *costs, f"{stages['limit']:,.0f}", f"{share:.0%}"])
    header = (
        "CPU µs a picture, one thread",
        "read",
        "decode",
        "decode, Pillow alone",
        "network",
        "the rest",
        "limit, pictures/s",
        "reached by the whole process",
    )
    return markdown(header, lines)


def plot(result: Result, path: Path) -> None:
    """Draw pictures per second as bars, faces beside photos."""
    from benchmarks.plots import bars

    groups: dict[str, dict[str, tuple[float, float, float]]] = {}
    for row in result.rows:
        taken = row["seconds"]
        speeds = [row["count"] / taken[end] for end in ("median", "high", "low")]
        title = f"{row['count']:,} {row['pictures']}, pictures per second"
        groups.setdefault(title, {})[row["who"]] = (speeds[0], speeds[1], speeds[2])
    bars(groups, path, marked="gclf")
