import contextlib
import os
import resource
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from gclf_runtime import InputSpec, images
from gclf_trainer import DatasetError
from gclf_trainer.folders import read_folders
from gclf_trainer.pixels import Dataset, load_dataset

SPEC = InputSpec(height=16, width=16)


def loaded(pictures: Path, cache: Path | None = None, spec: InputSpec = SPEC) -> Dataset:
    folders = read_folders(pictures, val_split=0.2, seed=0)
    return load_dataset(folders, spec, cache=cache)


def test_the_pixels_are_those_of_the_runtime(pictures: Path):
    dataset = loaded(pictures)

    for split in (dataset.train, dataset.val):
        for path, pixels in zip(split.paths, split.pixels_nhwc, strict=True):
            np.testing.assert_array_equal(pixels, images.load(path, SPEC))
    names = [dataset.label_names[label] for label in dataset.train.labels_n]
    assert names == [path.parent.name for path in dataset.train.paths]
    assert len(dataset.test.paths) == 0


def test_the_cache_gives_back_the_same_and_is_used(pictures: Path, tmp_path: Path):
    cache = tmp_path / "cache"
    first = loaded(pictures, cache)
    (kept,) = cache.iterdir()
    content = kept.read_bytes()
    size = 120 * 16 * 16 * 3
    kept.unlink()  # what is mapped stays as it is
    kept.write_bytes(b"\7" * size + content[size:])

    assert not (first.train.pixels_nhwc == 7).all()
    assert (loaded(pictures, cache).train.pixels_nhwc == 7).all()


def test_a_damaged_cache_is_decoded_anew(pictures: Path, tmp_path: Path):
    first = loaded(pictures, tmp_path)
    (kept,) = tmp_path.glob("*.raw")
    whole = kept.read_bytes()
    seven = b"7" + (1).to_bytes(8, "little")  # JSON, but not ours
    for content in (b"", b"damaged", b"\0" * 20, seven, whole[:1000], whole[:-1], whole[1:]):
        kept.unlink()
        kept.write_bytes(content)
        again = loaded(pictures, tmp_path)
        np.testing.assert_array_equal(again.train.pixels_nhwc, first.train.pixels_nhwc)


def test_a_changed_picture_or_input_is_decoded_again(pictures: Path, tmp_path: Path):
    cache = tmp_path / "cache"
    before = loaded(pictures, cache)
    loaded(pictures, cache, replace(SPEC, width=24))
    assert len(list(cache.iterdir())) == 2

    blue, red = pictures / "blue" / "000.png", pictures / "red" / "000.png"
    blue.write_bytes(red.read_bytes())
    after = loaded(pictures, cache)

    assert len(list(cache.iterdir())) == 3
    assert after.sha256 != before.sha256


def test_a_moved_dataset_is_the_same_dataset(pictures: Path, tmp_path: Path):
    before = loaded(pictures)
    moved = pictures.rename(tmp_path / "moved")

    assert loaded(moved).sha256 == before.sha256


def test_a_file_that_cannot_be_read_is_left_out_and_named(pictures: Path, tmp_path: Path):
    for name in ("blue/000.png", "red/007.png"):
        (pictures / name).write_bytes(b"damaged")

    for _ in range(2):  # decoded, then from the cache
        dataset = loaded(pictures, tmp_path / "cache")
        unreadable = {str(path.relative_to(pictures)) for path, _ in dataset.unreadable}
        assert unreadable == {"blue/000.png", "red/007.png"}
        assert all("not an image" in reason for _, reason in dataset.unreadable)
        kept = [*dataset.train.paths, *dataset.val.paths]
        assert len(kept) == 118
        assert len(dataset.train.pixels_nhwc) == len(dataset.train.labels_n)
        for path, pixels in zip(dataset.val.paths, dataset.val.pixels_nhwc, strict=True):
            np.testing.assert_array_equal(pixels, images.load(path, SPEC))


def test_a_class_without_a_readable_picture_is_an_error(pictures: Path):
    for path in (pictures / "green").iterdir():
        path.write_bytes(b"damaged")

    with pytest.raises(
        DatasetError, match=r"classes can be read: green\. One is .*/green/\d+\.png: not an image"
    ):
        loaded(pictures)


def test_a_validation_split_that_cannot_be_read_names_a_file_and_its_reason(
    pictures: Path, tmp_path: Path
):
    (tmp_path / "data").mkdir()
    pictures.rename(tmp_path / "data" / "train")
    (tmp_path / "data" / "val" / "red").mkdir(parents=True)
    (tmp_path / "data" / "val" / "red" / "1.png").write_bytes(b"damaged")

    with pytest.raises(DatasetError, match=r"no validation picture .*/red/1\.png: not an image"):
        loaded(tmp_path / "data")


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(pictures: Path, tmp_path: Path):
    (tmp_path / "file").touch()

    dataset = loaded(pictures, tmp_path / "file" / "cache")

    assert len(dataset.train.paths) == 96
    assert dataset.uncached.startswith(f"{tmp_path / 'file' / 'cache'} cannot be written (")
    assert not loaded(pictures, tmp_path / "cache").uncached


def test_pixels_are_mapped_from_the_cache_and_held_without_one(pictures: Path, tmp_path: Path):
    for _ in range(2):  # decoded, then from the cache
        assert not loaded(pictures, tmp_path / "cache").val.pixels_nhwc.flags.writeable
    assert loaded(pictures).val.pixels_nhwc.flags.writeable


@contextlib.contextmanager
def disk_of(size: int) -> Generator[None]:
    """Let no file grow beyond a size, in bytes; Python ignores the signal."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 1000, 92_160, 92_190])
def test_a_full_disk_is_one_error_where_memory_has_no_room_either(
    pictures: Path, tmp_path: Path, size: int
):
    """The pixels of 120 pictures are 92,160 bytes."""
    cache = tmp_path / "cache"
    folders = read_folders(pictures, val_split=0.2, seed=0)
    with disk_of(size), pytest.raises(DatasetError, match=r"cannot be kept in .*: --cache FOLDER"):
        load_dataset(folders, SPEC, cache=cache, held_share=0)
    assert not list(cache.iterdir())

    with disk_of(size):
        assert len(load_dataset(folders, SPEC, cache=cache).train.paths) == 96
    assert not list(cache.iterdir())


def test_what_a_kill_left_is_never_used_and_goes_when_it_is_old(pictures: Path, tmp_path: Path):
    cache = tmp_path / "cache"
    expected = loaded(pictures, cache)
    (kept,) = cache.iterdir()
    old, young = (kept.with_name(f"{kept.name}.{pid}.partial") for pid in (1, 2))
    for partial in (old, young):
        partial.write_bytes(kept.read_bytes()[:5000])
    os.utime(old, (0, 0))
    kept.unlink()
    again = loaded(pictures, cache)

    np.testing.assert_array_equal(again.train.pixels_nhwc, expected.train.pixels_nhwc)
    assert sorted(cache.iterdir()) == sorted([kept, young])


def test_a_stop_while_decoding_leaves_nothing(pictures: Path, tmp_path: Path):
    folders = read_folders(pictures, val_split=0.2, seed=0)

    def stop(done: int, total: int) -> None:
        if done == 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_dataset(folders, SPEC, cache=tmp_path / "cache", on_progress=stop)

    assert not list((tmp_path / "cache").iterdir())


def test_progress_counts_to_the_end(pictures: Path):
    seen: list[tuple[int, int]] = []
    folders = read_folders(pictures, val_split=0.2, seed=0)

    def note(done: int, total: int) -> None:
        seen.append((done, total))

    load_dataset(folders, SPEC, cache=None, on_progress=note)

    assert seen == [(number, 120) for number in range(1, 121)]
