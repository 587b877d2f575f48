"""How much faster does gclf-train learn than the plain way, on the same pictures and network?

    uv run python benchmarks/training_speed.py DATA [--network cnn] [--pictures 4096] [--rounds 3]

DATA holds a folder of pictures per class. The plain way is what tutorials do: torchvision's
ImageFolder, a DataLoader with two workers, torchvision's transforms (resize, random crop with a
padding of 4, flip, tensor, normalise), eager float32 in NCHW; on CUDA with pinned memory. Ours is
`gclf_trainer.loop.Training` as gclf-train runs it. Both have AdamW, one cycle and a clipped
gradient, and learn from the same files in batches of one size.

Each learns for an epoch that does not count, then they take turns, an epoch each, so that a busy
machine is as unkind to one as to the other. Validation is left out of both. Prints Markdown:
pictures per second as median and range, and how many times as fast ours is without the decoding
that it does once, and with it over 25 epochs. Then where our time goes, by Python's own profiler
(on the CPU alone: on a GPU the calls return before the work is done). --json keeps all numbers.
"""

import argparse
import cProfile
import json
import os
import platform
import pstats
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name every PyTorch reader knows
from torch.utils.data import DataLoader
from torchvision import transforms  # pyright: ignore[reportMissingTypeStubs]
from torchvision.datasets import ImageFolder  # pyright: ignore[reportMissingTypeStubs]

from gclf_runtime import InputSpec
from gclf_trainer import Recipe
from gclf_trainer.allocator import keep_freed_memory
from gclf_trainer.evaluation import Normalise
from gclf_trainer.folders import Folders, read_folders
from gclf_trainer.loop import Training
from gclf_trainer.networks import build
from gclf_trainer.optimizers import scheduler_of
from gclf_trainer.pixels import Dataset, load_dataset

_EPOCHS = 25  # of a usual training, over which decoding is spread
_MEAN, _STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
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


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--network", action="append", help="may be repeated; cnn and resnet10")
    parser.add_argument("--pictures", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=2, help="of the plain way's DataLoader")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--give-back", action="store_true", help="do not keep freed memory")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    # As gclf-train does. It is of the process, so the plain way's network gains by it too.
    keeps = not options.give_back and keep_freed_memory()
    networks: list[str] = options.network or ["cnn", "resnet10"]
    with tempfile.TemporaryDirectory() as name:
        chosen = _choose(options.data, Path(name) / "data", options.pictures, options.seed)
        cache = Path(name) / "cache"
        spec = InputSpec(height=options.size, width=options.size)
        folders = read_folders(chosen, val_split=0.01, seed=options.seed)
        dataset, decoding = _timed(lambda: load_dataset(folders, spec, cache=cache))
        _, mapping = _timed(lambda: load_dataset(folders, spec, cache=cache))
        record = _conditions(options, dataset) | {
            "keeps_freed_memory": keeps,
            "decoding_s": decoding,
            "from_cache_s": mapping,
            "networks": {
                network: _measure(network, chosen, folders, dataset, decoding, options)
                for network in networks
            },
        }
    _print(record)
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _choose(data: Path, folder: Path, count: int, seed: int) -> Path:
    """Link some files of each class, in proportion, so that both read the same ones."""
    files = sorted(p for p in data.glob("*/*") if p.suffix.lower() in _SUFFIXES)
    chosen = random.Random(seed).sample(files, min(count, len(files)))
    for path in chosen:
        link = folder / path.parent.name / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())
    return folder


def _timed(make: Callable[[], Dataset]) -> tuple[Dataset, float]:
    start = time.perf_counter()
    return make(), time.perf_counter() - start


def _measure(
    network: str,
    data: Path,
    folders: Folders,
    dataset: Dataset,
    decoding: float,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Let both take turns."""
    recipe = Recipe(epochs=2 * options.rounds + 4, batch_size=options.batch_size, seed=options.seed)
    plain = _Plain(network, data, folders, recipe, options)
    ours = _ours(network, dataset, recipe, options)
    plain.run_epoch()
    ours.run_epoch()
    rates: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(options.rounds):
        rates["plain"].append(plain.run_epoch())
        rates["ours"].append(ours.run_epoch().images_per_second)
    middle = {name: statistics.median(values) for name, values in rates.items()}
    pictures = len(dataset.train.paths)
    learning = {name: _EPOCHS * pictures / rate for name, rate in middle.items()}
    return {
        "pictures_per_second": rates,
        "precision": ours.precision,
        "ratio": middle["ours"] / middle["plain"],
        "ratio_with_decoding": learning["plain"] / (learning["ours"] + decoding),
        "spent": _spent(ours) if options.device == "cpu" else {},
        "plain_waits": plain.waited / plain.seconds,
    }


class _Plain:
    """The plain way."""

    def __init__(
        self,
        network: str,
        data: Path,
        folders: Folders,
        recipe: Recipe,
        options: argparse.Namespace,
    ) -> None:
        self._device = torch.device(options.device)
        size = (options.size, options.size)
        steps = [
            transforms.Resize(size),
            transforms.RandomCrop(size, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(_MEAN, _STD),
        ]
        pictures = ImageFolder(str(data), transforms.Compose(steps))
        wanted = {str(path) for path in folders.train.paths}  # not those of validation
        pictures.samples = [sample for sample in pictures.samples if sample[0] in wanted]
        assert len(pictures) == len(wanted)
        self._is_cuda = self._device.type == "cuda"
        self._loader: DataLoader[Any] = DataLoader(
            pictures,
            batch_size=recipe.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=options.workers,
            persistent_workers=options.workers > 0,
            pin_memory=self._is_cuda,
        )
        torch.manual_seed(recipe.seed)
        spec = InputSpec(height=options.size, width=options.size)
        self._network: nn.Module = build(network, len(folders.label_names), spec).to(self._device)
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(), lr=recipe.peak_rate, weight_decay=recipe.decay
        )
        self._scheduler = scheduler_of(self._optimizer, recipe, len(self._loader))
        self._clip_norm = recipe.clip_norm
        self.seconds, self.waited = 0.0, 0.0

    def run_epoch(self) -> float:
        """Learn from every picture once; return pictures per second."""
        self._network.train()
        start = time.perf_counter()
        learnt, waited, total = 0, 0.0, 0.0
        for taken, (pixels, labels) in _waiting(iter(self._loader)):
            waited += taken
            pixels = pixels.to(self._device, non_blocking=True)
            labels = labels.to(self._device, non_blocking=True)
            loss = F.cross_entropy(self._network(pixels), labels)
            self._optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self._network.parameters(), self._clip_norm)
            self._optimizer.step()
            self._scheduler.step()
            total += loss.item()  # to show it, as everyone does
            learnt += len(labels)
        seconds = time.perf_counter() - start
        self.seconds, self.waited = self.seconds + seconds, self.waited + waited
        return learnt / seconds


def _waiting(batches: Iterator[Any]) -> Iterator[tuple[float, Any]]:
    """Yield each batch with the seconds that it was waited for."""
    while True:
        start = time.perf_counter()
        try:
            batch = next(batches)
        except StopIteration:
            return
        yield time.perf_counter() - start, batch


def _ours(network: str, dataset: Dataset, recipe: Recipe, options: argparse.Namespace) -> Training:
    torch.manual_seed(recipe.seed)
    spec = InputSpec(height=options.size, width=options.size)
    made = build(network, len(dataset.label_names), spec)
    normalise = Normalise(_MEAN, _STD)
    place = torch.device(options.device)
    return Training(made, normalise, dataset.train, dataset.val, recipe, place)


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
    return {part: found.get(key, 0.0) / whole for part, key in _PARTS.items()}


def _conditions(options: argparse.Namespace, dataset: Dataset) -> dict[str, Any]:
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), name)
    if options.device != "cpu":
        name = f"{torch.cuda.get_device_name(options.device)}, {name}"
    packages = ("torch", "torchvision", "pillow", "numpy")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": f"{name}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
        "device": options.device,
        "pictures": len(dataset.train.paths),
        "size_px": options.size,
        "batch_size": options.batch_size,
        "workers": options.workers,
        "rounds": options.rounds,
        "seed": options.seed,
        "load": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
    }


def _print(record: dict[str, Any]) -> None:
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    print(f"{record['hardware']}; device {record['device']}; Python {record['python']}, {versions}")
    print(
        f"{record['pictures']} pictures at {record['size_px']} px, batch {record['batch_size']}, "
        f"{record['rounds']} rounds, seed {record['seed']}, {record['workers']} workers; freed "
        f"memory is {'kept' if record['keeps_freed_memory'] else 'given back'}; load "
        f"{record['load']}\n"
    )
    print(f"| network | plain, img/s | ours, img/s | ratio | with decoding, {_EPOCHS} epochs |")
    print("|---" * 5 + "|")
    for network, found in record["networks"].items():
        plain, ours = (_range(found["pictures_per_second"][name]) for name in ("plain", "ours"))
        ratios = f"{found['ratio']:.1f} | {found['ratio_with_decoding']:.1f}"
        print(f"| {network}, {found['precision']} | {plain} | {ours} | {ratios} |")
    print(
        f"\nDecoding, once: {record['decoding_s']:.1f} s; from the cache: "
        f"{record['from_cache_s']:.2f} s."
    )
    for network, found in record["networks"].items():
        print(f"{network}: the plain way waits for pictures {found['plain_waits']:.0%} of its time")
        spent = ", ".join(f"{part} {share:.0%}" for part, share in found["spent"].items())
        print(f"{network}: ours spends on: {spent}" if spent else "")


def _range(rates: list[float]) -> str:
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"


if __name__ == "__main__":
    main()
