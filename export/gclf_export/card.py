"""The model card: what an exported file is, how good, for what pictures, and how to use it.

It states what the spec, the certificate and the groups hold, and says so where they hold nothing.
"""

import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from gclf_export import snippets
from gclf_export.delivery import CARD_START
from gclf_runtime import ModelSpec
from gclf_runtime.model_file import ModelFile, read_model
from gclf_runtime.screen import printable
from gclf_trainer.scores import wilson

Score: TypeAlias = Mapping[str, Any]  # group, count, accuracy, accuracy_low, accuracy_high

_MOST_NAMES = 40  # in the heading; the file has them all
_FITS = {
    "stretch": "stretched, whatever its shape",
    "crop": "its centre, in the input's shape",
    "pad": "whole, with black bars where its shape is another",
}
# Key, title and format of each column of the certificate; one without a figure is left out.
_COLUMNS = (
    ("precision", "precision", "{}"),
    ("provider", "provider", "{}"),
    ("count", "pictures", "{:,}"),
    ("accuracy", "accuracy", "{:.2%}"),
    ("accuracy_interval", "95 % interval", "{}"),
    ("checkpoint_accuracy", "checkpoint", "{:.2%}"),
    ("agreement", "same answer", "{:.2%}"),
    ("mean_difference", "mean difference", "{:.1e}"),
    ("max_difference", "largest", "{:.1e}"),
    ("awkward_count", "awkward pictures", "{:,}"),
    ("awkward_agreement", "same answer", "{:.2%}"),
    ("awkward_mean_difference", "mean difference", "{:.1e}"),
    ("awkward_max_difference", "largest", "{:.1e}"),
    ("time", "ms per batch", "{}"),
    ("verdict", "verdict", "{}"),
)


def read_groups(result: Path) -> list[Score]:
    """Read the groups that gclf-train measured from RUN/result.json; none where it knows none."""
    try:
        columns = json.loads(result.read_text(encoding="utf-8"))["groups"]["columns"]
        return [
            {
                "group": f"{column}: {name}",
                "count": int(score["count"]),
                "accuracy": float(score["accuracy"]),
                "accuracy_low": float(score["interval"][0]),
                "accuracy_high": float(score["interval"][1]),
            }
            for column, scores in columns.items()
            for name, score in scores.items()
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []


def card(
    name: str,
    data: bytes,
    spec: ModelSpec,
    certificate: Mapping[str, Any] | None = None,
    groups: Sequence[Score] | None = None,
    *,
    is_own_split: bool = False,
) -> str:
    """Write a card in Markdown.

    Args:
        name: Of the file, without its folder.
        data: The whole file.
        spec: What it promises.
        certificate: `rungs`, a list of records: precision, provider, count, accuracy,
            accuracy_low, accuracy_high, checkpoint_accuracy, agreement, mean_difference,
            max_difference, awkward_count, awkward_agreement, awkward_mean_difference,
            awkward_max_difference, batch_size, milliseconds, verdict; `refused`, reasons by
            precision; and `warnings`. Any of them may be missing.
        groups: Records of group, count, accuracy, accuracy_low and accuracy_high (0-1).
        is_own_split: Whether the validation pictures are those that the training chose its best
            epoch on, and measured groups and calibration with.

    Raises:
        ModelError: The data is no model that gclf opens.
    """
    name = name.encode("utf-8", "replace").decode()  # a file name need not be UTF-8
    sections = [
        f"{CARD_START.decode()}{_plain(name)}\n\n{_purpose(spec)}",
        _table(("", ""), _facts(data, read_model(data, name), spec)),
        "## How a picture becomes its input\n\n" + _input(spec),
        "## How good it is\n\n" + _quality(spec, groups or (), is_own_split=is_own_split),
        "## Data\n\n" + _data(spec),
        "## Certificate\n\n" + _certificate(certificate or {}, spec),
        "## How to use it\n\n" + _use(name, spec),
        "## Limits\n\n" + _LIMITS,
    ]
    return "\n\n".join(sections) + "\n"


def _purpose(spec: ModelSpec) -> str:
    names = [f"**{_plain(name)}**" for name in spec.label_names[:_MOST_NAMES]]
    rest = len(spec.label_names) - len(names)
    more = f" and {rest} more" if rest else ""
    count = len(spec.label_names)
    return f"Says which of {count} classes a picture shows: {', '.join(names)}{more}."


def _facts(data: bytes, file: ModelFile, spec: ModelSpec) -> Iterable[tuple[str, str]]:
    yield "file", f"{spec.precision}, {len(data) / 1e6:.2f} MB, opset {file.opset}"
    yield "parameters", f"{file.parameters:,} numbers stored in the graph"
    yield "sha256", f"`{hashlib.sha256(data).hexdigest()}`"
    size = f"{spec.input.height}, {spec.input.width}, 3"
    yield "input", f"`images`: uint8 [batch, {size}], RGB, raw levels 0-255"
    count = len(spec.label_names)
    yield "outputs", f"`probabilities` and `logits`: float32 [batch, {count}]"
    yield "licence of the weights", _plain(spec.license) or "not stated"
    yield "checkpoint", _digest(spec.checkpoint_sha256)
    yield "made", _plain(spec.created) or "not stated"
    versions = (f"{name} {version}" for name, version in sorted(spec.versions.items()))
    yield "with", _plain(", ".join(versions)) or "not stated"


def _input(spec: ModelSpec) -> str:
    fit = spec.input
    lines = [
        "1. Decoded to 8-bit RGB, turned upright by its EXIF orientation, transparency over white.",
        f"2. Fitted to {fit.width}×{fit.height} (width × height): {_FITS[fit.fit]}; Pillow's "
        f"{fit.interpolation} resize{'' if fit.interpolation == 'nearest' else ', antialiased'}.",
        "3. Nothing else: the graph normalises the pixels itself "
        f"(mean {_numbers(spec.mean)}, deviation {_numbers(spec.std)}, of levels 0-1) "
        f"and divides the logits by {spec.temperature:.4g} before softmax.",
    ]
    if margin := fit.jpeg_scale_margin:
        lines[0] += (
            f" A JPEG is decoded at 1/2, 1/4 or 1/8 while both sides keep {margin} times the "
            "input's."
        )
    other = "Another resize, above all one that is not antialiased, gives other answers."
    return "\n".join([*lines, "", other])


def _quality(spec: ModelSpec, groups: Sequence[Score], *, is_own_split: bool) -> str:
    parts = [_accuracy(spec.metrics, is_own_split=is_own_split), _calibration(spec)]
    if groups:
        rows = [
            (
                _plain(group.get("group", "")),
                _figure(group, "count", "{:,}"),
                _figure(group, "accuracy", "{:.1%}"),
                _interval(group, "{:.1%}"),
            )
            for group in groups
        ]
        table = _table(("group", "pictures", "accuracy", "95 % interval"), rows)
        whose = "" if is_own_split else _OTHER_PICTURES
        parts.append(f"{table}\n\n{whose}Read a group's interval before its figure.")
    return "\n\n".join(parts)


def _accuracy(metrics: Mapping[str, float], *, is_own_split: bool) -> str:
    if not {"val_accuracy", "val_count"} <= metrics.keys():
        return "Its accuracy is not known: it was measured on no picture."
    accuracy, count = metrics["val_accuracy"], round(metrics["val_count"])
    low, high = wilson(round(accuracy * count), count)
    return (
        f"Accuracy on {count:,} validation pictures: **{accuracy:.2%}** (95 % interval {low:.2%} "
        f"to {high:.2%}, Wilson's)."
        + (
            " The best epoch was chosen on them, so on new ones expect a little less."
            if is_own_split
            else ""
        )
    )


def _calibration(spec: ModelSpec) -> str:
    error, before = spec.metrics.get("val_ece"), spec.metrics.get("val_ece_before")
    if error is None and spec.temperature != 1:
        return (
            f"Calibration: the temperature is {spec.temperature:.4g}; how near its probabilities "
            "are to frequencies was not measured on these pictures."
        )
    if error is None:
        return "Its probabilities were not calibrated: read them as an order, not as frequencies."
    was = "" if before is None else f", {before:.4f} without the temperature"
    return (
        f"Calibration: the temperature is {spec.temperature:.4g}; expected calibration error "
        f"{error:.4f} on validation (15 bins, cross-fitted){was}."
    )


def _data(spec: ModelSpec) -> str:
    count = spec.metrics.get("val_count")
    pictures = "not known how many" if count is None else f"{round(count):,}"
    return (
        f"Training pictures and labels, sha256: {_digest(spec.dataset_sha256)}. "
        f"Validation pictures: {pictures}. No picture of theirs is in the file. What they show, "
        "who took and labelled them, and under which terms, only their owner can say: add it here."
    )


def _certificate(certificate: Mapping[str, Any], spec: ModelSpec) -> str:
    rungs: Sequence[Mapping[str, Any]] = certificate.get("rungs") or ()
    if not rungs:
        return "There is none: the file was not compared with its checkpoint when this was written."
    rows = [_row(rung) for rung in rungs]
    shown = [column for column in _COLUMNS if any(_has(row, column[0]) for row in rows)]
    cells = [[_figure(row, key, form) for key, _, form in shown] for row in rows]
    for row, line in zip(rows, cells, strict=True):
        if row.get("precision") == spec.precision:
            line[0] = f"**{line[0]}, this file**"
    refused: Mapping[str, str] = certificate.get("refused") or {}
    reasons = [f"- {_plain(name)} was refused: {_plain(why)}" for name, why in refused.items()]
    table = _table([title for _, title, _ in shown], cells)
    warnings = [f"**Warning: {_plain(warning)}**" for warning in certificate.get("warnings") or ()]
    return "\n\n".join(filter(None, (*warnings, _COMPARED, table, "\n".join(reasons))))


def _row(rung: Mapping[str, Any]) -> dict[str, Any]:
    row = {**rung, "accuracy_interval": _interval(rung, "{:.2%}")}
    if rung.get("batch_size") and _has(rung, "milliseconds"):
        row["time"] = f"{rung['milliseconds']:.3g} of {rung['batch_size']}"
    return row


def _use(name: str, spec: ModelSpec) -> str:
    command = shlex.quote(name) if name.isprintable() and "```" not in name else "MODEL.onnx"
    return f"""\
```bash
gclf-infer --batch DIR --model {command} --output rows.csv
```

```python
from gclf_runtime import Classifier

prediction = Classifier({_fenced(snippets.quoted(name))}).predict_images(["{snippets.PICTURE}"])[0]
print(prediction.label, prediction.probability)
```

Without gclf, in Python (onnxruntime, Pillow): the same answers, for RGB, 8-bit grey and CMYK
pictures.

```python
{_fenced(snippets.python(spec, name))}
```

In JavaScript (Node; onnxruntime-web or onnxruntime-node; sharp decodes; `gclf.js` of `examples/web`
reads the spec and resizes as Pillow does). The same folder has a page for browsers.

```javascript
{_fenced(snippets.javascript(spec, name))}
```

In C# (Microsoft.ML.OnnxRuntime, SixLabors.ImageSharp; not run by us). The resize is
ImageSharp's own, so that some answers will differ.

```csharp
{_fenced(snippets.csharp(spec, name))}
```"""


_COMPARED = """\
The checkpoint and each file answered the same pictures, by the whole path from the encoded picture
to probabilities. Same answer: share of the pictures. Mean difference: how much probability lies on
other classes. Largest: of one probability."""
_OTHER_PICTURES = "gclf-train measured the groups, on pictures of its own and not on those above. "
_LIMITS = """\
- It knows its classes only: of any other picture it still names one, often with confidence.
- What was not measured above is not known: other cameras, other light, other people.
- The certificate says that the file answers as its checkpoint does, not that either is right."""


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _has(row: Mapping[str, Any], key: str) -> bool:
    return row.get(key) not in (None, "")


def _figure(row: Mapping[str, Any], key: str, form: str) -> str:
    return _plain(form.format(row[key])) if _has(row, key) else ""


def _interval(row: Mapping[str, Any], form: str) -> str:
    ends = [row.get("accuracy_low"), row.get("accuracy_high")]
    return "" if None in ends else " to ".join(form.format(end) for end in ends)


def _digest(sha256: str) -> str:
    return f"`{_code(sha256)}`" if sha256 else "not stated"


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _plain(text: Any) -> str:
    """Write a text on one line, so that none of it is Markdown, HTML or a terminal's command."""
    line = printable(" ".join(str(text).split()))
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#~" else sign for sign in line)


def _code(text: str) -> str:
    return printable(" ".join(text.split())).replace("`", "'").replace('"', "'")


def _fenced(code: str) -> str:
    return code.strip().replace("```", "'''")
