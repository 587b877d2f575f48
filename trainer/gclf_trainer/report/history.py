"""The report's curves: loss, accuracy and learning rate by epoch."""

import math
from collections.abc import Mapping, Sequence

from gclf_trainer.charts import round_ticks
from gclf_trainer.recipe import Epoch
from gclf_trainer.report.page import grid, name, safe, section

_COLORS = ("right", "other", "good", "wrong")


def history(epochs: Sequence[Epoch], marks: Mapping[int, str]) -> str:
    """Draw loss, accuracy and learning rate."""
    accuracies = {"validation": [100 * epoch.val_accuracy for epoch in epochs]}
    losses = {
        "validation": [epoch.val_loss for epoch in epochs],
        "training": [epoch.train_loss for epoch in epochs],
    }
    rates = {"at the epoch's start": [epoch.learning_rate for epoch in epochs]}
    plots = (
        _curves("Loss, nats", losses, marks),
        _curves("Accuracy", accuracies, marks, "%"),
        _curves("Learning rate", rates, marks),
    )
    note = (
        "The training loss is measured on augmented pictures, with label smoothing where that is "
        "on, so it may lie above the validation loss."
    )
    return section("Training", note, f'<div class="plots">{"".join(plots)}</div>')


def _curves(
    title: str, series: Mapping[str, Sequence[float]], marks: Mapping[int, str], unit: str = ""
) -> str:
    """Draw values by epoch.

    Args:
        title: What they are.
        series: Values by name, one per epoch, at least one; what is not finite is left out.
        marks: Words at an epoch, counted from 1.
        unit: Written after each number.
    """
    values = [v for points in series.values() for v in points if math.isfinite(v)]
    ticks = round_ticks(min(values, default=0), max(values, default=1))
    epochs = max(len(points) for points in series.values())
    drawn = [
        _line(points, epochs, (ticks[0], ticks[-1]), color)
        for points, color in zip(series.values(), _COLORS, strict=False)
    ]
    last = ", ".join(f"{key} {_number(points[-1])}{unit}" for key, points in series.items())
    return (
        f'<div><h3>{title}</h3>\n{_legend(series)}<div class="plot">'
        f'<svg role="img" aria-label="{title} by epoch; in the end {safe(last)}">\n'
        f"{grid(ticks, unit)}{_epoch_axis(epochs)}{_marks(marks, epochs)}{''.join(drawn)}\n"
        f"{_hovers(series, epochs, unit)}</svg></div></div>"
    )


def _number(value: float) -> str:
    return f"{value:.4g}"


def _x(index: int, epochs: int) -> float:
    return 100 * index / (epochs - 1) if epochs > 1 else 50.0


def _legend(series: Mapping[str, Sequence[float]]) -> str:
    if len(series) == 1:
        return '<ul class="legend"></ul>\n'
    items = "".join(
        f'<li><span class="swatch {color}"></span>{name(key)}</li>'
        for key, color in zip(series, _COLORS, strict=False)
    )
    return f'<ul class="legend">{items}</ul>\n'


def _epoch_axis(epochs: int) -> str:
    shown = sorted({1, (epochs + 1) // 2, epochs})
    return "".join(
        f'<text x="{_x(epoch - 1, epochs):.2f}%" y="100%" dy="1.6em" text-anchor="middle">'
        f"{'epoch ' if epoch == 1 else ''}{epoch}</text>"
        for epoch in shown
    )


def _marks(marks: Mapping[int, str], epochs: int) -> str:
    return "".join(
        f'<line class="mark" x1="{x:.2f}%" x2="{x:.2f}%" y2="100%"/>'
        f'<text x="{x:.2f}%" dy="-.5em" text-anchor="{anchor}">{safe(words)}</text>'
        for epoch, words in marks.items()
        for x in [_x(epoch - 1, epochs)]
        for anchor in ["end" if x > 80 else "start" if x < 20 else "middle"]
    )


def _line(points: Sequence[float], epochs: int, limits: tuple[float, float], color: str) -> str:
    low, high = limits
    placed = [
        (_x(index, epochs), 100 - 100 * (value - low) / (high - low))
        for index, value in enumerate(points)
        if math.isfinite(value)
    ]
    if not placed:
        return ""
    path = " ".join(f"{x:.2f},{y:.2f}" for x, y in placed)
    x, y = placed[-1]
    return (
        f'<svg class="{color}" viewBox="0 0 100 100" preserveAspectRatio="none" '
        f'overflow="visible"><polyline points="{path}"/></svg>'
        f'<circle class="{color}" cx="{x:.2f}%" cy="{y:.2f}%" r="3.5"/>'
    )


def _hovers(series: Mapping[str, Sequence[float]], epochs: int, unit: str) -> str:
    """Tell the numbers of an epoch while the pointer is on it."""
    width = 100 / max(1, epochs - 1)
    parts: list[str] = []
    for index in range(epochs):
        numbers = ", ".join(
            f"{safe(key)} {_number(points[index])}{unit}"
            for key, points in series.items()
            if index < len(points)
        )
        parts.append(
            f"<g><title>epoch {index + 1}: {numbers}</title>"
            f'<rect class="hover" x="{_x(index, epochs) - width / 2:.2f}%" '
            f'width="{width:.2f}%" height="100%"/></g>'
        )
    return "".join(parts)
