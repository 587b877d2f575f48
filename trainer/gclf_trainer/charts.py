"""The two pictures of a run: its history and its confusion matrix, drawn with Pillow."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gclf_trainer.atomic_file import write_whole

_SCALE = 2  # drawn twice as large and reduced, which smooths the lines
_INK, _FAINT, _PAPER = "#1f2933", "#d5dbe1", "#ffffff"
_SERIES = ("#d1495b", "#2e86ab", "#3b9c5a")


class _Canvas:
    """A white sheet with text and lines in unscaled pixels."""

    def __init__(self, width: int, height: int) -> None:
        self._image = Image.new("RGB", (width * _SCALE, height * _SCALE), _PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        anchor: str = "la",
        color: str = _INK,
        size: int = 13,
    ) -> None:
        font = ImageFont.load_default(size * _SCALE)
        self._draw.text((x * _SCALE, y * _SCALE), text, color, font, anchor=anchor)

    def width_of(self, text: str, size: int = 13) -> float:
        return ImageFont.load_default(size * _SCALE).getlength(text) / _SCALE

    def line(self, points: Sequence[tuple[float, float]], color: str, width: float = 1) -> None:
        scaled = [(x * _SCALE, y * _SCALE) for x, y in points]
        self._draw.line(scaled, color, round(width * _SCALE), joint="curve")

    def dot(self, x: float, y: float, color: str) -> None:
        self._draw.circle((x * _SCALE, y * _SCALE), 3 * _SCALE, color)

    def box(self, x: float, y: float, width: float, height: float, color: str) -> None:
        corners = (x * _SCALE, y * _SCALE, (x + width) * _SCALE - 1, (y + height) * _SCALE - 1)
        self._draw.rectangle(corners, color)

    def save(self, path: Path) -> None:
        content = io.BytesIO()
        self._image.reduce(_SCALE).save(content, "PNG")
        write_whole(path, content.getbuffer())


def draw_history(
    path: Path, losses: Mapping[str, Sequence[float]], accuracies: Mapping[str, Sequence[float]]
) -> None:
    """Draw losses and accuracies by epoch, side by side.

    Args:
        path: A PNG file.
        losses: Series by name, one value per epoch, at least one.
        accuracies: Likewise, 0-1, drawn as percent.
    """
    canvas = _Canvas(1000, 400)
    _panel(canvas, 0, "loss", losses)
    percent = {name: [100 * value for value in values] for name, values in accuracies.items()}
    _panel(canvas, 500, "accuracy, %", percent)
    canvas.save(path)


def _panel(canvas: _Canvas, x0: float, title: str, series: Mapping[str, Sequence[float]]) -> None:
    left, top, width, height = x0 + 60, 50, 410, 290
    values = [value for points in series.values() for value in points if math.isfinite(value)]
    ticks = round_ticks(min(values, default=0), max(values, default=1))
    low, high = ticks[0], ticks[-1]
    epochs = max(len(points) for points in series.values())

    def at(index: int, value: float) -> tuple[float, float]:
        share = index / (epochs - 1) if epochs > 1 else 0.5
        return left + width * share, top + height * (1 - (value - low) / (high - low))

    canvas.text(left, 14, title, size=15)
    for tick in ticks:
        y = at(0, tick)[1]
        canvas.line([(left, y), (left + width, y)], _FAINT)
        canvas.text(left - 8, y, f"{tick:g}", anchor="rm")
    for epoch in sorted({1, (epochs + 1) // 2, epochs}):
        canvas.text(at(epoch - 1, low)[0], top + height + 8, str(epoch), anchor="ma")
    canvas.text(left + width / 2, top + height + 28, "epoch", anchor="ma")
    legend = left + width
    for (name, points), color in zip(series.items(), _SERIES, strict=False):
        placed = [at(i, value) for i, value in enumerate(points) if math.isfinite(value)]
        if placed:
            canvas.line(placed, color, 2)
            canvas.dot(*placed[-1], color)
        label = f"{name} {points[-1]:.4g}"
        canvas.text(legend, 16, label, anchor="ra", color=color)
        legend -= canvas.width_of(label) + 16


def round_ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers that enclose the range."""
    span = max(high - low, abs(high) / 100, 1e-3)
    rough = span / 4
    magnitude = 10.0 ** np.floor(np.log10(rough))
    step = float(min((m * magnitude for m in (1, 2, 5, 10)), key=lambda s: abs(s - rough)))
    first, last = int(np.floor(low / step)), int(np.ceil(high / step))
    if first == last:  # one value, and it is round: 100 % is the most there is, 0 the least
        first, last = (first - 1, last) if first > 0 else (first, last + 1)
    return [round(i * step, 10) for i in range(first, last + 1)]


def draw_confusion(path: Path, confusion_kk: NDArray[np.int64], label_names: Sequence[str]) -> None:
    """Draw a confusion matrix, each row shaded by its share.

    Args:
        path: A PNG file.
        confusion_kk: Counts, shape (K, K): rows are the truth, columns the answers.
        label_names: Names of the classes.
    """
    classes = len(label_names)
    cell = max(1, min(90, 900 // classes))
    size = 13 if cell >= 40 else 10
    names = [name if len(name) <= 24 else name[:23] + "…" for name in label_names]
    canvas = _Canvas(1, 1)
    has_names = cell >= 12  # with more than 75 classes there is no room to name them
    margin = 30 + has_names * round(max(canvas.width_of(name, size) for name in names))
    side = cell * classes
    canvas = _Canvas(max(margin + side + 30, 320), margin + side + 60)
    total, right = int(confusion_kk.sum()), int(np.trace(confusion_kk))
    canvas.text(16, 14, f"accuracy {right / max(1, total):.2%} of {total}", size=15)
    top = margin + 30
    shares_kk = confusion_kk / np.maximum(1, confusion_kk.sum(1, keepdims=True))
    for truth in range(classes):
        y = top + truth * cell
        if has_names:
            canvas.text(margin - 8, y + cell / 2, names[truth], anchor="rm", size=size)
        for answer in range(classes):
            share = float(shares_kk[truth, answer])
            x = margin + answer * cell
            canvas.box(
                x, y, max(1, cell - 1), max(1, cell - 1), _shade(share, right=truth == answer)
            )
            if cell >= 30:
                ink = _PAPER if share > 0.6 else _INK
                count = str(confusion_kk[truth, answer])
                canvas.text(x + cell / 2, y + cell / 2, count, anchor="mm", color=ink, size=size)
    canvas.text(margin - 8, top - 14, "truth", anchor="rm", color=_SERIES[1], size=size)
    _column_names(canvas, names, margin, top, cell, size)
    canvas.save(path)


def _column_names(
    canvas: _Canvas, names: Sequence[str], margin: float, top: float, cell: float, size: int
) -> None:
    """Write the answers' names above their columns, only where they fit side by side."""
    if all(canvas.width_of(name, size) <= cell - 4 for name in names):
        for index, name in enumerate(names):
            x = margin + (index + 0.5) * cell
            canvas.text(x, top - 14, name, anchor="mm", size=size)
    else:
        canvas.text(margin, top - 14, "answers, in the same order →", anchor="lm", size=size)


def _shade(share: float, *, right: bool) -> str:
    deep = (46, 134, 171) if right else (209, 73, 91)
    return "#" + "".join(f"{round(255 + (c - 255) * share):02x}" for c in deep)
