"""What every question is given: options, and pictures and models made once."""

import hashlib
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measuring import Rule
from benchmarks.pictures import make_faces, make_photos, sources

NETWORKS = ("cnn", "resnet10")  # beside the embedded one
EMBEDDED = Path(__file__).parent.parent / "runtime" / "gclf_runtime" / "models" / "gender.onnx"


@dataclass(frozen=True)
class Workplace:
    """Where and how to measure.

    Attributes:
        scratch: A folder for pictures; those of the same faces that are there are used again.
        temporary: A folder of this run alone, for models: the code that makes them changes.
        data: Has `faces/val`; the examples are used where it is absent.
        quick: Small sizes and one round.
        rule: When to stop.
        device: `cpu` or `cuda`.
        checkpoints: Of gclf-train, by network; without one, weights are drawn (seed 0).
        with_peers: Make the peers' environments and run them.
    """

    scratch: Path
    temporary: Path
    data: Path
    quick: bool = False
    rule: Rule = field(default_factory=Rule)
    device: str = "cpu"
    checkpoints: dict[str, Path] = field(default_factory=dict[str, Path])
    with_peers: bool = True

    def faces(self, count: int) -> Path:
        """Return a folder of small faces."""
        found = sources(self.data)
        name = f"faces-{count}-of-{_digest(found)}"
        return _made(self.scratch / name, lambda draft: make_faces(found, draft, count))

    def photos(self, count: int) -> Path:
        """Return a folder of large photos."""
        found = sources(self.data)
        name = f"photos-{count}-of-{_digest(found)}"
        return _made(self.scratch / name, lambda draft: make_photos(found, draft, count))

    def linked(self, folder: Path, count: int) -> Path:
        """Return a folder of so many links to the pictures of another."""
        pictures = sorted(folder.rglob("*.jpg"))

        def link(draft: Path) -> Path:
            (draft / "unsorted").mkdir(parents=True)
            for number in range(count):
                os.link(pictures[number % len(pictures)], draft / "unsorted" / f"{number:06}.jpg")
            return draft

        return _made(self.scratch / f"{folder.name}-as-{count}", link)

    def models(self, network: str) -> Path:
        """Return a folder with one network in every form that somebody runs."""
        from benchmarks.models import prepare  # torch takes seconds

        checkpoint = self.checkpoints.get(network)
        folder = self.temporary / "models" / network
        return _made(folder, lambda draft: prepare(draft, network, checkpoint))

    def rows(self, who: str) -> Path:
        """Return the file that somebody writes rows to, over those of the turn before."""
        (self.scratch / "rows").mkdir(parents=True, exist_ok=True)
        words = "".join(letter if letter.isalnum() else "-" for letter in who)
        return self.scratch / "rows" / f"{words}.csv"

    def record(self) -> dict[str, Any]:
        """Return what a result file keeps of it; null for what is without a limit."""
        rule = {
            name: None if value == math.inf else value for name, value in asdict(self.rule).items()
        }
        return {"rule": rule, "source_pictures": len(sources(self.data))}


def _made(folder: Path, make: Callable[[Path], Path]) -> Path:
    """Make a folder whole, or use it."""
    draft = folder.with_name(f"{folder.name}.draft")
    if not folder.is_dir():
        shutil.rmtree(draft, ignore_errors=True)
        make(draft)
        draft.rename(folder)
    return folder


def _digest(pictures: list[Path]) -> str:
    """Name pictures by what they are called and how large they are."""
    listing = "\n".join(f"{path.name} {path.stat().st_size}" for path in pictures)
    return f"{len(pictures)}-{hashlib.sha256(listing.encode()).hexdigest()[:8]}"
