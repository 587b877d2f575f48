import os
from pathlib import Path

import pytest

from gclf_runtime import OutputError
from gclf_runtime.items import Item
from gclf_runtime.sinks.sorting import Sorter


def below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"first")
    return path


def test_a_copy_keeps_the_path_below_its_source(picture: Path, tmp_path: Path):
    sorter = Sorter(tmp_path / "out")
    sorter.place(Item(str(picture), None, "sub/a.jpg"), "cat")
    sorter.place(Item("shard.tar/x/b.jpg", b"second", "x/b.jpg"), "dog")
    sorter.place(Item(str(picture)), "dog")

    assert below(tmp_path / "out") == {
        "cat/sub/a.jpg": b"first",
        "dog/a.jpg": b"first",
        "dog/x/b.jpg": b"second",
    }


def test_two_pictures_of_one_name_are_both_there_and_a_second_run_adds_none(tmp_path: Path):
    items: list[Item] = []
    for folder in ("one", "two", "three"):
        path = tmp_path / folder / "a.jpg"
        path.parent.mkdir()
        path.write_bytes(folder.encode())
        items.append(Item(str(path)))
    expected = {"cat/a.jpg": b"one", "cat/a~2.jpg": b"two", "cat/a~3.jpg": b"three"}

    for _ in range(2):
        for item in items:
            Sorter(tmp_path / "out").place(item, "cat")
        assert below(tmp_path / "out") == expected


def test_links_lead_to_the_picture_and_members_of_archives_are_copied(
    picture: Path, tmp_path: Path
):
    sorter = Sorter(tmp_path / "out", link=True)
    for _ in range(2):
        sorter.place(Item(str(picture)), "cat")
        sorter.place(Item("shard.zip/b.jpg", b"second"), "cat")

    assert os.readlink(tmp_path / "out" / "cat" / "a.jpg") == str(picture)
    assert below(tmp_path / "out") == {"cat/a.jpg": b"first", "cat/b.jpg": b"second"}


@pytest.mark.parametrize(
    ("label", "folder"), [("a/b", "a_b"), ("..", "_.."), ("x\n", "x_"), ("ü ü", "ü ü")]
)
def test_a_class_name_is_one_folder_whatever_is_in_it(
    picture: Path, tmp_path: Path, label: str, folder: str
):
    Sorter(tmp_path / "out").place(Item(str(picture)), label)

    assert list(below(tmp_path / "out")) == [f"{folder}/a.jpg"]


def test_a_picture_that_cannot_be_placed_is_an_output_error(picture: Path, tmp_path: Path):
    with pytest.raises(OutputError, match=r"cannot be sorted into .* --sort-into"):
        Sorter(picture)


def test_a_picture_with_an_impossible_name_is_left_and_the_next_is_placed(
    picture: Path, tmp_path: Path
):
    sorter = Sorter(tmp_path / "out")

    assert not sorter.place(Item("shard.tar/long", b"first", "x" * 300), "cat")
    assert not sorter.place(Item(str(tmp_path / "vanished.jpg")), "cat")
    assert sorter.place(Item(str(picture)), "cat")
