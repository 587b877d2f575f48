import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

import torchvision  # pyright: ignore[reportMissingTypeStubs]

from gclf_runtime import InputSpec, images
from gclf_trainer import DatasetError
from gclf_trainer.datasets import Source, check_dataset, read_source
from gclf_trainer.folders import Folders
from gclf_trainer.pixels import load_dataset

FASHION = "torchvision:FashionMNIST"


def read(path: Path, *, keep: Path | None = None, val_split: float = 0.2, **rest: object):
    source = Source(path=path, **rest)  # pyright: ignore[reportArgumentType]
    return read_source(source, val_split=val_split, seed=0, keep=keep or path.parent / "keep")


def counts(folders: Folders) -> list[int]:
    return [len(files.paths) for files in (folders.train, folders.val, folders.test)]


def write_idx(path: Path, array: np.ndarray, *, zipped: bool = False) -> None:
    head = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    data = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if zipped else data)


def write_mnist(folder: Path, splits: dict[str, int], *, zipped: bool = False) -> np.ndarray:
    """Write pictures whose classes 0, 1, ... 9 follow each other; return those to train."""
    end = ".gz" if zipped else ""
    pictures = np.random.default_rng(0).integers(0, 256, (max(splits.values()), 28, 28))
    for split, count in splits.items():
        write_idx(folder / f"{split}-images-idx3-ubyte{end}", pictures[:count], zipped=zipped)
        labels = np.arange(count) % 10
        write_idx(folder / f"{split}-labels-idx1-ubyte{end}", labels, zipped=zipped)
    return pictures[: splits["train"]]


def table(folder: Path, text: str) -> Path:
    path = folder / "pictures.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_names_files_relative_to_itself_and_their_split(tmp_path: Path):
    path = table(
        tmp_path,
        "\ufeffsplit,path,label\ntrain,a/1.jpg,dog\n,a/2.jpg,cat\nVal,v.jpg,dog\ntest,/t.jpg,cat\n",
    )
    (tmp_path / "v.jpg").touch()
    folders = read(path)

    assert folders.label_names == ("cat", "dog")
    assert folders.train.paths == (tmp_path / "a/1.jpg", tmp_path / "a/2.jpg")
    assert folders.train.labels == (1, 0)
    assert (folders.val.paths, folders.val.labels) == ((tmp_path / "v.jpg",), (1,))
    assert (folders.test.paths, folders.test.labels) == ((Path("/t.jpg"),), (0,))


def test_a_table_without_splits_holds_out_the_same_share_of_each_class(tmp_path: Path):
    rows = [f"{name}{number}.png,{name}" for name in "xy" for number in range(10)]
    (tmp_path / "x0.png").touch()
    folders = read(table(tmp_path, "path,label\n" + "\n".join(rows)))

    assert counts(folders) == [16, 4, 0]
    assert sorted(folders.val.labels) == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has the columns nothing. It needs path,label"),
        ("file,label\n1.jpg,a\n", "has the columns file, label. It needs path,label"),
        ("path,label\n1.jpg,a\n2.jpg\n", "line 3 lacks a path or a label"),
        ("path,label,split\n1.jpg,a,dev\n", "line 2 has the split 'dev'. Write train, val or test"),
        ("path,label,split\n1.jpg,a,\n2.jpg,b,val\n", "classes without a training picture: b"),
        ("path,label\n1.jpg,a\n2.jpg,a\n", "holds 1 classes, a classifier needs at least 2"),
        ("path,label\n", "has no rows. Add one of path,label"),
        ("path,label,Path\n1.jpg,a,2.jpg\n", "has the column path twice"),
        ('path,label,note\n1.jpg,a,"6\n2.jpg,b,"\n', "from line 2 on .* stray quote there"),
        ('path,label,note\n1.jpg,a,\n2.jpg,b,"' + "x" * 200_000, "from line 3 on .field larger"),
        ("path,label\n1.jpg,a\0b\n", "line 2 is no UTF-8 text"),
    ],
)
def test_a_table_that_makes_no_sense_says_where(tmp_path: Path, text: str, message: str):
    (tmp_path / "1.jpg").touch()
    with pytest.raises(DatasetError, match=message):
        read(table(tmp_path, text))


@pytest.mark.parametrize("header", ["path,label,Split", "Path,Label, split", " PATH,label,SPLIT "])
def test_the_columns_of_a_table_are_told_in_any_case(tmp_path: Path, header: str):
    rows = "1.jpg,a,train\n2.jpg,b,train\n3.jpg,a,val\n4.jpg,b,test\n"
    (tmp_path / "1.jpg").touch()

    assert counts(read(table(tmp_path, f"{header}\n{rows}"))) == [2, 1, 1]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("row", ["1.jpg,Bär", "Bär.jpg,a"], ids=["label", "path"])
def test_a_table_in_another_encoding_says_so(tmp_path: Path, encoding: str, row: str):
    path = tmp_path / "pictures.csv"
    path.write_text(f"path,label\n{row}\n", encoding=encoding)

    with pytest.raises(DatasetError, match=r"is no UTF-8 text\. Save the table as UTF-8"):
        read(path)


def test_a_file_whose_name_is_no_utf8_is_still_found_by_a_table(tmp_path: Path):
    for number in range(4):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/B\xe4r%d.jpg" % number)).touch()
    rows = b"".join(b"B\xe4r%d.jpg,%s\n" % (number, b"ab"[number % 2 :][:1]) for number in range(4))
    (tmp_path / "pictures.csv").write_bytes(b"path,label\n" + rows)

    assert counts(read(tmp_path / "pictures.csv", val_split=0.5)) == [2, 2, 0]


def test_a_table_relative_to_another_folder_says_so(tmp_path: Path):
    path = table(tmp_path, "path,label\npictures/1.jpg,a\n")

    with pytest.raises(DatasetError, match=r"names no file .*pictures/1\.jpg\. Write paths rel"):
        read(path)


def test_an_absent_table_says_so(tmp_path: Path):
    with pytest.raises(DatasetError, match=r"cannot be read .* Name a CSV file"):
        read(tmp_path / "absent.csv")


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzipped"])
def test_a_folder_of_idx_files_is_trained_on_pixel_by_pixel(tmp_path: Path, zipped: bool):
    pictures = write_mnist(tmp_path / "mnist", {"train": 30, "t10k": 20}, zipped=zipped)
    folders = read(tmp_path / "mnist", val_split=0.34)
    spec = InputSpec(height=28, width=28)
    dataset = load_dataset(folders, spec, cache=None)

    assert folders.label_names == tuple("0123456789")
    assert counts(folders) == [20, 10, 20]
    for path, pixels, label in zip(
        dataset.train.paths, dataset.train.pixels_nhwc, dataset.train.labels_n, strict=True
    ):
        assert label == int(path.stem) % 10
        np.testing.assert_array_equal(pixels, pictures[int(path.stem)][:, :, None].repeat(3, 2))
    np.testing.assert_array_equal(
        dataset.val.pixels_nhwc[0], images.load(folders.val.paths[0], spec)
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte", b"\0\0\x08\x03\0", "is no IDX file of uint8"),
        ("train-images-idx3-ubyte", b"\0\0\x0d\x03" + bytes(12), "starts with 00 00 0d 03"),
        ("train-labels-idx1-ubyte", b"\0\0\x08\x01\0\0\0\x01\0", "30 pictures, .* 1 labels"),
        ("train-labels-idx1-ubyte", None, "no train-labels-idx1-ubyte in"),
        ("t10k-labels-idx1-ubyte", b"\0\0\x08\x01\0\0\0\x01\x63", "tests classes"),
        ("train-images-idx3-ubyte", b"\0\0\x08\x03\0\0\0\x1e" + bytes(8), "pictures of 0×0 pixels"),
        ("train-images-idx3-ubyte", b"\0\0\x08\x03" + bytes(12), "holds no pictures"),
        ("train-images-idx3-ubyte", None, "no train-images-idx3-ubyte in .* Copy it there"),
    ],
    ids=["cut", "floats", "too few", "no labels", "unknown class", "flat", "none", "no train"],
)
def test_damaged_idx_files_are_named(
    tmp_path: Path, name: str, content: bytes | None, message: str
):
    write_mnist(tmp_path / "mnist", {"train": 30, "t10k": 1})
    path = tmp_path / "mnist" / name
    path.unlink() if content is None else path.write_bytes(content)

    with pytest.raises(DatasetError, match=message):
        read(tmp_path / "mnist")


def test_a_dataset_of_torchvision_is_read_by_its_name(tmp_path: Path):
    pictures = write_mnist(tmp_path / "data" / "FashionMNIST" / "raw", {"train": 40, "t10k": 10})
    folders = read(tmp_path / "data", dataset=FASHION, val_split=0.25)

    assert folders.label_names[:2] == ("T-shirt/top", "Trouser")
    assert counts(folders) == [30, 10, 10]
    for path, label in zip(folders.train.paths, folders.train.labels, strict=True):
        assert label == int(path.stem) % 10
        np.testing.assert_array_equal(np.asarray(Image.open(path)), pictures[int(path.stem)])


def test_classes_that_no_split_holds_are_left_out(tmp_path: Path):
    raw = tmp_path / "data" / "EMNIST" / "raw"
    for split, count in (("train", 80), ("test", 26)):
        name = f"emnist-letters-{split}"
        write_idx(raw / f"{name}-images-idx3-ubyte", np.zeros((count, 28, 28)))
        write_idx(raw / f"{name}-labels-idx1-ubyte", np.arange(count) % 26 + 1)
    folders = read(tmp_path / "data", dataset="torchvision:EMNIST/letters", val_split=0.35)

    assert "".join(folders.label_names) == "abcdefghijklmnopqrstuvwxyz"
    assert counts(folders) == [54, 26, 26]
    assert folders.test.labels == tuple(range(26))


def write_lfw(folder: Path) -> None:
    """Write the lists of two people's pictures, and where torchvision looks for those."""
    folder.mkdir(parents=True)
    (folder / "lfw-names.txt").write_text("Ann\t6\nBob\t6\n")
    (folder / "peopleDevTrain.txt").write_text("2\nAnn\t4\nBob\t4\n")
    (folder / "peopleDevTest.txt").write_text("2\nAnn\t2\nBob\t2\n")
    (folder / "people.txt").write_text("1\n2\nAnn\t6\nBob\t6\n")


@pytest.mark.parametrize(
    ("edition", "expected"), [("", [6, 2, 4]), ("/10fold", [8, 4, 0])], ids=["splits", "10fold"]
)
def test_what_a_builder_opens_by_itself_is_not_trained_on_where_there_is_a_split_for_that(
    tmp_path: Path, edition: str, expected: list[int], monkeypatch: pytest.MonkeyPatch
):
    def is_whole(_: object) -> bool:
        return True

    write_lfw(tmp_path / "data" / "lfw-py")
    # torchvision wants the published archive, by its digest.
    monkeypatch.setattr(torchvision.datasets.LFWPeople, "_check_integrity", is_whole)
    folders = read(tmp_path / "data", dataset=f"torchvision:LFWPeople{edition}", val_split=0.25)

    assert counts(folders) == expected


def test_a_dataset_without_a_split_to_train_is_opened_as_it_opens_itself(tmp_path: Path):
    folder = tmp_path / "data" / "oxford-iiit-pet"
    for split, count in (("trainval", 4), ("test", 2)):
        lines = [
            f"{name}_{split}{number} {label} 1 1\n"
            for label, name in ((1, "Abyssinian"), (2, "beagle"))
            for number in range(count)
        ]
        (folder / "annotations").mkdir(parents=True, exist_ok=True)
        (folder / "annotations" / f"{split}.txt").write_text("".join(lines))
    (folder / "images").mkdir()
    folders = read(tmp_path / "data", dataset="torchvision:OxfordIIITPet", val_split=0.25)

    assert folders.label_names == ("Abyssinian", "Beagle")
    assert counts(folders) == [6, 2, 4]
    assert folders.test.paths[0] == folder / "images" / "Abyssinian_test0.jpg"
    assert not (tmp_path / "keep").exists()


def test_pictures_get_their_name_on_the_disk_and_what_a_kill_left_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    raw, keep = tmp_path / "data" / "FashionMNIST" / "raw", tmp_path / "keep"
    write_mnist(raw, {"train": 40, "t10k": 10})
    old, young, other = (
        keep / name
        for name in (
            "FashionMNIST-train-0123456789abcdef.1.partial",
            "FashionMNIST-train-0123456789abcdef.2.partial",
            "holiday-film.partial",
        )
    )
    for folder in (old, young, other):
        folder.mkdir(parents=True)
        (folder / "0000000.png").touch()
    for folder in (old, other):
        os.utime(folder, (0, 0))
    named: list[int] = []
    monkeypatch.setattr(os, "sync", lambda: named.append(len(list(keep.glob("*[0-9a-f]")))))
    read(tmp_path / "data", dataset=FASHION, keep=keep)

    assert not old.exists()
    assert young.exists()
    assert other.exists()
    assert named == [0, 1]  # folders that had their name when each was on the disk


def test_pictures_are_written_once_and_changed_ones_anew(tmp_path: Path):
    raw, keep = tmp_path / "data" / "FashionMNIST" / "raw", tmp_path / "keep"
    pictures = write_mnist(raw, {"train": 40, "t10k": 10})
    read(tmp_path / "data", dataset=FASHION, keep=keep)
    written = {path: path.stat().st_mtime_ns for path in keep.rglob("*.png")}
    assert len(written) == 50
    read(tmp_path / "data", dataset=FASHION, keep=keep)
    assert {path: path.stat().st_mtime_ns for path in keep.rglob("*.png")} == written
    assert len(list(keep.iterdir())) == 2

    write_idx(raw / "train-images-idx3-ubyte", 255 - pictures)
    folders = read(tmp_path / "data", dataset=FASHION, keep=keep)

    assert len(list(keep.iterdir())) == 3
    changed = np.asarray(Image.open(folders.train.paths[0]))
    np.testing.assert_array_equal(changed, 255 - pictures[int(folders.train.paths[0].stem)])


def test_files_that_torchvision_keeps_are_taken_as_they_are(tmp_path: Path):
    for name in ("Forest", "River"):
        for number in range(4):
            path = tmp_path / "data" / "eurosat" / "2750" / name / f"{name}_{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()  # not decoded: it would fail
    folders = read(tmp_path / "data", dataset="torchvision:EuroSAT", val_split=0.25)

    assert folders.label_names == ("Forest", "River")
    assert counts(folders) == [6, 2, 0]
    assert all(path.is_relative_to(tmp_path / "data") for path in folders.train.paths)
    assert not (tmp_path / "keep").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (FASHION, "cannot be opened in .* Name its folder with --data-dir, or .* --download"),
        ("torchvision:Nothing", "torchvision has no dataset 'Nothing'. Try"),
        ("torchvision:EMNIST", "comes in editions. Name one, as in torchvision:EMNIST/letters"),
        ("torchvision:CocoDetection", "no dataset for classification by its name: .* annFile"),
        ("torchvision:FakeData", "torchvision has no dataset 'FakeData'. Try"),
    ],
)
def test_a_dataset_that_is_not_there_says_so(tmp_path: Path, name: str, message: str):
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, dataset=name)


@pytest.mark.parametrize("name", ["FashionMNIST", "torchvision:", "timm:cifar"])
def test_a_dataset_is_named_after_its_package(name: str):
    with pytest.raises(ValueError, match=r"is no torchvision:NAME\. Try torchvision:FashionMNIST"):
        check_dataset(name)


def test_classes_get_the_names_of_a_json_object(pictures: Path, tmp_path: Path):
    names = {"blue": "sky", "green": "grass", "red": "blood", "17": "ignored"}
    (tmp_path / "names.json").write_text(json.dumps(names), encoding="utf-8")
    folders = read(pictures, class_names=tmp_path / "names.json")

    assert folders.label_names == ("sky", "grass", "blood")
    assert folders.train.labels == read(pictures).train.labels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "is no JSON object"),
        ('{"blue": "sky", "red": ""}', "names no class green, red. Add an entry of printable text"),
        ('{"blue": "x", "red": "x", "green": "y"}', "several classes the name x"),
        ('{"blue": " ", "red": "a\\nb", "green": "\\ud800"}', "names no class blue, green, red"),
        ('{"blue": "x", "red": "y", "green": "z", "red": "r"}', "the key 'red' is there twice"),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
    ids=range(7),
)
def test_class_names_that_do_not_fit_say_so(
    pictures: Path, tmp_path: Path, text: str, message: str
):
    (tmp_path / "names.json").write_text(text, encoding="utf-8")

    with pytest.raises(DatasetError, match=message):
        read(pictures, class_names=tmp_path / "names.json")
