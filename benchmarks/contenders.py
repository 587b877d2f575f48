"""Who classifies a folder: ours, and what a user would pick instead, as commands."""

import csv
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from benchmarks.environments import PeerError, python_of, versions
from benchmarks.processes import ProcessError, gclf_infer, run
from benchmarks.workplace import EMBEDDED, Workplace

NETWORK = "cnn"
"""The network that all run."""

SAME, OURS_EMBEDDED = f"gclf, {NETWORK} fp32", "gclf, embedded int8"
"""Ours as tables call it: the network that all run, and the one that we bring."""

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
        arguments: What the adapter is told beside the folders.
    """

    name: str
    adapter: Path
    imports: str
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
    Peer("loop", _PEERS / "naive_loop.py", "onnxruntime"),
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
    Peer(
        "fastembed, a process per CPU",
        _PEERS / "fastembed_image.py",
        "fastembed",
        arguments=("0",),
    ),
)


@dataclass(frozen=True)
class Ours:
    """gclf-infer with one model."""

    name: str
    model: Path

    def command(self, pictures: Path, rows: Path) -> list[str]:
        """Return what classifies a folder."""
        return gclf_infer(pictures, rows, model=self.model)


def ours_of(place: Workplace) -> tuple[Ours, ...]:
    """Return ours with the network that all run, and with our own; when quick with our own."""
    embedded = Ours(OURS_EMBEDDED, EMBEDDED)
    if place.quick:
        return (embedded,)
    return Ours(SAME, place.models(NETWORK) / "gclf.onnx"), embedded


def commands_of(
    place: Workplace, folder: Path, ours: Iterable[Ours], peers: Iterable[Peer]
) -> dict[str, Command]:
    """Return what classifies a folder by name; each writes to the workplace's rows of its name."""
    commands: dict[str, Command] = {
        one.name: partial(one.command, folder, place.rows(one.name)) for one in ours
    }
    for peer in peers:
        models, rows = place.models(NETWORK), place.rows(peer.name)
        commands[peer.name] = partial(peer.command, folder, models, rows)
    return commands


def peers_of(place: Workplace) -> tuple[Peer, ...]:
    """Return those that are wanted: all or none."""
    return PEERS if place.with_peers else ()


def able(
    commands: Mapping[str, Command],
    asked: str,
    notes: list[str],
    *,
    check: Callable[[str], None] = lambda who: None,
) -> dict[str, Command]:
    """Run each once, to warm up; leave out and note the peers that cannot.

    Args:
        commands: By name.
        asked: What they are asked, for the notes.
        notes: Get a line for each that is left out.
        check: Raises a ProcessError where what somebody gave is no answer.

    Raises:
        ProcessError: Ours could not.
    """
    found: dict[str, Command] = {}
    for who, command in commands.items():
        try:
            run(command())
            check(who)
            found[who] = command
        except (PeerError, ProcessError) as error:
            if who.startswith("gclf"):
                raise
            notes.append(f"{who} did not answer {asked}: {error}")
    return found


def check_rows(rows: Path, pictures: set[str]) -> None:
    """Look whether a contender wrote a row for each picture.

    Args:
        rows: What it wrote.
        pictures: Names of the files.

    Raises:
        ProcessError: It did not.
    """
    found = answers(rows).keys()
    if found != pictures:
        missing = len(pictures - found)
        raise ProcessError(f"it wrote {len(found)} rows; {missing} of {len(pictures)} are missing")


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

    A probability is compared where the label is the same; both have the same pictures.
    """
    pairs = [(found[name], expected[name]) for name in expected]
    other = sum(one[0] != two[0] for one, two in pairs)
    reach = max((abs(one[1] - two[1]) for one, two in pairs if one[0] == two[0]), default=0.0)
    return other / len(pairs), reach
