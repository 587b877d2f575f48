"""The report's pictures: what the network saw, its worst mistakes, its hardest right answers.

Axes: n pictures, h height, w width, c channels (RGB), k classes.
"""

from collections.abc import Sequence

import numpy as np

from gclf_trainer.answers import Answers, Samples
from gclf_trainer.report.page import figure, gallery, name, percent, section

_PIXEL_BYTES = 3 * 2**20  # of one gallery: 20 pictures of 224×224 each make a page of 12 MB


def samples(shown: Samples, label_names: Sequence[str]) -> str:
    """Show augmented training pictures."""
    pixels_nhwc = shown.pixels_nhwc[: _room(shown.pixels_nhwc.shape, 42)]
    figures = (
        figure(pixels_hwc, _targets(target_k.tolist(), label_names))
        for pixels_hwc, target_k in zip(pixels_nhwc, shown.targets_nk, strict=False)
    )
    note = (
        f"The first {len(pixels_nhwc)} pictures of one training batch, exactly as they went into "
        "the network: augmented, mixed where that is on, at the model's own size."
    )
    sheet = gallery(figures, max(pixels_nhwc.shape[1:3])) if len(pixels_nhwc) else ""
    return section("What the network saw", note, sheet)


def _targets(target_k: Sequence[float], label_names: Sequence[str]) -> list[tuple[str, str]]:
    pairs = sorted(zip(target_k, label_names, strict=True), key=lambda pair: -pair[0])[:2]
    if pairs[0][0] > 0.995:
        return [(name(pairs[0][1]), "")]
    return [(name(label), f"{share:.0%}") for share, label in pairs]


def _room(shape: Sequence[int], most: int) -> int:
    _, height, width, channels = shape
    return max(8, min(most, _PIXEL_BYTES // (height * width * channels)))


def pictures(answers: Answers, label_names: Sequence[str]) -> str:
    """Show the most confident mistakes, then the hardest right answers."""
    room = _room(answers.split.pixels_nhwc.shape, 28)
    wrong = int((~answers.right_n).sum())
    mistakes = answers.mistakes(room)
    hardest = answers.hardest(room)
    kind = f"{answers.name} pictures"
    first = _pictures(answers, mistakes, label_names)
    second = _pictures(answers, hardest, label_names)
    note = f"{len(mistakes):,} of {wrong:,} mistakes on the {kind}: the answer, then the truth."
    none = f"<p>Every one of the {kind} was answered rightly.</p>"
    return "\n".join(
        (
            section("Most confident mistakes", note if mistakes else "", first or none),
            section(
                "Hardest right answers",
                f"The least confident right answers on the {kind}, then the runner-up.",
                second,
            ),
        )
    )


def _pictures(answers: Answers, chosen: Sequence[int], label_names: Sequence[str]) -> str:
    if not chosen:
        return ""
    pixels_nhwc = answers.split.pixels_nhwc
    figures = (
        figure(
            pixels_nhwc[index],
            _guesses(answers, index, label_names),
            str(answers.split.paths[index]),
        )
        for index in chosen
    )
    return gallery(figures, max(pixels_nhwc.shape[1:3]))


def _guesses(answers: Answers, index: int, label_names: Sequence[str]) -> list[tuple[str, str]]:
    """Say the answer and, below it, the truth or the runner-up."""
    probabilities_k = answers.probabilities_nk[index]
    ordered: list[int] = np.argsort(-probabilities_k, kind="stable").tolist()
    is_right = bool(answers.right_n[index])
    below = ordered[1:2] if is_right else [int(answers.split.labels_n[index])]
    color = "good" if is_right else "wrong"
    first = f'<span class="{color}">{name(label_names[ordered[0]])}</span>'
    words = [first, *(name(label_names[label]) for label in below)]
    shares = (percent(float(probabilities_k[label])) for label in (ordered[0], *below))
    return list(zip(words, shares, strict=True))
