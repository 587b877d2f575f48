"""How fast does a folder of pictures become a file of rows, whole process, and what is the limit?

Everybody classifies the same folder with the same network and writes a row per picture; all take
turns. Ours also runs what the others cannot: the same network in int8, and the embedded model.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contenders import (
    NETWORK,
    OURS_EMBEDDED,
    SAME,
    Ours,
    able,
    answers,
    check_rows,
    commands_of,
    disagreement,
    ours_of,
    peers_of,
)
from benchmarks.measuring import in_turns
from benchmarks.processes import Run, run
from benchmarks.results import Result
from benchmarks.stages import measure_stages
from benchmarks.tables import NOT_STABLE, bound_of, markdown, per_second, rates, times
from benchmarks.workplace import Workplace

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
    *same, embedded = ours_of(place)
    if place.quick:
        return [embedded]
    return [
        *same,
        Ours(f"gclf, {NETWORK} int8", place.models(NETWORK) / "gclf.int8.onnx"),
        Ours("gclf, resnet10 fp32", place.models("resnet10") / "gclf.onnx"),
        embedded,
    ]


def _measure(place: Workplace, name: str, folder: Path, notes: list[str]) -> list[dict[str, Any]]:
    ours = {one.name: one for one in _ours(place)}
    peers = {peer.name: peer for peer in peers_of(place)}
    names = {path.name for path in folder.rglob("*.jpg")}
    count = len(names)
    commands = able(
        commands_of(place, folder, ours.values(), peers.values()),
        name,
        notes,
        check=lambda who: check_rows(place.rows(who), names),
    )
    runs: dict[str, list[Run]] = {who: [] for who in commands}

    def turn(who: str) -> float:
        runs[who].append(run(commands[who]()))
        return runs[who][-1].seconds

    rule = replace(place.rule, warm_up=0)  # each has run once already
    timings = in_turns({who: partial(turn, who) for who in commands}, rule)
    sample = place.linked(folder, min(count, _SAMPLE))
    expected = answers(place.rows(next(iter(ours))))
    found: list[dict[str, Any]] = []
    for who, timing in timings.items():
        row: dict[str, Any] = {
            "pictures": name,
            "count": count,
            "who": who,
            "seconds": timing.record(),
            "cpu_s": median(taken.cpu_s for taken in runs[who]),
            "peak_mb": run(commands[who](), watch=True).peak_mb,
        }
        if who in ours:
            rounds = 1 if place.quick else 5
            stages = measure_stages(ours[who].model, sample, rounds=rounds)
            row["stages"] = stages.record()
        else:
            row["versions"] = peers[who].versions()
            given = disagreement(answers(place.rows(who)), expected)
            row["answered_otherwise"], row["largest_difference"] = given
        found.append(row)
    return found


def tables(result: Result) -> str:
    """Return who is how fast, then where our time goes."""
    parts: list[str] = []
    for pictures in dict.fromkeys(row["pictures"] for row in result.rows):
        rows = [row for row in result.rows if row["pictures"] == pictures]
        speeds = _speeds(rows, bound_of(result.conditions))
        parts += [speeds, _limits([row for row in rows if "stages" in row])]
    return "\n\n".join([*parts, NOT_STABLE])


def _speeds(rows: list[dict[str, Any]], bound: float) -> str:
    first, count = rows[0], rows[0]["count"]
    by = {row["who"]: row["seconds"] for row in rows}
    lines: list[list[str]] = []
    for row in sorted(rows, key=lambda row: row["seconds"]["median"]):
        otherwise = row.get("answered_otherwise")
        lines.append(
            [
                row["who"],
                per_second(row["seconds"], count),
                *(
                    times(row["seconds"], by[who], bound=bound) if who in by else ""
                    for who in (SAME, OURS_EMBEDDED)
                ),
                f"{row['cpu_s'] / count * 1e6:,.0f}",
                f"{row['peak_mb']:,.0f}",
                "" if otherwise is None else f"{otherwise:.2%}, {row['largest_difference']:.1g}",
            ]
        )
    header = (
        f"{count:,} {first['pictures']}",
        "pictures/s",
        f"{SAME} is",
        f"{OURS_EMBEDDED} is",
        "CPU µs a picture",
        "peak MB",
        "answers otherwise, probability off by up to",
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
        title = f"{row['count']:,} {row['pictures']}, pictures per second"
        groups.setdefault(title, {})[row["who"]] = rates(row["seconds"], row["count"])
    bars(groups, path, marked="gclf")
