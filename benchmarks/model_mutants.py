"""How many damaged copies of the embedded model are noticed, and how fast?

    uv run python benchmarks/model_mutants.py [--mutants 4000] [--seed 0]

Each mutant has one bit flipped, or one to eight bytes inserted or deleted, anywhere in the file.
It goes through the check that runs before onnxruntime; what passes it is opened. Prints Markdown.
"""

import argparse
import random
import tempfile
import time
from importlib import resources
from pathlib import Path

import numpy as np

from gclf_runtime import Classifier, ModelError
from gclf_runtime.model_file import read_model


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    honest = (resources.files("gclf_runtime") / "models" / "gender.onnx").read_bytes()
    chance = random.Random(arguments.seed)
    early = late = opened = 0
    times: list[float] = []
    for _ in range(arguments.mutants):
        mutant = _mutate(honest, chance)
        start = time.perf_counter()
        try:
            read_model(mutant, "mutant.onnx")
        except ModelError:
            early += 1
        else:
            is_open = _opens(mutant)
            opened += is_open
            late += not is_open
        times.append(time.perf_counter() - start)
    checks = [_seconds(honest) for _ in range(100)]
    print(
        "| mutants | refused before onnxruntime | refused at all | opened although changed "
        "| slowest, s | check of the honest file, ms |\n|---|---|---|---|---|---|"
    )
    print(
        f"| {arguments.mutants} | {early} | {early + late} | {opened} | {max(times):.3f} "
        f"| {1e3 * np.median(checks):.1f} |"
    )


def _mutate(honest: bytes, chance: random.Random) -> bytes:
    """Return other bytes than the honest ones."""
    mutant = bytearray(honest)
    while bytes(mutant) == honest:
        at, count = chance.randrange(len(honest)), chance.randint(1, 8)
        match chance.choice(("flip", "insert", "delete")):
            case "flip":
                mutant[at] ^= 1 << chance.randrange(8)
            case "insert":
                mutant[at:at] = chance.randbytes(count)
            case _:
                del mutant[at : at + count]
    return bytes(mutant)


def _opens(mutant: bytes) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutant.onnx"
        path.write_bytes(mutant)
        try:
            Classifier(path, device="cpu")
        except ModelError:
            return False
    return True


def _seconds(honest: bytes) -> float:
    start = time.perf_counter()
    read_model(honest, "gender.onnx")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
