import threading
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gclf_runtime import ImageError, InputSpec, ModelSpec, SourceError
from gclf_runtime.items import Item
from gclf_runtime.pipeline import Outcome, SessionRunner, run_items

BATCH = 16


class FakeSession:
    """Answers with the first pixel's channels; remembers the batches it was given."""

    spec = ModelSpec(label_names=("r", "g", "b"), input=InputSpec(height=8, width=8))
    provider = "fake"
    batch_size = BATCH

    def __init__(self) -> None:
        self.batches: list[int] = []

    def run(
        self, pixels_nhwc: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.batches.append(len(pixels_nhwc))
        values = pixels_nhwc[:, 0, 0].astype(np.float32)
        return values, values


def pictures(folder: Path, count: int) -> list[Path]:
    """Write PNGs whose first channel is their number."""
    paths = [folder / f"{number:03}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    return paths


def run(
    items: Iterable[Item], *, workers: int = 2, **options: bool
) -> Generator[tuple[Item, Outcome]]:
    runner = SessionRunner(FakeSession(), **options)
    return run_items(runner, items, workers=workers, batch_size=BATCH)


def named(paths: list[Path]) -> list[Item]:
    return [Item(str(path)) for path in paths]


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 16, 100])
def test_every_item_gets_its_own_answer_in_order(tmp_path: Path, count: int, workers: int):
    items = named(pictures(tmp_path, count))

    results = list(run(items, workers=workers))

    assert [item for item, _ in results] == items
    numbers = [outcome[0][0] for _, outcome in results if not isinstance(outcome, ImageError)]
    assert numbers == list(range(count))


@pytest.mark.parametrize("bad", [{0}, {15, 16}, set(range(20)), {39}], ids=str)
def test_items_that_cannot_be_read_are_errors_in_their_place(tmp_path: Path, bad: set[int]):
    paths = pictures(tmp_path, 40)
    for number in bad:
        paths[number].write_bytes(b"damaged")

    results = list(run(named(paths)))

    for number, (item, outcome) in enumerate(results):
        assert item.name == str(paths[number])
        if number in bad:
            assert isinstance(outcome, ImageError)
        else:
            assert not isinstance(outcome, ImageError)
            assert outcome.probabilities_k[0] == number


def test_bytes_at_hand_are_decoded_and_an_error_at_hand_is_the_outcome(tmp_path: Path):
    data = pictures(tmp_path, 8)[7].read_bytes()
    missing = ImageError("missing", "not in the archive")

    (_, answer), (_, error) = run([Item("a.tar/7.png", data), Item("a.tar/8.png", missing)])

    assert not isinstance(answer, ImageError)
    assert answer.probabilities_k[0] == 7
    assert str(error) == "a.tar/8.png: not in the archive"


def test_the_pixels_the_model_saw_are_handed_out_when_asked_for(tmp_path: Path):
    paths = pictures(tmp_path, 20)
    paths[3].write_bytes(b"damaged")

    outcomes = [outcome for _, outcome in run(named(paths), keep_pixels=True)]

    for number, outcome in enumerate(outcomes):
        if number != 3:
            assert not isinstance(outcome, ImageError)
            assert outcome.pixels_hwc is not None
            assert outcome.pixels_hwc.shape == (8, 8, 3)
            assert outcome.pixels_hwc[0, 0].tolist() == [number, 0, 0]


def test_items_are_taken_as_they_are_needed(tmp_path: Path):
    path = pictures(tmp_path, 1)[0]
    taken = 0

    def endless() -> Iterator[Item]:
        nonlocal taken
        while True:
            taken += 1
            yield Item(str(path))

    results = run(endless())
    for _ in range(50):
        next(results)
    results.close()

    assert taken < 50 + BATCH * 2 * 5


def test_what_came_before_an_error_of_the_source_is_answered(tmp_path: Path):
    paths = pictures(tmp_path, 21)

    def cut_short() -> Iterator[Item]:
        yield from named(paths)
        raise SourceError("the archive ends here")

    results = run(cut_short())
    seen = [next(results)[0].name for _ in paths]
    with pytest.raises(SourceError, match="ends here"):
        next(results)

    assert seen == [str(path) for path in paths]


def test_large_items_at_hand_are_not_held_by_the_chunk(tmp_path: Path):
    taken = 0

    def large() -> Iterator[Item]:
        nonlocal taken
        for number in range(40):
            taken += 1
            yield Item(str(number), bytes(20 * 2**20))

    results = run(large())
    next(results)
    results.close()

    assert taken <= 2 * 2 * 2


def test_stopping_early_leaves_no_thread_behind(tmp_path: Path):
    before = threading.active_count()
    results = run(named(pictures(tmp_path, 100)), workers=4)
    next(results)
    results.close()

    assert threading.active_count() == before


def test_an_error_in_the_session_is_not_swallowed(tmp_path: Path):
    class BrokenSession(FakeSession):
        def run(
            self, pixels_nhwc: NDArray[np.uint8]
        ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            raise RuntimeError("out of memory")

    items = named(pictures(tmp_path, 3))
    with pytest.raises(RuntimeError, match="out of memory"):
        list(run_items(SessionRunner(BrokenSession()), items, workers=2, batch_size=BATCH))
