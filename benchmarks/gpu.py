"""What does a GPU give: the network alone, files to rows, and how soon a training is good?

With --device cpu the same questions are asked of the CPU, small: to see that they can be asked.
"""

import csv
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.device_network import measure_networks
from benchmarks.measuring import in_turns
from benchmarks.pictures import sources
from benchmarks.processes import ProcessError, gclf_infer
from benchmarks.results import Result
from benchmarks.roofline import measure_ceilings
from benchmarks.tables import NOT_STABLE, markdown, per_second, plain, tilde
from benchmarks.workplace import EMBEDDED, Workplace

_GCLF_TRAIN = str(Path(processes.GCLF_INFER).with_name("gclf-train"))
_FILES_BUDGET_S = 60.0  # of files to rows, for each kind of picture
_EPOCHS = 25
_TARGETS = {"cnn": 0.88, "resnet10": 0.90}  # accuracy on the faces' validation split
_PER_CLASS = 100  # pictures of a training on the CPU


def measure(place: Workplace) -> tuple[list[dict[str, Any]], list[str]]:
    """Ask the device of the workplace."""
    found: list[str] = []
    if place.device != "cuda":
        found.append("measured on the CPU with small sizes: the script runs, and waits for a GPU")
    rows = measure_ceilings(place.device, place.rule)
    with tempfile.TemporaryDirectory() as name:
        rows += measure_networks(place, Path(name), rows, found)
        rows += _files_to_rows(place, Path(name))
        rows += _trainings(place, Path(name), found)
    return rows, found


def _files_to_rows(place: Workplace, scratch: Path) -> list[dict[str, Any]]:
    """Time the whole command on small faces and on large photos, with each model and device."""
    is_large = place.device == "cuda" and not place.quick
    faces, photos = (50_000, 2_000) if is_large else (200, 10)
    folders = {"faces": (place.faces(faces), faces), "photos": (place.photos(photos), photos)}
    models = {"embedded, int8": EMBEDDED, "cnn, fp32": place.models("cnn") / "gclf.onnx"}
    rule = replace(place.rule, budget_s=_FILES_BUDGET_S)
    rows: list[dict[str, Any]] = []
    for pictures, (folder, count) in folders.items():
        turns = {
            f"{name}, {device}": partial(_infer, folder, scratch, model, device)
            for name, model in models.items()
            for device in dict.fromkeys((place.device, "cpu"))
        }
        for name, timing in in_turns(turns, rule).items():
            row = {"part": "files", "pictures": pictures, "count": count, "who": name}
            rows.append(row | {"seconds": timing.record()})
    return rows


def _infer(folder: Path, scratch: Path, model: Path, device: str) -> float:
    rows = scratch / "rows.csv"
    return processes.run(gclf_infer(folder, rows, model=model, device=device)).seconds


def _trainings(place: Workplace, scratch: Path, found: list[str]) -> list[dict[str, Any]]:
    """Train once per network; say when its accuracy was first reached."""
    rows: list[dict[str, Any]] = []
    data = place.data / "faces"
    is_whole = place.device == "cuda" and not place.quick and data.is_dir()
    if not is_whole:
        data = _few(place, scratch / "few")
        found.append("the trainings are of one epoch on a few faces")
    for network, target in _TARGETS.items() if is_whole else [("cnn", 0.1)]:
        run = scratch / f"run-{network}"
        command = [_GCLF_TRAIN, str(data), "--output", str(run), "--network", network]
        command += ["--epochs", str(_EPOCHS if is_whole else 1), "--device", place.device]
        command += ["--cache", str(scratch / "cache"), "--ignore-audit"]
        try:
            rows.append(_training(run, network, target, processes.run(command).seconds))
        except ProcessError as error:
            found.append(f"the training of {network} failed: {error}")
    return rows


def _few(place: Workplace, folder: Path) -> Path:
    """Link some faces of each class; of the examples the class is in the name."""
    counts: dict[str, int] = {}
    for path in sources(place.data):
        label = path.name.split("_")[0] if "_" in path.name else path.parent.name
        counts[label] = counts.get(label, 0) + 1
        if counts[label] <= _PER_CLASS:
            (folder / label).mkdir(parents=True, exist_ok=True)
            (folder / label / path.name).symlink_to(path.resolve())
    return folder


def _training(run: Path, network: str, target: float, whole_s: float) -> dict[str, Any]:
    epochs = list(csv.DictReader((run / "metrics.csv").read_text(encoding="utf-8").splitlines()))
    accuracies = [float(epoch["val_accuracy"]) for epoch in epochs]
    reached = next((n for n, accuracy in enumerate(accuracies, 1) if accuracy >= target), None)
    taken = [float(epoch["seconds"]) for epoch in epochs]
    return {
        "part": "training",
        "network": network,
        "target": target,
        "epochs": len(epochs),
        "epochs_to_target": reached,
        "seconds_to_target": None if reached is None else sum(taken[:reached]),
        "whole_s": whole_s,
        "best_accuracy": max(accuracies),
        "images_per_second": sorted(float(e["images_per_second"]) for e in epochs)[
            len(epochs) // 2
        ],
    }


def tables(result: Result) -> str:
    """Return a table for each part."""
    parts = [
        ("What the device gives, per second:", _ceilings(result)),
        ("The network alone, pictures per second:", _networks(result)),
        ("Files to rows, whole process, pictures per second:", _files(result)),
        ("Training to an accuracy:", _trained(result)),
    ]
    said = [f"{title}\n\n{text}" for title, text in parts]
    return "\n\n".join([*said, NOT_STABLE])


def _of(result: Result, part: str) -> list[dict[str, Any]]:
    return [row for row in result.rows if row["part"] == part]


def _ceilings(result: Result) -> str:
    lines = [
        [
            f"{row['ceiling']}, G{row['unit']}/s",
            f"{tilde(row['seconds'])}{row['per_second'] / 1e9:,.1f}",
        ]
        for row in _of(result, "ceiling")
    ]
    return markdown(["", "measured"], lines)


def _networks(result: Result) -> str:
    """One line for each batch; computing by precision with its share of the roofline."""
    rows = _of(result, "network")
    steps = list(dict.fromkeys((row["step"], row["precision"]) for row in rows))
    by_key = {(r["network"], r["batch"], r["step"], r["precision"]): r for r in rows}
    lines = [
        [network, str(batch), *(_step(by_key[network, batch, *step], batch) for step in steps)]
        for network, batch in dict.fromkeys((row["network"], row["batch"]) for row in rows)
    ]
    return markdown(["network", "batch", *(f"{step}, {p}" for step, p in steps)], lines)


def _step(row: dict[str, Any], batch: int) -> str:
    text = plain(row["seconds"], batch)
    return f"{text} ({row['of_roofline']:.0%})" if "of_roofline" in row else text


def _files(result: Result) -> str:
    lines = [
        [
            f"{row['count']:,} {row['pictures']}, {row['who']}",
            per_second(row["seconds"], row["count"]),
        ]
        for row in _of(result, "files")
    ]
    return markdown(["", "pictures per second"], lines)


def _trained(result: Result) -> str:
    lines = [
        [
            row["network"],
            f"{row['target']:.0%}",
            "not reached" if row["epochs_to_target"] is None else str(row["epochs_to_target"]),
            "" if row["seconds_to_target"] is None else f"{row['seconds_to_target']:,.1f}",
            str(row["epochs"]),
            f"{row['best_accuracy']:.1%}",
            f"{row['whole_s']:,.1f}",
            f"{row['images_per_second']:,.0f}",
        ]
        for row in _of(result, "training")
    ]
    header = ["network", "accuracy", "epochs to it", "seconds to it", "epochs in all"]
    return markdown([*header, "best", "whole process, s", "pictures per second"], lines)


def plot(result: Result, path: Path) -> None:
    """Draw pictures per second by batch, beside what the roofline allows."""
    from benchmarks.plots import lines

    groups: dict[str, dict[str, dict[int, float]]] = {}
    for row in _of(result, "network"):
        series = groups.setdefault(f"{row['network']}: pictures/s", {})
        name = f"{row['step']}, {row['precision']}"
        series.setdefault(name, {})[row["batch"]] = row["batch"] / row["seconds"]["median"]
        if row["step"] == "compute":
            limit = series.setdefault(f"roofline, {row['precision']}", {})
            limit[row["batch"]] = row["batch"] / row["least_s"]
    lines(groups, path, over="batch", marked="", is_logarithmic=True)
