"""Result files to docs/benchmarks.md, its plots, and the README's table.

The prose of both pages is written by hand; what stands between `<!-- figures: NAME -->` and
`<!-- end -->` is written here, so that no figure is ever copied by hand.
"""

import re
import shutil
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import results
from benchmarks.conditions import machine
from benchmarks.results import Result
from benchmarks.tables import NOT_STABLE, markdown, plain, tilde

_ROOT = Path(__file__).parent.parent
_SUMMARY = "summary"


def publish_folder(folder: Path, root: Path = _ROOT) -> list[Path]:
    """Write all that the results of a folder say; return the files written.

    Args:
        folder: Of results.
        root: Has README.md and docs/benchmarks.md.

    Raises:
        ValueError: A page has no place for the figures of a result, or a result is damaged;
            nothing was written.
    """
    found = {path.stem: results.load(path) for path in sorted(folder.glob("*.json"))}
    if not found:
        raise ValueError("no results are in it")
    blocks = {name: _block(result) for name, result in found.items()}
    page, readme = root / "docs" / "benchmarks.md", root / "README.md"
    texts = {page: _filled(page, blocks)}
    if {"files_to_rows", "startup"} <= found.keys():
        summary = _summary(found["files_to_rows"], found["startup"])
        texts[readme] = _filled(readme, {_SUMMARY: summary})
    plots = page.with_suffix("")
    with TemporaryDirectory() as drawn:
        for name, result in found.items():
            import_module(f"benchmarks.{name}").plot(result, Path(drawn) / f"{name}.png")
        shutil.copytree(drawn, plots, dirs_exist_ok=True)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return [*(plots / f"{name}.png" for name in found), *texts]


def _block(result: Result) -> str:
    question: Any = import_module(f"benchmarks.{result.question}")
    plot = f"![{_title(question)}](benchmarks/{result.question}.png)"
    return f"{plot}\n\n{question.tables(result)}\n\n{_stamp(result)}"


def _title(question: Any) -> str:
    """Return the question itself: the first line of its module."""
    return " ".join(question.__doc__.split("\n\n")[0].split())


def _stamp(result: Result) -> str:
    """Return what the figures were measured on, and what went otherwise than wished."""
    said = result.conditions
    scheduling = "" if said["scheduling"] == "ordinary" else f", {said['scheduling']} scheduling"
    packages = ", ".join(f"{name} {number}" for name, number in said["versions"].items())
    lines = [
        f"{machine(said)}; Python {said['python']}, {packages}; seed {said['seed']}; commit "
        f"{said['commit']}; {said['date'][:16].replace('T', ' ')}; load {said['load_before']} "
        f"before{scheduling}. `{said['command']}`"
    ]
    peers = {row["who"]: row["versions"] for row in result.rows if row.get("versions")}
    for who, needed in peers.items():
        lines.append(f"{who}: {', '.join(f'{n} {v}' for n, v in needed.items())}.")
    return "\n\n".join(["<br>\n".join(lines), *(f"Note: {note}" for note in result.notes)])


def _summary(rows: Result, startup: Result) -> str:
    """Return one line per contender: faces, photos, first answer, memory."""
    first = {row["who"]: row["seconds"] for row in startup.rows if row["what"] == "first answer"}
    lines: list[list[str]] = []
    by = {(row["who"], row["pictures"]): row for row in rows.rows}
    by_speed = sorted(rows.rows, key=lambda row: row["seconds"]["median"] / row["count"])
    for who in dict.fromkeys(row["who"] for row in by_speed):
        both = [by.get((who, pictures)) for pictures in ("faces", "photos")]
        started = first.get(who)
        lines.append(
            [
                who,
                *(plain(row["seconds"], row["count"]) if row else "" for row in both),
                f"{tilde(started)}{started['median']:.2f}" if started else "",
                f"{max(row['peak_mb'] for row in both if row):,.0f}",
            ]
        )
    counts = {row["pictures"]: row["count"] for row in rows.rows}
    header = (
        "whole process, pictures/s",
        f"{counts['faces']:,} small faces",
        f"{counts['photos']:,} photos 1600×1200",
        "first answer, s",
        "peak MB",
    )
    both = (rows.conditions, startup.conditions)
    if len({machine(said) for said in both}) > 1:
        raise ValueError("files_to_rows and startup were measured on different machines")
    commands = dict.fromkeys(f"`{said['command']}`" for said in both)
    said = f"{machine(rows.conditions)}; {', '.join(commands)}"
    return "\n\n".join([markdown(header, lines), NOT_STABLE, said])


def _filled(page: Path, blocks: dict[str, str]) -> str:
    """Return the text of a page with each block in its place."""
    text = page.read_text(encoding="utf-8")
    for name, block in blocks.items():
        place = re.compile(rf"(<!-- figures: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not place.search(text):
            raise ValueError(f"{page.name} has no place for {name}. Write <!-- figures: {name} -->")
        text = place.sub(lambda found, block=block: f"{found[1]}\n{block}\n\n{found[2]}", text)
    return text
