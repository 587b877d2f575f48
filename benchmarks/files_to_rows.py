"""How fast do files become rows, what is the limit, and where does the time go?

    uv run python benchmarks/files_to_rows.py [--data ../shared/data] [--model fp32.onnx ...]

Makes two folders from the faces: small faces (crops of 80-200 px, encoded again) and large photos
(1600x1200 composites). For each it measures, on one thread, the CPU time of every stage; the limit
is cores / their sum. Then it runs `gclf-infer --batch FOLDER --output rows.csv` as a whole process
and compares. Rounds of both alternate in one run; medians of --rounds. Prints Markdown.

"the rest" is what one worker spends beside decoding and the network: listing, opening, arrays,
rows. "limit" counts it, "limit without it" does not: what is left if Python were free.
"""

import argparse
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from gclf_runtime import Classifier, images, jpeg
from gclf_runtime.batch import Tally, run_batch
from gclf_runtime.cpus import available_cpus
from gclf_runtime.sinks.files import RowFile
from gclf_runtime.sinks.rows import Columns, CsvCodec
from gclf_runtime.sources import Skipped, open_sources

_COMMAND = str(Path(sys.executable).with_name("gclf-infer"))
# Started by a small process: the peak of a child counts what its parent held when it forked.
_MEASURED = """
import os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - start, usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""
_SEED = 1
_BATCH = 16


@dataclass
class Stages:
    """CPU microseconds per picture, on one thread."""

    read: float
    pillow: float
    decode: float
    network: float
    whole: float

    @property
    def rest(self) -> float:
        """What the pipeline spends beside the stages."""
        return max(0.0, self.whole - self.read - self.decode - self.network)


def main() -> None:
    """Make the pictures, measure, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", type=Path, nargs="*", default=[])
    parser.add_argument("--faces", type=int, default=5000)
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    models: list[Path | None] = [None, *options.model]
    print(_machine())
    with tempfile.TemporaryDirectory() as folder:
        sets = {
            f"{options.faces} faces": make_faces(
                options.data, Path(folder) / "faces", options.faces
            ),
            f"{options.photos} photos": make_photos(
                options.data, Path(folder) / "photos", options.photos
            ),
        }
        rows: list[str] = []
        costs: list[str] = []
        for name, pictures in sets.items():
            for model in models:
                cost, row = measure(name, pictures, model, options.rounds)
                costs.append(cost)
                rows.append(row)
        print("\nCPU µs per picture, one thread, batch 16:\n")
        print("| pictures | model | read | decode, Pillow alone | decode | network | the rest |")
        print("|---|---|---|---|---|---|---|")
        print("\n".join(costs))
        print("\nWhole process:\n")
        print(
            "| pictures | model | limit without the rest | limit | gclf-infer | of the limit "
            "| without start-up | of the limit | peak MB | first row, s |"
        )
        print("|---|---|---|---|---|---|---|---|---|---|")
        print("\n".join(rows))


def make_faces(data: Path, folder: Path, count: int) -> list[Path]:
    """Crop faces to 80-200 px and encode them again."""
    folder.mkdir()
    numbers = random.Random(_SEED)
    sources = sorted((data / "faces" / "val").rglob("*.jpg"))
    for number in range(count):
        with Image.open(sources[number % len(sources)]) as image:
            side = numbers.randint(80, 200)
            corner = numbers.randint(0, max(0, min(image.size) - side))
            crop = image.convert("RGB").crop((corner, corner, corner + side, corner + side))
        crop.save(folder / f"{number:05}.jpg", quality=numbers.choice((75, 85, 90, 95)))
    return sorted(folder.iterdir())


def make_photos(data: Path, folder: Path, count: int) -> list[Path]:
    """Put twelve enlarged faces into each of `count` pictures of 1600x1200."""
    folder.mkdir()
    numbers = random.Random(_SEED)
    sources = sorted((data / "faces" / "val").rglob("*.jpg"))
    for number in range(count):
        photo = Image.new("RGB", (1600, 1200))
        for corner in ((x, y) for x in range(0, 1600, 400) for y in range(0, 1200, 400)):
            with Image.open(numbers.choice(sources)) as image:
                photo.paste(
                    image.convert("RGB").resize((400, 400), Image.Resampling.BICUBIC), corner
                )
        photo.save(folder / f"{number:05}.jpg", quality=90)
    return sorted(folder.iterdir())


def measure(name: str, pictures: list[Path], model: Path | None, rounds: int) -> tuple[str, str]:
    """Return the rows of the two tables."""
    classifier = (
        Classifier(model, device="cpu", threads=1)
        if model
        else Classifier.default(device="cpu", threads=1)
    )
    label = f"{model.name if model else 'embedded'}, {classifier.spec.precision}"
    sample = pictures[: min(len(pictures), 1000)]
    folder = pictures[0].parent
    whole_runs, stage_runs, firsts, peaks = [], [], [], []
    _process(folder, model)  # files into the page cache
    for _ in range(rounds):
        stage_runs.append(_stages(classifier, sample))
        seconds, peak = _process(folder, model)
        whole_runs.append(seconds)
        peaks.append(peak)
        firsts.append(_first_row(pictures[0], model))
    stages = Stages(*(median(column) for column in zip(*stage_runs, strict=True)))
    cpus = available_cpus()
    bare = cpus / (stages.read + stages.decode + stages.network) * 1e6
    limit = cpus / stages.whole * 1e6
    seconds, first = median(whole_runs), median(firsts)
    speed = len(pictures) / seconds
    steady = len(pictures) / (seconds - first)
    cost = (
        f"| {name} | {label} | {stages.read:.0f} | {stages.pillow:.0f} | {stages.decode:.0f} | "
        f"{stages.network:.0f} | {stages.rest:.0f} |"
    )
    row = (
        f"| {name} | {label} | {bare:,.0f} | {limit:,.0f} | {speed:,.0f} | {speed / limit:.2f} | "
        f"{steady:,.0f} | {steady / limit:.2f} | {max(peaks):.0f} | {first:.2f} |"
    )
    return cost, row


def _stages(classifier: Classifier, sample: list[Path]) -> tuple[float, ...]:
    """CPU µs per picture of each stage, once."""
    spec = classifier.spec.input
    encoded = [path.read_bytes() for path in sample]
    read = _cpu(lambda: [_read(path) for path in sample], len(sample))
    decode = _cpu(lambda: [images.load(data, spec) for data in encoded], len(sample))
    library, jpeg.library = jpeg.library, None
    pillow = _cpu(lambda: [images.load(data, spec) for data in encoded], len(sample))
    jpeg.library = library
    pixels = np.stack([images.load(data, spec) for data in encoded])
    network = _cpu(lambda: _run(classifier, pixels), len(sample))
    whole = _cpu(lambda: _pipeline(classifier, sample), len(sample))
    return read, pillow, decode, network, whole


def _cpu(work: Callable[[], object], count: int) -> float:
    start = time.process_time()
    work()
    return (time.process_time() - start) / count * 1e6


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _run(classifier: Classifier, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    for start in range(0, len(pixels), _BATCH):
        classifier._session.run(pixels[start : start + _BATCH])  # pyright: ignore[reportPrivateUsage]


def _pipeline(classifier: Classifier, sample: list[Path]) -> None:
    """What the command does once it has started."""
    columns = Columns(label_names=classifier.spec.label_names)
    with tempfile.TemporaryDirectory() as folder:
        rows = RowFile(Path(folder) / "rows.csv", CsvCodec(columns), {})
        items = open_sources([str(path) for path in sample], Skipped())
        for _ in run_batch(classifier, items, columns, Tally(), rows=rows):
            pass
        rows.close()


def _process(folder: Path, model: Path | None) -> tuple[float, float]:
    """Seconds and peak megabytes of one whole run."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [_COMMAND, "--batch", str(folder), "--output", f"{scratch}/rows.csv"]
        run = subprocess.run(
            [sys.executable, "-c", _MEASURED, *command, *_model(model), "--device", "cpu"],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    seconds, kilobytes = map(float, run.stdout.split())
    return seconds, kilobytes / 1024


def _first_row(picture: Path, model: Path | None) -> float:
    """Seconds of a whole process that answers one picture."""
    start = time.perf_counter()
    subprocess.run(
        [_COMMAND, str(picture), *_model(model), "--device", "cpu"], check=True, capture_output=True
    )
    return time.perf_counter() - start


def _model(model: Path | None) -> list[str]:
    return ["--model", str(model)] if model else []


def _machine() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.split(": ")[1].strip() for line in file if line.startswith("model name")]
    packages: list[str] = []
    for name in ("onnxruntime", "pillow", "simplejpeg", "numpy"):
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            packages.append(f"no {name}")
    return (
        f"{available_cpus()} CPUs ({names[0] if names else platform.processor()}), "
        f"Python {platform.python_version()}, {', '.join(packages)}, seed {_SEED}"
    )


if __name__ == "__main__":
    main()
