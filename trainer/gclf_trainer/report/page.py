"""What the report's page is made of: safe text, tables, pictures, the frame and its style.

Whatever a file or a class is called, the page shows it and does nothing else with it, loads
nothing, and encodes to UTF-8. The style follows the runtime's report.
Axes: h height, w width, c channels (RGB).
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from gclf_runtime.sinks import markup
from gclf_runtime.sinks.markup import NAME_CHARS, image, name, safe

__all__ = [
    "between",
    "figure",
    "gallery",
    "grid",
    "name",
    "page",
    "percent",
    "safe",
    "section",
    "table",
    "tiles",
]


def percent(share: float | None) -> str:
    """Write a share, 0-1, with one decimal; a dash when there is none."""
    return "–" if share is None else f"{share:.1%}"


def between(interval: tuple[float, float]) -> str:
    """Write an interval of shares, 0-1."""
    low, high = interval
    return f"{100 * low:.1f}–{100 * high:.1f}%"


def tiles(items: Iterable[tuple[str, str, str]]) -> str:
    """Show figures: what each is, its value, and a note below; all are HTML already."""
    parts = (
        f'<div><dt>{what}</dt><dd>{value}</dd><dd class="note">{note}</dd></div>'
        for what, value, note in items
    )
    return f'<dl class="tiles">{"".join(parts)}</dl>'


def table(style: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Make a table of cells that are HTML already; the first of each row names it.

    Args:
        style: Its class in the style sheet.
        columns: Their names; without any the table has no head.
        rows: Cells, as many as columns where these are named.
    """
    cells = "".join(f'<th scope="col">{column}</th>' for column in columns)
    head = f"<thead><tr>{cells}</tr></thead>\n" if cells else ""
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>\n'
        for first, *rest in rows
    )
    return f'<div class="wide"><table class="{style}">{head}<tbody>{body}</tbody></table></div>'


def section(title: str, note: str, *parts: str) -> str:
    """Put parts under a heading; nothing without parts."""
    content = "\n".join(part for part in parts if part)
    above = f'<p class="note">{note}</p>\n' if note else ""
    return f"<section>\n<h2>{title}</h2>\n{above}{content}\n</section>" if content else ""


def gallery(figures: Iterable[str], side: int) -> str:
    """Lay pictures out, each a whole multiple of its size where it is small."""
    shown = side * max(1, round(128 / side))
    return f'<div class="gallery" style="--picture: {shown}px">\n{"".join(figures)}</div>'


def figure(pixels_hwc: NDArray[np.uint8], lines: Iterable[tuple[str, str]], path: str = "") -> str:
    """Show a picture, lines of text and number below it, and its file's name."""
    # Paths of another system too: both separators.
    file = path.replace("\\", "/").rsplit("/", 1)[-1] or path
    spans = "".join(f'<span class="guess">{left}<b>{right}</b></span>' for left, right in lines)
    below = f'<bdi title="{safe(path)}">{safe(file, NAME_CHARS)}</bdi>' if path else ""
    alt = safe(file, NAME_CHARS) if path else "augmented training picture"
    return f"<figure>{image(pixels_hwc, alt)}<figcaption>{spans}{below}</figcaption></figure>\n"


def grid(ticks: Sequence[float], unit: str) -> str:
    """Draw lines across a chart with their numbers; the first is its foot, the last its top."""
    low, high = ticks[0], ticks[-1]
    return "".join(
        f'<line x2="100%" y1="{y:.2f}%" y2="{y:.2f}%"/>'
        f'<text x="-8" y="{y:.2f}%" dy=".35em" text-anchor="end">{tick:g}{unit}</text>'
        for tick in ticks
        for y in [100 - 100 * (tick - low) / (high - low)]
    )


def page(title: str, body: str) -> str:
    """Frame the body; the title is text."""
    return markup.page(title, _STYLE, body, made_by="gclf-train")


_STYLE = """
:root { --ink: #1f2933; --soft: #5a6772; --line: #d5dbe1; --faint: #f3f5f7; --paper: #fff;
  --right: #2e7ea8; --other: #c9821b; --wrong: #c4513d; --good: #3b9c5a }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e3e8ed; --soft: #9aa7b3; --line: #333d47; --faint: #1c232a; --paper: #14191e;
    --right: #4c9dc9; --other: #d99a3c; --wrong: #da6f5b; --good: #55b375 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 68rem; padding: 2rem 1.25rem 3rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere;
  print-color-adjust: exact; -webkit-print-color-adjust: exact }
h1 { margin: 0 0 .25rem; font-size: 1.75rem; line-height: 1.2 }
h2 { margin: 2.75rem 0 .75rem; font-size: 1.25rem } h3 { margin: 1.5rem 0 .5rem; font-size: 1rem }
.lead { margin: 0 0 1.25rem; color: var(--soft) }
small, .note, footer { color: var(--soft); font-size: .875rem; font-weight: normal }
.note { margin: .5rem 0; max-width: 48rem } small { margin-left: .4em }
section > p { max-width: 48rem; font-size: .9375rem }
bdi { display: inline-block; max-width: 100%; overflow: hidden; vertical-align: bottom }
dd bdi, p bdi { display: inline }
.right { color: var(--right) } .other { color: var(--other) } .wrong { color: var(--wrong) }
.good { color: var(--good) }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem;
  margin: 0 }
.tiles div { padding: .75rem 1rem; border-radius: 8px; background: var(--faint) }
dt { color: var(--soft); font-size: .875rem }
dd { margin: 0; font-size: 1.5rem; line-height: 1.3; font-variant-numeric: tabular-nums }
dd.note { margin: .15rem 0 0; font-size: .8125rem; line-height: 1.35 }
.wide { max-width: 100%; overflow-x: auto } .wide + .wide { margin-top: 1.5rem }
table { border-collapse: collapse; font-size: .9375rem; font-variant-numeric: tabular-nums }
th, td { padding: .35rem 1.25rem .35rem 0; border-bottom: 1px solid var(--line);
  text-align: left; vertical-align: top; font-weight: normal }
thead th, .facts th { color: var(--soft); font-size: .875rem; overflow-wrap: normal }
.facts th { min-width: 8rem }
.numbers { width: 100% } .numbers th + th, .numbers td { text-align: right; white-space: nowrap }
.numbers th { min-width: 7rem } .numbers th + th { min-width: 0 }
.numbers th:last-child, .numbers td:last-child { width: 40%; min-width: 9rem; padding-right: .5rem;
  vertical-align: middle }
.range { display: block; height: 1rem; overflow: visible; stroke: currentcolor }
.range circle { fill: currentcolor } .range .base { stroke: var(--soft); opacity: .7 }
.ends { display: flex; justify-content: space-between }
.badge { display: inline-block; padding: 0 .6em; border-radius: 1em; background: currentcolor;
  font-size: .8125rem } .badge b { color: var(--paper); font-weight: 600 }
.soft { color: var(--soft) }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr));
  gap: 1.5rem 2.5rem }
.plots h3 { margin: .5rem 0 0 }
.legend { display: flex; flex-wrap: wrap; gap: 0 1rem; margin: 0; padding: 0; min-height: 1.5em;
  list-style: none; color: var(--soft); font-size: .8125rem }
.swatch { display: inline-block; width: .7em; height: .7em; margin-right: .4em; border-radius: 2px;
  background: currentcolor }
.plot { padding: 1.5rem .75rem 2.75rem 3.5rem; break-inside: avoid }
.plot > svg { display: block; width: 100%; height: 13rem; overflow: visible; font-size: .75rem }
.plot.square, .plot.counts { max-width: 22rem }
.plot.square > svg { height: auto; aspect-ratio: 1 } .plot.counts { padding-top: 0 }
.plot.counts > svg { height: 3.5rem }
.plot text { fill: var(--soft) } .plot line { stroke: var(--line) }
.plot polyline { fill: none; stroke: currentcolor; stroke-width: 2; stroke-linejoin: round;
  vector-effect: non-scaling-stroke }
.plot circle { fill: currentcolor } .plot .mark { stroke: var(--soft); stroke-dasharray: 3 3 }
.plot .diagonal { stroke: var(--soft); stroke-dasharray: 5 4 }
.plot .bar { fill: currentcolor; opacity: .85 } .plot .whisker { stroke: var(--ink) }
.plot .gap { fill: currentcolor; opacity: .5 }
.hover { fill: var(--line); opacity: 0 } g:hover > .hover { opacity: .35 }
.confusion { border-spacing: 2px; border-collapse: separate }
.confusion th, .confusion td { border: 0; padding: .4rem .6rem; vertical-align: middle }
.confusion thead th { vertical-align: bottom; text-align: center }
.confusion tbody th { text-align: right; max-width: 12rem }
.confusion td { min-width: 3.75rem; height: 3rem; border-radius: 4px; text-align: center;
  line-height: 1.2; color: var(--ink);
  background: color-mix(in srgb, var(--shade) var(--share), var(--faint)) }
.confusion td.deep { color: var(--paper) } .confusion td small { display: block; margin: 0;
  color: inherit; opacity: .8; font-size: .75rem }
.matrix { display: block; width: 100%; height: auto; font-size: 8px }
.matrix text { fill: var(--soft) } .matrix rect { fill: currentcolor }
.matrix .ground { fill: var(--faint) }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, min(var(--picture), 100%));
  gap: 1.25rem 1rem; justify-content: space-between }
figure { margin: 0; min-width: 0; break-inside: avoid }
img { display: block; width: 100%; height: auto; border-radius: 4px; background: var(--faint);
  image-rendering: pixelated }
figcaption { margin-top: .35rem; color: var(--soft); font-size: .8125rem; line-height: 1.35 }
.guess { display: flex; justify-content: space-between; gap: .3em }
.guess b { font-weight: normal; white-space: nowrap }
.guess:first-child { color: var(--ink) } .guess:first-child b { font-weight: 600 }
pre { margin: 0; padding: .75rem 1rem; border-radius: 8px; background: var(--faint);
  font: .875rem/1.5 ui-monospace, monospace; white-space: pre-wrap }
details { margin-top: 1rem } summary { cursor: pointer; color: var(--right) }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line) }
@media (max-width: 34rem) {
  body { padding: 1.25rem 1rem 2rem } th, td { padding-right: .75rem }
  .gallery { grid-template-columns: repeat(auto-fill, min(calc(var(--picture) * .75), 100%));
    gap: 1rem .75rem }
  figcaption { font-size: .75rem } }
@media print {
  body { max-width: none; padding: 0 } h2, h3 { break-after: avoid }
  details::details-content { content-visibility: visible; display: block }
  tr { break-inside: avoid } .wide { overflow: visible } figcaption { font-size: .75rem }
  .gallery { grid-template-columns: repeat(auto-fill, calc(var(--picture) * .75)) } }
"""
