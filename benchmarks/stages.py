"""Where the time of a picture goes, and how fast it could be: CPU time of each stage, one thread.

The limit of a machine is its cores divided by what one picture costs in all. "The rest" is what
the pipeline spends beside reading, decoding and the network: listing, opening, arrays, rows.
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gclf_runtime import Classifier, images, jpeg
from gclf_runtime.batch import Tally, run_batch
from gclf_runtime.cpus import available_cpus
from gclf_runtime.session import OnnxSession
from gclf_runtime.sinks.files import RowFile
from gclf_runtime.sinks.rows import Columns, CsvCodec
from gclf_runtime.sources import Skipped, open_sources


@dataclass(frozen=True)
class Stages:
    """CPU microseconds per picture; `whole` is the pipeline from folder to rows."""

    read: float
    decode: float
    decode_by_pillow: float
    network: float
    whole: float

    @property
    def rest(self) -> float:
        """What the pipeline spends beside the stages."""
        return max(0.0, self.whole - self.read - self.decode - self.network)

    @property
    def limit(self) -> float:
        """Pictures per second of all cores, were none of them ever idle."""
        return available_cpus() / self.whole * 1e6

    def record(self) -> dict[str, Any]:
        """Return what a result file keeps."""
        return {**asdict(self), "rest": self.rest, "limit": self.limit}


def measure_stages(model: Path, folder: Path, *, rounds: int) -> Stages:
    """Return the medians of some rounds over the pictures of a folder; one before does not count.

    The session and the pipeline that are timed have run once, and have grown what they need.
    """
    classifier = Classifier(model, device="cpu", threads=1)
    session = OnnxSession(model, device="cpu")
    pictures = sorted(folder.rglob("*.jpg"))
    found = [_once(classifier, session, folder, pictures) for _ in range(rounds + 1)]
    return Stages(*(median(column) for column in zip(*found[1:], strict=True)))


def _once(
    classifier: Classifier, session: OnnxSession, folder: Path, pictures: list[Path]
) -> tuple[float, ...]:
    spec, count = classifier.spec.input, len(pictures)
    encoded = [path.read_bytes() for path in pictures]
    pixels_nhwc = np.stack([images.load(data, spec) for data in encoded])
    read = _cpu_us(lambda: [_read(path) for path in pictures], count)
    decode = _cpu_us(lambda: [images.load(data, spec) for data in encoded], count)
    library, jpeg.library = jpeg.library, None
    by_pillow = _cpu_us(lambda: [images.load(data, spec) for data in encoded], count)
    jpeg.library = library
    network = _cpu_us(lambda: _run(session, pixels_nhwc), count)
    whole = _cpu_us(lambda: _pipeline(classifier, folder), count)
    return read, decode, by_pillow, network, whole


def _cpu_us(work: Callable[[], object], count: int) -> float:
    start = time.process_time()
    work()
    return (time.process_time() - start) / count * 1e6


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _run(session: OnnxSession, pixels_nhwc: NDArray[np.uint8]) -> None:
    for start in range(0, len(pixels_nhwc), session.batch_size):
        session.run(pixels_nhwc[start : start + session.batch_size])


def _pipeline(classifier: Classifier, folder: Path) -> None:
    """What the command does once it has started."""
    columns = Columns(label_names=classifier.spec.label_names)
    with tempfile.TemporaryDirectory() as scratch:
        rows = RowFile(Path(scratch) / "rows.csv", CsvCodec(columns), {})
        items = open_sources([str(folder)], Skipped())
        for _ in run_batch(classifier, items, columns, Tally(), rows=rows):
            pass
        rows.close()
