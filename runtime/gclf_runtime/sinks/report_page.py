"""The page of a report: what was collected, as HTML that loads nothing and trusts no name.

Axes: h height, w width, c channels (RGB).
"""

import heapq
import itertools
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from gclf_runtime.sinks import markup
from gclf_runtime.sinks.markup import NAME_CHARS, image, safe

_BELOW = 2  # guesses that have room below their picture; more stand beside it


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture to show: its path, its best classes, and what the model saw."""

    path: str
    top: list[tuple[str, float]]
    pixels_hwc: NDArray[np.uint8] | None


Entry = tuple[float, int, Picture]


@dataclass(slots=True)
class Group:
    """What is kept of one answer.

    Attributes:
        label: The answer.
        legend: What the histogram calls it.
        color: A class of the style sheet.
        bins: Counts by confidence.
        confidence_sum: Of all answers.
        heap: Pictures by (-probability, -order of arrival): the first to leave is the most
            confident, among equals the latest.
    """

    label: str
    legend: str
    color: str
    bins: list[int]
    confidence_sum: float = 0.0
    heap: list[Entry] = field(default_factory=list[Entry])

    @property
    def count(self) -> int:
        """All answers of the group."""
        return sum(self.bins)

    def shrink(self, limit: int) -> None:
        """Drop the most confident pictures beyond a limit."""
        while len(self.heap) > limit:
            heapq.heappop(self.heap)


def render(
    groups: list[Group],
    silent: list[str],
    edges: list[float],
    kinds: Counter[str],
    failures: list[tuple[str, str, str]],
    facts: Mapping[str, str],
) -> str:
    """Write the page.

    Args:
        groups: The answers that were given, in the order to show them.
        silent: Classes that no picture was answered.
        edges: Of the bins of confidence, in percent.
        kinds: Failures by kind, all of them.
        failures: Path, kind and reason of those to list.
        facts: What to say of the run, by name.
    """
    files = sum(group.count for group in groups) + kinds.total()
    parts = [
        _heading(files, groups, kinds.total()),
        _facts(facts),
        _answers(groups, silent) if groups else '<p class="note">No picture was answered.</p>',
        _confidence(edges, groups) if groups else "",
        _gallery(groups) if groups else "",
        _failures(kinds, failures) if kinds else "",
    ]
    body = "\n".join(part for part in parts if part)
    return markup.page("Classification report", _style(), body, made_by="gclf-infer")


def _heading(files: int, groups: list[Group], failed: int) -> str:
    answered = sum(group.count for group in groups if group.color != "other")
    tiles = [("files", f"{files:,}"), ("answered", f"{answered:,}")]
    tiles += [
        (markup.name(group.label), f"{group.count:,}") for group in groups if group.color == "other"
    ]
    tiles.append(("could not be read", f"{failed:,}"))
    if groups:
        mean = sum(group.confidence_sum for group in groups) / sum(group.count for group in groups)
        tiles.append(("mean confidence", f"{mean:.1%}"))
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in tiles)
    return f'<h1>Classification report</h1>\n<dl class="tiles">{items}</dl>'


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{markup.name(name)}</th><td><bdi>{safe(value)}</bdi></td></tr>\n'
        for name, value in facts.items()
    )
    return f'<h2>This run</h2>\n<table class="facts"><tbody>{rows}</tbody></table>' if rows else ""


def _table(style: str, columns: Iterable[str], rows: Iterable[str]) -> str:
    heads = "".join(f'<th scope="col">{name}</th>' if name else "<td></td>" for name in columns)
    return (
        f'<table class="{style}"><thead><tr>{heads}</tr></thead>\n'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _answers(groups: list[Group], silent: list[str]) -> str:
    total, most = sum(group.count for group in groups), groups[0].count
    rows = (
        f'<tr><th scope="row" class="named"><span class="swatch {group.color}"></span>'
        f'<a href="#class-{index}">{markup.name(group.label)}</a></th>'
        f"<td>{group.count:,}</td><td>{group.count / total:.1%}</td>"
        f"<td>{group.confidence_sum / group.count:.1%}</td>"
        f'<td class="share {group.color}" aria-hidden="true"><svg width="100%" height="10">'
        f'<rect width="{group.count / most:.2%}" height="10" rx="2"/></svg></td></tr>\n'
        for index, group in enumerate(groups)
    )
    table = _table("numbers", ("class", "pictures", "share", "mean confidence", ""), rows)
    missing = f'\n<p class="note">No picture was answered {safe(", ".join(silent))}.</p>'
    return f"<h2>Answers</h2>\n{table}{missing if silent else ''}"


def _confidence(edges: list[float], groups: list[Group]) -> str:
    series: dict[tuple[str, str], list[int]] = {}
    for group in groups:
        sums = series.get((group.legend, group.color), [0] * len(group.bins))
        bins = [a + b for a, b in zip(sums, group.bins, strict=True)]
        series[group.legend, group.color] = bins
    legend = "".join(
        f'<li><span class="swatch {color}"></span>{markup.name(name)}</li>'
        for name, color in series
    )
    return (
        '<section class="chart">\n<h2>Confidence</h2>\n'
        '<p class="note">Pictures by the probability of their answer.</p>\n'
        f'<ul class="legend">{legend}</ul>\n{_histogram(edges, series)}</section>'
    )


def _histogram(edges: list[float], series: Mapping[tuple[str, str], list[int]]) -> str:
    """Draw stacked bars; x and y are in percent, so that text keeps its size on a phone."""
    totals = [sum(counts) for counts in zip(*series.values(), strict=True)]
    step = _round_step(max(totals) / 5)
    top = step * -(-max(totals) // step)
    grid = "".join(
        f'<line x2="100%" y1="{y:.2f}%" y2="{y:.2f}%"/>'
        f'<text x="-8" y="{y:.2f}%" dy=".35em" text-anchor="end">{count:,}</text>'
        for count in range(0, top + 1, step)
        for y in [100 - 100 * count / top]
    )
    ticks = {edges[0], *(t for t in range(0, 101, 10 if edges[0] >= 50 else 20) if t > edges[0])}
    axis = "".join(
        f'<text x="{100 * (tick - edges[0]) / (100 - edges[0]):.2f}%" y="100%" dy="1.6em" '
        f'text-anchor="middle">{tick:g}%</text>'
        for tick in sorted(ticks)
    )
    bars = "".join(_bar(index, edges, series, top) for index, n in enumerate(totals) if n)
    pairs = zip(itertools.pairwise(edges), totals, strict=True)
    spoken = ", ".join(f"{low:g} to {high:g}%: {n:,}" for (low, high), n in pairs if n)
    return (
        f'<svg class="histogram" role="img" aria-label="Pictures by confidence. {spoken}">\n'
        f"{grid}\n{axis}\n{bars}"
        '<text x="100%" y="100%" dy="3.2em" text-anchor="end">probability of the answer</text>'
        '<text y="0" dy="-1em">pictures</text></svg>'
    )


def _round_step(least: float) -> int:
    """Return the smallest 1, 2 or 5 times a power of ten that is not below `least`."""
    steps = (digit * 10**power for power in itertools.count() for digit in (1, 2, 5))
    return next(step for step in steps if step >= least)


def _bar(
    index: int, edges: list[float], series: Mapping[tuple[str, str], list[int]], top: int
) -> str:
    """Draw the stack of one bin; its numbers show while the pointer is on it."""
    width, y, rectangles = 100 / (len(edges) - 1), 100.0, ""
    for (_, color), bins in series.items():
        height = 100 * bins[index] / top
        y -= height
        rectangles += (
            f'<rect class="{color}" x="{(index + 0.08) * width:.3f}%" y="{y:.3f}%" '
            f'width="{0.84 * width:.3f}%" height="{height:.3f}%"/>'
        )
    total = f"{sum(bins[index] for bins in series.values()):,}"
    parts = (f"{safe(name, NAME_CHARS)} {bins[index]:,}" for (name, _), bins in series.items())
    return (
        f"<g><title>{edges[index]:g} to {edges[index + 1]:g}%: {total} ({', '.join(parts)})</title>"
        f'<rect class="hover" x="{index * width:.3f}%" width="{width:.3f}%" height="100%"/>'
        f'{rectangles}<text class="count" x="{(index + 0.5) * width:.3f}%" y="{y:.3f}%" dy="-.4em" '
        f'text-anchor="middle">{total}</text></g>\n'
    )


def _gallery(groups: list[Group]) -> str:
    pictures = (entry[2].pixels_hwc for group in groups for entry in group.heap)
    height, width = next((p.shape[:2] for p in pictures if p is not None), (64, 64))
    scale = max(1, round(128 / max(height, width)))
    guesses = max((len(entry[2].top) for group in groups for entry in group.heap), default=0)
    layout = "gallery beside" if guesses > _BELOW else "gallery"
    sections = "".join(
        f'<section id="class-{index}">\n'
        f"<h3>{markup.name(group.label)} <small>{_shown(group)}</small></h3>\n"
        f'<div class="{layout}">\n{_figures(group)}</div></section>\n'
        for index, group in enumerate(groups)
    )
    return (
        f'<div style="--picture: {width * scale}px">\n<h2>What the model saw</h2>\n'
        f'<p class="note">The exact {width}×{height} pixels it was given, enlarged; the least '
        f"confident first, each with its most probable classes.</p>\n{sections}</div>"
    )


def _shown(group: Group) -> str:
    kept, count = len(group.heap), group.count
    if kept < count:
        return f"the {kept:,} least confident of {count:,}" if kept else f"none of {count:,} shown"
    return f"all {count:,}"


def _figures(group: Group) -> str:
    ordered = sorted(group.heap, key=lambda entry: entry[:2], reverse=True)
    return "".join(_figure(picture) for _, _, picture in ordered)


def _figure(picture: Picture) -> str:
    name = os.path.basename(picture.path) or picture.path
    guesses = "".join(
        f'<span class="guess" style="--share: {probability:.1%}">'
        f"{markup.name(label)}<b>{probability:.1%}</b></span>"
        for label, probability in picture.top
    )
    return (
        f"<figure>{_image(picture.pixels_hwc, name)}<figcaption>{guesses}"
        f'<bdi title="{safe(picture.path)}">{safe(name, NAME_CHARS)}</bdi>'
        "</figcaption></figure>\n"
    )


def _image(pixels_hwc: NDArray[np.uint8] | None, name: str) -> str:
    if pixels_hwc is None:
        return '<div class="blank">pixels not kept</div>'
    return image(pixels_hwc, f"what the model saw of {safe(name, NAME_CHARS)}")


def _failures(kinds: Counter[str], failures: list[tuple[str, str, str]]) -> str:
    counts = (
        f'<tr><th scope="row">{safe(kind)}</th><td>{count:,}</td></tr>\n'
        for kind, count in kinds.most_common()
    )
    rows = (
        f'<tr><td class="path"><bdi>{safe(path)}</bdi></td><td class="kind">{safe(kind)}</td>'
        f"<td><bdi>{safe(reason)}</bdi></td></tr>\n"
        for path, kind, reason in failures
    )
    total, listed = kinds.total(), len(failures)
    cut = f"<small>the first {listed:,} of {total:,} listed</small>" if listed < total else ""
    return (
        f'<h2 id="failures">Could not be read {cut}</h2>\n'
        f"{_table('numbers', ('kind', 'files'), counts)}\n"
        + (_table("failures", ("file", "kind", "reason"), rows) if failures else "")
    )


def _style() -> str:
    return resources.files("gclf_runtime.sinks").joinpath("report.css").read_text(encoding="utf-8")
