from pathlib import Path

import pytest

pytest.importorskip("torch")

from gclf_trainer import DatasetError
from gclf_trainer.folders import read_folders


def tree(root: Path, *files: str) -> Path:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def many(folder: str, count: int) -> list[str]:
    return [f"{folder}/{number:03}.jpg" for number in range(count)]


def test_each_class_gives_the_same_share_to_validation(tmp_path: Path):
    tree(tmp_path, *many("cat", 100), *many("dog", 40), *many("emu", 2))

    folders = read_folders(tmp_path, val_split=0.05, seed=0)

    assert folders.label_names == ("cat", "dog", "emu")
    assert [folders.val.labels.count(label) for label in range(3)] == [5, 2, 1]
    assert [folders.train.labels.count(label) for label in range(3)] == [95, 38, 1]
    assert not set(folders.train.paths) & set(folders.val.paths)
    assert folders.test.paths == ()


def test_the_seed_chooses_what_is_held_out(tmp_path: Path):
    tree(tmp_path, *many("cat", 100), *many("dog", 100))
    first, again, other = (read_folders(tmp_path, val_split=0.1, seed=s) for s in (0, 0, 1))

    assert first == again
    assert first.val.paths != other.val.paths


def test_splits_are_matched_by_name_and_not_by_position(tmp_path: Path):
    tree(tmp_path, *many("train/cat", 3), *many("train/dog", 3), *many("val/dog", 2))
    tree(tmp_path, *many("test/cat", 1))

    folders = read_folders(tmp_path, val_split=0.5, seed=0)

    assert folders.train.labels == (0, 0, 0, 1, 1, 1)
    assert folders.val.labels == (1, 1)
    assert folders.test.labels == (0,)


def test_without_a_val_folder_it_is_held_out_of_train(tmp_path: Path):
    tree(tmp_path, *many("train/cat", 10), *many("train/dog", 10), *many("test/dog", 3))

    folders = read_folders(tmp_path, val_split=0.2, seed=0)

    assert [len(f.paths) for f in (folders.train, folders.val, folders.test)] == [16, 4, 3]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "holds 0 classes, a classifier needs at least 2"),
        (["cat/a.txt", "dog/a.txt"], "without a training picture: cat, dog"),
        (["cat/1.jpg", "cat/2.jpg"], "holds 1 classes"),
        (["cat/1.jpg", "cat/2.jpg", "dog/notes.txt"], "without a training picture: dog"),
        (["cat/1.jpg", "dog/1.jpg", "dog/2.jpg"], "cat holds one picture"),
        (
            ["train/cat/1.jpg", "train/dog/1.jpg", "val/Cat/1.jpg"],
            "classes that training lacks: Cat",
        ),
    ],
    ids=["empty", "no picture at all", "one class", "no pictures", "one picture", "unknown class"],
)
def test_a_folder_that_cannot_be_trained_on_says_why(
    tmp_path: Path, files: list[str], message: str
):
    tree(tmp_path, *files)

    with pytest.raises(DatasetError, match=message):
        read_folders(tmp_path, val_split=0.05, seed=0)


def test_an_absent_folder_says_so(tmp_path: Path):
    with pytest.raises(DatasetError, match="no folder at"):
        read_folders(tmp_path / "absent", val_split=0.05, seed=0)


def test_splits_are_told_in_any_case(tmp_path: Path):
    tree(tmp_path, *many("Train/cat", 3), *many("Train/dog", 3), *many("VAL/dog", 2))
    tree(tmp_path, *many("Test/cat", 1), "notes/readme.txt")

    folders = read_folders(tmp_path, val_split=0.5, seed=0)

    assert folders.label_names == ("cat", "dog")
    assert [len(f.paths) for f in (folders.train, folders.val, folders.test)] == [6, 2, 1]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["val/cat/1.jpg", "test/cat/1.jpg"], "holds test, val, and no train/"),
        (["train/1.jpg", "Val/1.jpg"], "holds Val, train, and no train/ with a folder per class"),
        (["cat/1.jpg", "dog/1.jpg", "val/cat/1.jpg"], "holds val, and no train/"),
        (["train/cat/1.jpg", "train/dog/1.jpg", "dev/cat/1.jpg"], "pictures in dev, which are in"),
        (["train/cat/1.jpg", "train/dog/1.jpg", "val/1.jpg"], "pictures in val, which are in none"),
        (["bus/1.jpg", "car/1.jpg", "train/ice/1.jpg"], "pictures in bus, car, .*: rename or move"),
        (
            ["train/cat/1.jpg", "val/cat/1.jpg", "valid/cat/1.jpg"],
            "a split under two names: train, val, valid. Keep or merge one",
        ),
    ],
    ids=["no train", "loose", "val beside classes", "dev", "loose val", "a class train", "twice"],
)
def test_no_folder_of_pictures_is_dropped_or_learnt_as_a_class_for_its_name(
    tmp_path: Path, files: list[str], message: str
):
    tree(tmp_path, *files)

    with pytest.raises(DatasetError, match=message):
        read_folders(tmp_path, val_split=0.5, seed=0)


@pytest.mark.parametrize("name", ["table.tsv", "model.pt"])
def test_a_file_that_is_no_table_says_so(tmp_path: Path, name: str):
    tree(tmp_path, name)

    with pytest.raises(DatasetError, match=r"neither a folder nor a \.csv\. Name a folder"):
        read_folders(tmp_path / name, val_split=0.05, seed=0)


def test_a_class_may_be_called_train(tmp_path: Path):
    tree(tmp_path, *many("plane", 4), *many("train", 4))

    assert read_folders(tmp_path, val_split=0.5, seed=0).label_names == ("plane", "train")
