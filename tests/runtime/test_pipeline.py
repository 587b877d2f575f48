import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gclf_runtime import ImageError, InputSpec, ModelSpec
from gclf_runtime.pipeline import Outputs, run_files


class FakeSession:
    """Answers with the first pixel's channels; remembers the batches it was given."""

    spec = ModelSpec(label_names=("r", "g", "b"), input=InputSpec(height=8, width=8))
    provider = "fake"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def run(self, pixels_nhwc: NDArray[np.uint8]) -> Outputs:
        self.batches.append(len(pixels_nhwc))
        values = pixels_nhwc[:, 0, 0].astype(np.float32)
        return values, values


def pictures(folder: Path, count: int) -> list[Path]:
    """Write PNGs whose first channel is their number."""
    paths = [folder / f"{number:03}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    return paths


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 16, 100])
def test_every_file_gets_its_own_answer_in_order(tmp_path: Path, count: int, workers: int):
    paths = pictures(tmp_path, count)

    results = list(run_files(FakeSession(), paths, workers=workers))

    assert [path for path, _ in results] == paths
    numbers = [outcome[0][0] for _, outcome in results if not isinstance(outcome, ImageError)]
    assert numbers == list(range(count))


@pytest.mark.parametrize("bad", [{0}, {15, 16}, set(range(20)), {39}], ids=str)
def test_files_that_cannot_be_read_are_errors_in_their_place(tmp_path: Path, bad: set[int]):
    paths = pictures(tmp_path, 40)
    for number in bad:
        paths[number].write_bytes(b"damaged")

    results = list(run_files(FakeSession(), paths, workers=2))

    for number, (path, outcome) in enumerate(results):
        assert path == paths[number]
        if number in bad:
            assert isinstance(outcome, ImageError)
        else:
            assert not isinstance(outcome, ImageError)
            assert outcome[0][0] == number


def test_paths_are_taken_as_they_are_needed(tmp_path: Path):
    path = pictures(tmp_path, 1)[0]
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield path

    results = run_files(FakeSession(), endless(), workers=2)
    for _ in range(50):
        next(results)
    results.close()

    assert taken < 50 + 16 * 2 * 3


def test_stopping_early_leaves_no_thread_behind(tmp_path: Path):
    before = threading.active_count()
    results = run_files(FakeSession(), pictures(tmp_path, 100), workers=4)
    next(results)
    results.close()

    assert threading.active_count() == before


def test_an_error_in_the_session_is_not_swallowed(tmp_path: Path):
    class BrokenSession(FakeSession):
        def run(self, pixels_nhwc: NDArray[np.uint8]) -> Outputs:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(run_files(BrokenSession(), pictures(tmp_path, 3), workers=2))
