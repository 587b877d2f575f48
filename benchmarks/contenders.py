"""Who classifies a folder: ours, and what a user would pick instead, as commands."""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from benchmarks.environments import PeerError, python_of, versions
from benchmarks.processes import ProcessError, gclf_infer, run

Command: TypeAlias = Callable[[], list[str]]
"""Returns what is run; a peer's environment is made when it is first asked."""

_PEERS = Path(__file__).with_name("peers")


@dataclass(frozen=True)
class Peer:
    """Another way from a folder to rows.

    Attributes:
        name: As the tables call it.
        adapter: The script that does as its documentation says; its first lines name packages.
        imports: What it imports first, to time that alone.
        is_packaged: Something one installs, and not thirty lines of one's own.
        arguments: What the adapter is told beside the folders.
    """

    name: str
    adapter: Path
    imports: str
    is_packaged: bool = True
    arguments: tuple[str, ...] = ()

    def command(self, pictures: Path, models: Path, rows: Path) -> list[str]:
        """Return what classifies a folder of class folders.

        Raises:
            PeerError: Its environment cannot be made.
        """
        named = [pictures, models, rows, *self.arguments]
        return [str(part) for part in (python_of(self.adapter), self.adapter, *named)]

    def versions(self) -> dict[str, str]:
        """Return the versions of what it needs, in its own environment."""
        return versions(self.adapter)


PEERS = (
    Peer("loop", _PEERS / "naive_loop.py", "onnxruntime", is_packaged=False),
    Peer("Hugging Face", _PEERS / "huggingface_pipeline.py", "optimum.onnxruntime"),
    Peer("Ultralytics", _PEERS / "ultralytics_yolo.py", "ultralytics", arguments=("64",)),
    Peer(
        "Ultralytics, its default batch of 1",
        _PEERS / "ultralytics_yolo.py",
        "ultralytics",
        arguments=("1",),
    ),
    Peer("torchvision", _PEERS / "torch_imagefolder.py", "torchvision"),
    Peer("timm", _PEERS / "timm_loader.py", "timm"),
    Peer("fastembed", _PEERS / "fastembed_image.py", "fastembed"),
    Peer("fastembed, 2 processes", _PEERS / "fastembed_image.py", "fastembed", arguments=("2",)),
)


@dataclass(frozen=True)
class Ours:
    """gclf-infer with one model."""

    name: str
    model: Path

    def command(self, pictures: Path, rows: Path, *, device: str = "cpu") -> list[str]:
        """Return what classifies a folder."""
        return gclf_infer(pictures, rows, model=self.model, device=device)


def able(commands: Mapping[str, Command], asked: str, notes: list[str]) -> dict[str, Command]:
    """Run each once, to warm up; leave out and note the peers that cannot."""
    found: dict[str, Command] = {}
    for who, command in commands.items():
        try:
            run(command())
            found[who] = command
        except (PeerError, ProcessError) as error:
            if who.startswith("gclf"):
                raise
            notes.append(f"{who} did not answer {asked}: {error}")
    return found


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
