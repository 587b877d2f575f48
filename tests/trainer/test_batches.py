from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from gclf_trainer.batches import Pixels
from gclf_trainer.pixel_file import keep, open_kept

CPU = torch.device("cpu")


def kept(folder: Path, count: int):
    """Return random pixels, and the same mapped from a file."""
    pixels_nhwc = np.random.default_rng(0).integers(0, 256, (count, 4, 5, 3), np.uint8)
    keep(folder / "kept", pixels_nhwc.shape, [(pixels_nhwc, [""] * count)])
    return pixels_nhwc, open_kept(folder / "kept", count)[0]


@pytest.mark.parametrize("count", [0, 1, 7, 100])
def test_batches_are_the_same_from_memory_and_from_a_file(tmp_path: Path, count: int):
    pixels_nhwc, mapped_nhwc = kept(tmp_path, count)
    drawn = torch.randint(0, max(count, 1), (count,), generator=torch.Generator().manual_seed(0))
    for order_n in (drawn, torch.randperm(count), torch.arange(count)):
        expected = torch.from_numpy(pixels_nhwc[order_n.numpy()]).split(8)
        for pixels in (
            Pixels(pixels_nhwc, CPU, is_held=True),
            Pixels(mapped_nhwc, CPU, is_held=True),
            Pixels(mapped_nhwc, CPU, is_held=False),
        ):
            batches = list(pixels.batches(order_n, 8))

            assert len(pixels) == count
            assert len(batches) == len(expected)
            for batch, wanted in zip(batches, expected, strict=True):
                assert torch.equal(batch, wanted)


def test_what_is_in_memory_already_is_not_copied():
    pixels_nhwc = np.zeros((3, 4, 5, 3), np.uint8)
    pixels = Pixels(pixels_nhwc, CPU, is_held=True)
    pixels_nhwc[:] = 9

    assert all(bool((batch == 9).all()) for batch in pixels.batches(torch.arange(3), 2))


def test_a_reader_may_stop_early(tmp_path: Path):
    pixels_nhwc, mapped_nhwc = kept(tmp_path, 50)
    first = next(Pixels(mapped_nhwc, CPU, is_held=False).batches(torch.arange(50), 4))

    assert torch.equal(first, torch.from_numpy(pixels_nhwc[:4]))
