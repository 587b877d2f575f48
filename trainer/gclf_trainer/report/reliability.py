"""The report's reliability diagrams.

Axes: b bins of confidence.
"""

from gclf_trainer.calibration import BINS, Calibration, Reliability
from gclf_trainer.report.page import grid, percent, section
from gclf_trainer.scores import wilson

_LEGEND = (
    '<ul class="legend"><li><span class="swatch wrong"></span>too sure</li>'
    '<li><span class="swatch good"></span>not sure enough</li>'
    '<li><span class="swatch other"></span>pictures</li></ul>'
)


def calibration_tiles(
    measured: Calibration, test: Reliability | None
) -> list[tuple[str, str, str]]:
    """Show the calibration error, of the test split where there is one, and the temperature."""
    error, note = measured.error, f"validation, {percent(measured.before.error)} before"
    if test:
        error, note = test.error, f"test; validation {percent(measured.error)}"
    fitted = (
        "above 1: the network was too sure"
        if measured.fitted > 1
        else "below 1: the network was not sure enough"
    )
    left = f"the fitted {measured.fitted:g} did not help pictures that it was not fitted on"
    return [
        ("calibration error", percent(error), note),
        ("temperature", f"{measured.temperature:g}", fitted if measured.is_kept else left),
    ]


def calibration(measured: Calibration, test: Reliability | None) -> str:
    """Draw the reliability diagrams."""
    diagrams = [("Before", measured.before), ("After, cross-fitted", measured.after)]
    if test:
        diagrams.append(("Test pictures", test))
    least = min(_least(diagram) for _, diagram in diagrams)
    low = 0.4 if least >= 0.4 else 0.2 if least >= 0.2 else 0.0
    plots = "".join(
        _diagram(f"{title} <small>ECE {percent(each.error)}</small>", each, low)
        for title, each in diagrams
    )
    note = (
        "How often answers of a given confidence are right: on the diagonal, probabilities mean "
        "what they say. A bar ends at the accuracy, a whisker is its 95% interval. ECE, the "
        "expected calibration error, is the mean gap over 15 bins of equal width, weighted by "
        f"pictures; exact probabilities would measure {percent(measured.least_error)} here, by "
        "chance."
    )
    return section(
        "Calibration", note, _verdict(measured), _LEGEND, f'<div class="plots">{plots}</div>'
    )


def _verdict(measured: Calibration) -> str:
    losses = f"from {measured.loss_before:.4f} to {measured.loss_after:.4f}"
    kept = f"so the model divides its logits by the {measured.fitted:g} that all of them gave"
    left = f"so the model keeps 1; all of them gave {measured.fitted:g}"
    return (
        "<p>Of the validation pictures, each half was judged with the temperature that the other "
        f"half gave: the cross-entropy went {losses}, the ECE from "
        f"{percent(measured.before.error)} to {percent(measured.after.error)}; "
        f"{kept if measured.is_kept else left}.</p>"
    )


def _least(measured: Reliability) -> float:
    """Return the least accuracy or confidence of any bin."""
    filled_b = measured.count_b > 0
    accuracy = measured.right_b[filled_b] / measured.count_b[filled_b]
    return float(min(accuracy.min(initial=1), measured.confidence_b[filled_b].min(initial=1)))


def _diagram(title: str, measured: Reliability, low: float) -> str:
    """Draw accuracy by confidence with 95 % intervals, and the pictures of each bin below.

    Args:
        title: HTML.
        measured: What to draw.
        low: Where both axes begin: 0, 0.2 or 0.4.
    """
    bars = "".join(_bin(index, measured, low) for index in range(BINS) if measured.count_b[index])
    ticks = [low + 0.2 * step for step in range(round((1 - low) * 5) + 1)]
    axis = "".join(
        f'<text x="{100 * (tick - low) / (1 - low):.2f}%" y="100%" dy="1.6em" '
        f'text-anchor="middle">{100 * tick:.0f}%</text>'
        for tick in ticks
    )
    return (
        f'<div><h3>{title}</h3><div class="plot square"><svg role="img" '
        f'aria-label="Reliability diagram, expected calibration error {percent(measured.error)}">\n'
        f"{grid([round(100 * tick) for tick in ticks], '%')}{axis}\n{bars}"
        '<line class="diagonal" x1="0" y1="100%" x2="100%" y2="0"/>'
        '<text x="100%" y="100%" dy="3.1em" text-anchor="end">confidence</text>'
        '<text x="-2.5rem" dy="-.7em">accuracy</text></svg></div>\n'
        f"{_counts(measured, low)}</div>"
    )


def _bin(index: int, measured: Reliability, low: float) -> str:
    """Draw one bin: its accuracy, the gap to its mean confidence, and the interval."""
    count, right = int(measured.count_b[index]), int(measured.right_b[index])
    accuracy, confidence = right / count, float(measured.confidence_b[index])
    least, most = wilson(right, count)

    def at(value: float) -> float:
        return 100 * (max(value, low) - low) / (1 - low)

    left, width = at(index / BINS), at((index + 1) / BINS) - at(index / BINS)
    x = f'x="{left + 0.04 * width:.2f}%" width="{0.92 * width:.2f}%"'
    foot, top = at(min(accuracy, confidence)), at(max(accuracy, confidence))
    middle, color = left + width / 2, "wrong" if accuracy < confidence else "good"
    spoken = f"confidence {confidence:.1%}: {right:,} of {count:,} right, {accuracy:.1%}"
    return (
        f"<g><title>{spoken}</title>"
        f'<rect class="bar right" {x} y="{100 - foot:.2f}%" height="{foot:.2f}%"/>'
        f'<rect class="gap {color}" {x} y="{100 - top:.2f}%" height="{top - foot:.2f}%"/>'
        f'<line class="whisker" x1="{middle:.2f}%" x2="{middle:.2f}%" y1="{100 - at(least):.2f}%" '
        f'y2="{100 - at(most):.2f}%"/></g>\n'
    )


def _counts(measured: Reliability, low: float) -> str:
    most, width = int(measured.count_b.max()), 100 / BINS / (1 - low)
    bars = "".join(
        f'<g><title>{count:,} pictures</title><rect class="bar other" '
        f'x="{100 * (index / BINS - low) / (1 - low) + 0.04 * width:.2f}%" '
        f'y="{100 - 100 * count / most:.2f}%" width="{0.92 * width:.2f}%" '
        f'height="{100 * count / most:.2f}%"/></g>'
        for index, count in enumerate(measured.count_b.tolist())
        if count
    )
    return (
        '<div class="plot counts"><svg role="img" aria-label="Pictures by confidence">'
        f'<line x2="100%" y1="100%" y2="100%"/>{bars}'
        f'<text x="-8" dy=".8em" text-anchor="end">{most:,}</text>'
        '<text x="100%" y="100%" dy="1.4em" text-anchor="end">pictures</text></svg></div>'
    )
