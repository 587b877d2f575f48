"""How much faster does gclf-train learn than the plain way, on the same pictures and network?

The plain way is what tutorials do: torchvision's ImageFolder, a DataLoader with a worker per CPU,
torchvision's transforms (resize, random crop with a padding of 4, flip, tensor, normalise), eager
float32 in NCHW; on CUDA with pinned memory. Ours is `gclf_trainer.loop.Training` as gclf-train runs
it. Both have AdamW, one cycle and a clipped gradient, and learn from the same files in batches of
one size. A turn is an epoch; validation is left out of both.

The second ratio counts the decoding that ours does once, over 25 epochs. Where our time goes is by
Python's own profiler, on the CPU alone: on a GPU the calls return before the work is done.
"""

import cProfile
import pstats
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.measuring import in_turns
from benchmarks.plain_training import MEAN, SIZE, STD, PlainTraining
from benchmarks.results import Result
from benchmarks.tables import NOT_STABLE, bound_of, markdown, per_second, rates, times
from benchmarks.workplace import NETWORKS, Workplace
from gclf_runtime import InputSpec
from gclf_trainer import Recipe
from gclf_trainer.allocator import keep_freed_memory
from gclf_trainer.evaluation import Normalise
from gclf_trainer.folders import Folders, read_folders
from gclf_trainer.loop import Training
from gclf_trainer.networks import build
from gclf_trainer.pixels import Dataset, load_dataset

_PICTURES, _BATCH, _SEED = 4096, 128, 0
_EPOCHS = 25  # of a usual training, over which decoding is spread
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
# What our time is spent on, by the names that the profiler has for it; none is within another.
_PARTS = {
    "gather the batch": ("batches.py", "batches"),
    "augment": ("augment.py", "pixels"),
    "normalise": ("evaluation.py", "forward"),
    "forward and loss": ("loop.py", "_loss"),
    "backward": ("_tensor.py", "backward"),
    "clip the gradient": ("clip_grad.py", "clip_grad_norm_"),
    "optimiser": ("optimizer.py", "wrapper"),
}


@dataclass(frozen=True)
class _Task:
    """What both learn from."""

    data: Path
    folders: Folders
    dataset: Dataset
    decoding_s: float
    device: str


def measure(place: Workplace) -> tuple[list[dict[str, Any]], list[str]]:
    """Let both learn in turns, each network on its own."""
    faces = place.data / "faces" / "train"
    if not faces.is_dir():
        return [], [f"no pictures at {faces}: not measured"]
    # As gclf-train does. It is of the process, so the plain way's network gains by it too.
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        chosen = _choose(faces, Path(name) / "data", 256 if place.quick else _PICTURES)
        folders = read_folders(chosen, val_split=0.01, seed=_SEED)
        spec, cache = InputSpec(height=SIZE, width=SIZE), Path(name) / "cache"
        start = time.perf_counter()
        dataset = load_dataset(folders, spec, cache=cache)
        task = _Task(chosen, folders, dataset, time.perf_counter() - start, place.device)
        return [row for network in NETWORKS for row in _measure(network, task, place)], []


def _choose(data: Path, folder: Path, count: int) -> Path:
    """Link some files of each class, in proportion, so that both read the same ones."""
    files = sorted(p for p in data.glob("*/*") if p.suffix.lower() in _SUFFIXES)
    for path in random.Random(_SEED).sample(files, min(count, len(files))):
        link = folder / path.parent.name / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())
    return folder


def _measure(network: str, task: _Task, place: Workplace) -> list[dict[str, Any]]:
    """Let both take turns."""
    epochs = 2 * (place.rule.most + place.rule.warm_up + 1)  # the rates of one cycle, never its end
    recipe = Recipe(epochs=epochs, batch_size=_BATCH, seed=_SEED)
    made, paths = _network(network, task), task.folders.train.paths
    plain = PlainTraining(made, task.data, paths, recipe, torch.device(task.device))
    ours = _ours(network, task, recipe)
    pictures = len(task.dataset.train.paths)
    timings = in_turns(
        {
            "plain": lambda: pictures / plain.run_epoch(),
            "gclf": lambda: pictures / ours.run_epoch().images_per_second,
        },
        place.rule,
    )
    rows: list[dict[str, Any]] = [
        {"network": network, "who": who, "pictures": pictures, "seconds": timing.record()}
        for who, timing in timings.items()
    ]
    rows[0]["waits"] = plain.waited / plain.seconds
    rows[1]["precision"], rows[1]["decoding_s"] = ours.precision, task.decoding_s
    rows[1]["spent"] = _spent(ours) if task.device == "cpu" else {}
    return rows


def _network(name: str, task: _Task) -> nn.Module:
    torch.manual_seed(_SEED)
    spec = InputSpec(height=SIZE, width=SIZE)
    return build(name, len(task.folders.label_names), spec)


def _ours(network: str, task: _Task, recipe: Recipe) -> Training:
    made, normalise = _network(network, task), Normalise(MEAN, STD)
    train, val = task.dataset.train, task.dataset.val
    return Training(made, normalise, train, val, recipe, torch.device(task.device))


def _spent(training: Training) -> dict[str, float]:
    """Profile one more epoch; return the share of its learning by part, 0-1."""
    profile = cProfile.Profile()
    profile.enable()
    training.run_epoch()
    profile.disable()
    found: dict[tuple[str, str], float] = {}
    # Of a pstats.Stats, file, line and function to calls, and seconds alone and with its callees.
    entries: dict[tuple[str, int, str], tuple[Any, ...]] = pstats.Stats(profile).stats  # pyright: ignore[reportAttributeAccessIssue]
    for (file, _, function), (_, _, _, seconds, _) in entries.items():
        key = (Path(file).name, function)
        found[key] = found.get(key, 0) + seconds
    whole = found["loop.py", "_learn"]
    return {part: found[key] / whole for part, key in _PARTS.items()}


def tables(result: Result) -> str:
    """Return speeds of both, their ratios, and where our time goes."""
    lines: list[list[str]] = []
    spent: list[str] = []
    bound = bound_of(result.conditions)
    for network in dict.fromkeys(row["network"] for row in result.rows):
        plain, ours = (row for row in result.rows if row["network"] == network)
        count, decoding = ours["pictures"], ours["decoding_s"]
        rounds = [seconds + decoding / _EPOCHS for seconds in ours["seconds"]["rounds"]]
        lines.append(
            [
                f"{network}, {ours['precision']}",
                per_second(plain["seconds"], count),
                per_second(ours["seconds"], count),
                times(plain["seconds"], ours["seconds"], bound=bound),
                times(plain["seconds"], {"rounds": rounds}, bound=bound),
            ]
        )
        parts = ", ".join(f"{part} {share:.0%}" for part, share in ours["spent"].items())
        spent.append(
            f"`{network}` spends on: {parts}. The plain way waits for its pictures "
            f"{plain['waits']:.0%} of its time."
        )
    header = (
        "learns, pictures/s",
        "ImageFolder, DataLoader, eager fp32",
        "gclf-train",
        "is",
        f"decoding counted, {_EPOCHS} epochs",
    )
    return "\n\n".join([markdown(header, lines), *spent, NOT_STABLE])


def plot(result: Result, path: Path) -> None:
    """Draw pictures per second of both."""
    from benchmarks.plots import bars

    groups: dict[str, dict[str, tuple[float, float, float]]] = {}
    for row in result.rows:
        title = f"{row['network']}, pictures learnt per second"
        who = "gclf-train" if row["who"] == "gclf" else "ImageFolder + DataLoader"
        groups.setdefault(title, {})[who] = rates(row["seconds"], row["pictures"])
    bars(groups, path, marked="gclf")
