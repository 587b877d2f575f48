"""How long to the first answer, how long to import, how large is what is installed?

    uv run python benchmarks/startup.py [--runs 15]

Whole processes, one after the other, files in the page cache. Prints Markdown with median and 10th
percentile. The size is that of the packages the runtime needs, as they lie in this environment.
"""

import argparse
import subprocess
import sys
import time
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
from packaging.requirements import Requirement  # onnxruntime brings it

import gclf_runtime

_FACE = Path(__file__).parent.parent / "examples" / "faces" / "female_20-29.jpg"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs: int = parser.parse_args().runs
    command = str(Path(sys.executable).with_name("gclf-infer"))
    questions = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import gclf_runtime": [sys.executable, "-c", "import gclf_runtime"],
        "gclf-infer on one picture": [command, str(_FACE), "--device", "cpu"],
    }
    print("| process | median, s | p10, s |\n|---|---|---|")
    for name, arguments in questions.items():
        times = [_seconds(arguments) for _ in range(runs + 1)][1:]
        print(f"| {name} | {np.median(times):.2f} | {np.percentile(times, 10):.2f} |")
    print("\n| package | MB |\n|---|---|")
    sizes = {name: _megabytes(name) for name in _needed("gclf-runtime", "cpu")}
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        print(f"| {name} | {size:.1f} |")
    print(f"| all | {sum(sizes.values()):.1f} |")


def _seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(arguments, check=True, capture_output=True)
    return time.perf_counter() - start


def _needed(package: str, extra: str = "") -> set[str]:
    """Name a distribution and, through their metadata, all that it needs."""
    found = {package}
    for line in distribution(package).requires or []:
        requirement = Requirement(line)
        marker = requirement.marker
        if (marker is None or marker.evaluate({"extra": extra})) and requirement.name not in found:
            found |= _needed(requirement.name)
    return found


def _megabytes(package: str) -> float:
    paths = [Path(str(file.locate())) for file in distribution(package).files or []]
    if package == "gclf-runtime":  # installed as a link to its folder
        paths = list(Path(gclf_runtime.__file__).parent.rglob("*.[pom]*"))
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


if __name__ == "__main__":
    main()
