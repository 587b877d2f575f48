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
        scratch: A folder for pictures and models. Pictures of the same faces that are there
            already are used again; models are made anew, for the code that makes them changes.
        data: Has `faces/val`; the examples are used where it is absent.
        quick: Small sizes and one round.
        rule: When to stop.
        device: `cpu` or `cuda`.
        checkpoints: Of gclf-train, by network; without one, weights are drawn (seed 0).
        with_peers: Make the peers' environments and run them.
    """

    scratch: Path
    data: Path
    quick: bool = False
    rule: Rule = field(default_factory=Rule)
    device: str = "cpu"
    checkpoints: dict[str, Path] = field(default_factory=dict[str, Path])
    with_peers: bool = True
    _models: dict[str, Path] = field(default_factory=dict[str, Path], init=False)

    def faces(self, count: int) -> Path:
        """Return a folder of small faces."""
        found = sources(self.data)
        name = f"faces-{count}-of-{_digest(found)}"
        return self._made(name, lambda folder: make_faces(found, folder, count))

    def photos(self, count: int) -> Path:
        """Return a folder of large photos."""
        found = sources(self.data)
        name = f"photos-{count}-of-{_digest(found)}"
        return self._made(name, lambda folder: make_photos(found, folder, count))

    def linked(self, folder: Path, count: int) -> Path:
        """Return a folder of so many links to the pictures of another."""
        pictures = sorted(folder.rglob("*.jpg"))

        def link(draft: Path) -> Path:
            (draft / "unsorted").mkdir(parents=True)
            for number in range(count):
                os.link(pictures[number % len(pictures)], draft / "unsorted" / f"{number:06}.jpg")
            return draft

        return self._made(f"{folder.name}-as-{count}", link)

    def models(self, network: str) -> Path:
        """Return a folder with one network in every form that somebody runs."""
        if network not in self._models:
            from benchmarks.models import prepare  # torch takes seconds

            shutil.rmtree(self.scratch / network, ignore_errors=True)
            made = prepare(self.scratch / network, network, self.checkpoints.get(network))
            self._models[network] = made
        return self._models[network]

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

    def _made(self, name: str, make: Callable[[Path], Path]) -> Path:
        """Make a folder whole, or use it."""
        folder, draft = self.scratch / name, self.scratch / f"{name}.draft"
        if not folder.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
            make(draft)
            draft.rename(folder)
        return folder


def _digest(pictures: list[Path]) -> str:
    """Name pictures by what they are called and how large they are."""
    listing = "\n".join(f"{path.name} {path.stat().st_size}" for path in pictures)
    return f"{len(pictures)}-{hashlib.sha256(listing.encode()).hexdigest()[:8]}"
