"""What does a network cost per picture on one core, from raw pixels to probabilities?

    uv run python benchmarks/network_cost.py [M.onnx ...] [--batch 32] [--seconds 5]

The models take turns, so that a busy machine is as unkind to one as to the other. Prints Markdown
with the 10th percentile (the network) and the median (the network on this machine, now).
"""

import argparse
import time
from importlib import resources
from pathlib import Path

import numpy as np
import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]

from gclf_runtime.session import OnnxSession


def main() -> None:
    """Print the table."""
    embedded = Path(str(resources.files("gclf_runtime"))) / "models" / "gender.onnx"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="*", default=[embedded])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()

    sessions = [OnnxSession(model, device="cpu") for model in options.models]
    generator = np.random.default_rng(0)
    batches: list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]] = []
    for session in sessions:
        shape = (options.batch, session.spec.input.height, session.spec.input.width, 3)
        batches.append(generator.integers(0, 256, shape, np.uint8))
    times: list[list[float]] = [[] for _ in sessions]
    end = time.perf_counter() + options.seconds * len(sessions)
    while time.perf_counter() < end or len(times[0]) < 20:
        for session, batch, taken in zip(sessions, batches, times, strict=True):
            start = time.perf_counter()
            session.run(batch)
            taken.append((time.perf_counter() - start) / options.batch * 1e6)
    print(f"onnxruntime {ort.__version__}, one thread, batch {options.batch}\n")
    print("| model | precision | MB | µs per picture, p10 | median | runs |\n" + "|---" * 6 + "|")
    for model, session, taken in zip(options.models, sessions, times, strict=True):
        fast, middle = np.percentile(taken[5:], [10, 50])
        megabytes = model.stat().st_size / 1e6
        row = (
            model.name,
            session.spec.precision,
            f"{megabytes:.2f}",
            f"{fast:.0f}",
            f"{middle:.0f}",
        )
        print(f"| {' | '.join(row)} | {len(taken) - 5} |")


if __name__ == "__main__":
    main()
