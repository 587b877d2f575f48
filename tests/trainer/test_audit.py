import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("torch")

from gclf_runtime import InputSpec
from gclf_trainer.audit import Audit, audit
from gclf_trainer.findings import Finding
from gclf_trainer.folders import read_folders
from gclf_trainer.headers import read_headers
from gclf_trainer.pixels import Dataset, Split, load_dataset

Drawn = Callable[..., NDArray[np.uint8]]


def dataset(
    train: NDArray[np.uint8],
    val: NDArray[np.uint8],
    labels: list[int] | None = None,
    val_labels: list[int] | None = None,
    names: tuple[str, ...] = ("cat", "dog"),
) -> Dataset:
    """Return a set that has no files; labels alternate unless given."""

    def split(name: str, pixels: NDArray[np.uint8], chosen: list[int] | None) -> Split:
        paths = tuple(Path(f"{name}/{number}") for number in range(len(pixels)))
        labels_n = np.arange(len(pixels)) % len(names) if chosen is None else np.array(chosen)
        return Split(paths, pixels, labels_n.astype(np.int64))

    empty = split("test", train[:0], [])
    splits = split("train", train, labels), split("val", val, val_labels)
    return Dataset(names, *splits, empty, (), "")


def codes(found: Audit) -> dict[str, Finding]:
    return {finding.code: finding for finding in found.findings}


def test_a_sound_set_has_nothing_found(drawn: Drawn):
    found = audit(dataset(drawn(100), drawn(20, seed=1)))

    assert found.findings == ()
    assert not found.is_refused
    assert "100 train, 20 val, 0 test: nothing found" in found.to_text()


@pytest.mark.parametrize(
    ("leaked", "severity", "flattered"),
    [(1, "warning", False), (4, "warning", True), (15, "refusal", True)],
    ids=["few", "loud", "refused"],
)
def test_validation_pictures_in_training_are_found(
    drawn: Drawn, leaked: int, severity: str, flattered: bool
):
    train, val = drawn(300), drawn(200, seed=1)
    val[:leaked] = train[:leaked]

    found = audit(dataset(train, val))

    finding = codes(found)["the same in val and train"]
    assert (finding.count, finding.severity) == (leaked, severity)
    assert ("val accuracy is flattered" in finding.line) == flattered
    assert finding.examples[0] == ("val/0", "train/0")
    assert found.is_refused == (severity == "refusal")


@pytest.mark.parametrize(
    ("leaked", "held_out", "severity"),
    [(9, 9, "refusal"), (5, 9, "refusal"), (4, 9, "warning"), (1, 1, "refusal"), (1, 2, "warning")],
)
def test_a_small_split_is_refused_when_most_of_it_is_in_training(
    drawn: Drawn, leaked: int, held_out: int, severity: str
):
    train, val = drawn(60), drawn(held_out, seed=1)
    val[:leaked] = train[:leaked]

    finding = codes(audit(dataset(train, val)))["the same in val and train"]

    assert (finding.count, finding.severity) == (leaked, severity)


def test_nearly_the_same_across_splits_warns_and_never_refuses(drawn: Drawn):
    train = drawn(100)
    val = (train[:50] * 0.8).astype(np.uint8)

    found = audit(dataset(train, val))

    finding = codes(found)["nearly the same in val and train"]
    assert (finding.count, finding.severity) == (50, "warning")
    assert finding.examples[3] == ("val/3", "train/3")


@pytest.mark.parametrize(("count", "severity"), [(1, "warning"), (20, "refusal")])
def test_one_picture_under_two_labels_is_found(drawn: Drawn, count: int, severity: str):
    train = drawn(200)
    train[1 : 2 * count : 2] = train[0 : 2 * count : 2]

    finding = codes(audit(dataset(train, drawn(20, seed=1))))["the same under two labels"]

    assert (finding.count, finding.severity) == (2 * count, severity)
    assert finding.examples[0] == ("train/1", "train/0")


def test_mirrored_pictures_may_have_two_labels(drawn: Drawn):
    train = drawn(200)
    train[1] = train[0][:, ::-1]

    assert "nearly the same under two labels" not in codes(audit(dataset(train, drawn(20, seed=1))))


def test_a_picture_many_times_in_training_is_counted_each_time(drawn: Drawn):
    train = drawn(200)
    train[2:10:2] = train[0]

    finding = codes(audit(dataset(train, drawn(20, seed=1))))["the same in training"]

    assert (finding.count, finding.severity) == (4, "note")


def test_classes_are_compared_across_splits(drawn: Drawn):
    labels = [0] * 210 + [1] * 19

    found = codes(audit(dataset(drawn(229), drawn(5, seed=1), labels, [0] * 5, ("a", "b"))))

    assert found["absent from val"].severity == "warning"
    assert "no val picture: b" in found["absent from val"].line
    assert "b" in found["tiny classes"].line
    assert "11 times the 19 of b" in found["imbalance"].line
    assert "--balance" in found["imbalance"].remedy


@pytest.mark.parametrize(("count", "severity"), [(1, "warning"), (60, "refusal")])
def test_unreadable_files_are_counted(drawn: Drawn, count: int, severity: str):
    sound = dataset(drawn(100), drawn(20, seed=1))
    bad = tuple((Path(f"{number}.jpg"), "zero bytes") for number in range(count))

    finding = codes(audit(replace(sound, unreadable=bad)))["unreadable"]

    assert (finding.count, finding.severity) == (count, severity)
    assert "zero bytes" in finding.line


def write(folder: Path, pixels: NDArray[np.uint8], suffix: str, orientation: int = 1) -> None:
    folder.mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{number:03}.{suffix}", exif=exif)


def audited(root: Path) -> dict[str, Finding]:
    folders = read_folders(root, val_split=0.2, seed=0)
    return codes(audit(load_dataset(folders, InputSpec(), cache=None)))


def test_formats_sizes_and_orientation_are_told(drawn: Drawn, tmp_path: Path):
    write(tmp_path / "cat", drawn(30), "jpg", orientation=6)
    write(tmp_path / "dog", drawn(30, seed=1, side=32), "png")

    found = audited(tmp_path)

    assert "30 JPEG RGB, 30 PNG RGB" in found["formats"].line
    assert "smallest 32×32, median 64×64, largest 64×64" in found["sizes"].line
    assert "50.0% are smaller than the model's input of 64×64" in found["sizes"].line
    assert found["turned"].count == 30
    assert found["format gives the class away"].severity == "warning"


def test_files_that_are_equal_byte_for_byte_are_told_from_equal_pixels(
    drawn: Drawn, tmp_path: Path
):
    made = drawn(40)
    made[1] = made[2] = made[0]
    write(tmp_path / "train" / "cat", made, "png")
    Image.fromarray(made[2]).save(tmp_path / "train" / "cat" / "002.png", compress_level=1)
    write(tmp_path / "train" / "dog", drawn(40, seed=1), "png")
    write(tmp_path / "val" / "cat", drawn(5, seed=2), "png")
    write(tmp_path / "val" / "dog", drawn(5, seed=3), "png")

    found = audited(tmp_path)

    assert (
        "2 pairs of training pictures (2.50%) are the same (1 byte"
        in found["the same in training"].line
    )
    assert "format gives the class away" not in found


def test_the_record_is_json_and_the_text_names_what_to_do(drawn: Drawn):
    train = drawn(100)
    found = audit(dataset(train, train[:20].copy()))

    record = json.loads(json.dumps(found.to_record()))

    assert record["pictures"]["val"] == {"cat": 10, "dog": 10}
    assert record["findings"][0]["severity"] == "refusal"
    assert "refusal: 20 val pictures (100.00%)" in found.to_text()
    assert "    val/0 = train/0" in found.to_text()
    assert found.findings[0].remedy in found.to_text()


def test_a_header_is_read_of_no_format_that_is_not_decoded(drawn: Drawn, tmp_path: Path):
    picture = Image.fromarray(drawn(1)[0])
    paths = [tmp_path / f"0.{suffix}" for suffix in ("jpg", "tif", "ppm", "webp")]
    for path in paths:
        picture.save(path)

    kinds = [header and header.kind for header in read_headers(paths)]

    assert kinds == ["JPEG RGB", None, None, "WEBP RGB"]


@pytest.mark.slow
def test_real_sets_are_not_refused(shared: Path):
    for name in ("flowers20", "faces"):
        folders = read_folders(shared / "data" / name, val_split=0.05, seed=0)
        found = audit(load_dataset(folders, InputSpec(), cache=None))
        assert {finding.severity for finding in found.findings} == {"note"}
