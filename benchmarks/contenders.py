"""Who classifies a folder: ours, and what a user would pick instead, as commands."""

import csv
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import python_of, versions
from benchmarks.processes import gclf_infer

_PEERS = Path(__file__).with_name("peers")


@dataclass(frozen=True)
class Peer:
    """Another way from a folder to rows.

    Attributes:
        name: As the tables call it.
        adapter: The script that does as its documentation says; its first lines name packages.
        imports: What it imports first, to time that alone.
        is_packaged: Something one installs, and not thirty lines of one's own.
    """

    name: str
    adapter: Path
    imports: str
    is_packaged: bool = True

    def command(self, pictures: Path, models: Path, rows: Path) -> list[str]:
        """Return what classifies a folder of class folders."""
        return [
            str(part) for part in (python_of(self.adapter), self.adapter, pictures, models, rows)
        ]

    def versions(self) -> dict[str, str]:
        """Return the versions of what it needs, in its own environment."""
        return versions(self.adapter)


PEERS = (
    Peer("loop", _PEERS / "naive_loop.py", "onnxruntime", is_packaged=False),
    Peer("Hugging Face", _PEERS / "huggingface_pipeline.py", "optimum.onnxruntime"),
    Peer("Ultralytics", _PEERS / "ultralytics_yolo.py", "ultralytics"),
    Peer("torchvision", _PEERS / "torch_imagefolder.py", "torchvision"),
    Peer("timm", _PEERS / "timm_loader.py", "timm"),
    Peer("fastembed", _PEERS / "fastembed_image.py", "fastembed"),
)


@dataclass(frozen=True)
class Ours:
    """gclf-infer with one model."""

    name: str
    model: Path

    def command(self, pictures: Path, rows: Path, *, device: str = "cpu") -> list[str]:
        """Return what classifies a folder."""
        return gclf_infer(pictures, rows, model=self.model, device=device)


def answers(rows: Path) -> dict[str, tuple[str, float]]:
    """Read label and probability by file name of what a contender wrote."""
    with rows.open(encoding="utf-8", newline="") as file:
        return {
            Path(row["path"]).name: (row["label"], float(row["probability"]))
            for row in csv.DictReader(file)
        }


def disagreement(
    found: dict[str, tuple[str, float]], expected: dict[str, tuple[str, float]]
) -> tuple[float, float]:
    """Return the share of pictures answered otherwise, and the largest difference in probability.

    A probability is compared where the label is the same.

    Raises:
        ValueError: There are not as many rows as pictures.
    """
    if found.keys() != expected.keys():
        raise ValueError(f"{len(found)} rows of {len(expected)} pictures")
    pairs = [(found[name], expected[name]) for name in expected]
    other = sum(one[0] != two[0] for one, two in pairs)
    reach = max((abs(one[1] - two[1]) for one, two in pairs if one[0] == two[0]), default=0.0)
    return other / len(pairs), reach
