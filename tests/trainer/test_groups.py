import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from gclf_trainer import DatasetError
from gclf_trainer.groups import Attributes, Groups, group_scores, read_attributes
from gclf_trainer.report.tables import group_tables
from gclf_trainer.scores import class_scores, wilson

TABLE = """file,age,camera,serial
val/cat/1.jpg,3-9,old,a
val/cat/2.jpg,10-19,old,b
val/dog/1.jpg,more than 70,new,c
val/dog/2.jpg,3-9,,d
"""
PICTURES = ("/data/val/cat/1.jpg", "/data/val/cat/2.jpg", "/data/val/dog/1.jpg")


def table(tmp_path: Path, text: str = TABLE) -> Attributes:
    path = tmp_path / "attributes.csv"
    path.write_text(text, encoding="utf-8")
    return read_attributes(path)


def many(tmp_path: Path, counts: dict[str, tuple[int, int]]) -> Groups:
    """Return groups of one column: how many are right of how many, by value."""
    lines, right = ["file,kind"], list[bool]()
    for value, (good, count) in counts.items():
        lines += [f"{value}{index}.jpg,{value}" for index in range(count)]
        right += [index < good for index in range(count)]
    attributes = table(tmp_path, "\n".join(lines))
    return group_scores(attributes, [line.split(",")[0] for line in lines[1:]], right)


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (15, 30, 0.3315, 0.6685), (0, 0, 0.0, 1.0)],
)
def test_intervals_are_wilsons(right: int, count: int, low: float, high: float):
    assert wilson(right, count) == pytest.approx((low, high), abs=1e-4)


def test_classes_have_precision_recall_and_f1():
    first, second, third = class_scores(
        np.array([[8, 2, 0], [4, 6, 0], [0, 0, 0]]), ("cat", "dog", "owl")
    )

    assert (first.precision, first.recall) == pytest.approx((8 / 12, 0.8))
    assert first.f1 == pytest.approx(2 * (8 / 12) * 0.8 / (8 / 12 + 0.8))
    assert (second.precision, second.recall) == pytest.approx((0.75, 0.6))
    assert (third.precision, third.recall, third.f1) == (None, None, None)


def test_columns_with_few_values_make_groups_in_their_natural_order(tmp_path: Path):
    header, *lines = TABLE.splitlines()
    twins = [f"more/{line}2" for line in lines]  # and serial numbers of their own
    paths = [f"/data/{line.split(',')[0]}" for line in (*lines, *twins)]
    attributes = table(tmp_path, "\n".join([header, *lines, *twins]))
    groups = group_scores(attributes, paths, [True, False, True, True] * 2)

    assert {n: [s.name for s in scores] for n, scores in groups.columns.items()} == {
        "age": ["3-9", "10-19", "more than 70"],
        "camera": ["new", "not stated", "old"],
    }
    assert [(s.right, s.count) for s in groups.columns["age"]] == [(4, 4), (0, 2), (2, 2)]
    assert (groups.overall.right, groups.overall.count, groups.unlisted) == (6, 8, 0)


def test_a_column_with_a_value_per_picture_makes_no_groups(tmp_path: Path):
    lines = [f"{index}.jpg,{index},{index % 2},x" for index in range(21)]
    attributes = table(tmp_path, "\n".join(["file,serial,odd,same", *lines]))

    groups = group_scores(attributes, [f"{index}.jpg" for index in range(21)], [True] * 21)

    assert list(groups.columns) == ["odd"]


def test_a_few_names_of_pictures_make_no_groups_and_the_report_says_so(tmp_path: Path):
    groups = group_scores(table(tmp_path), PICTURES, [True, False, True])

    assert not groups.columns
    assert "No column has 2 to 20 values" in group_tables(groups, "test")


def test_columns_are_crossed_when_asked(tmp_path: Path):
    groups = group_scores(table(tmp_path), PICTURES, [True, False, True], cross=[("camera", "age")])

    crossed = groups.columns["camera × age"]
    assert [s.name for s in crossed] == ["new × more than 70", "old × 3-9", "old × 10-19"]
    assert [(s.right, s.count) for s in crossed] == [(1, 1), (1, 1), (0, 1)]


def test_groups_are_a_record_that_json_holds(tmp_path: Path):
    groups = group_scores(table(tmp_path), PICTURES, [True, False, True], cross=[("camera", "age")])
    record = json.loads(json.dumps(groups.to_record()))

    old = record["columns"]["camera × age"]["old × 10-19"]
    assert (old["right"], old["count"], old["accuracy"]) == (0, 1, 0)
    assert old["interval"] == list(wilson(0, 1))
    assert record["overall"]["count"] == 3
    assert (record["worst"], record["least_count_of_worst"]) == (None, 30)


def test_a_row_means_the_picture_whose_path_ends_in_it(tmp_path: Path):
    groups = group_scores(table(tmp_path), [PICTURES[0], "/data/xval/cat/2.jpg"], [True, False])

    assert (groups.overall.count, groups.unlisted) == (1, 1)


@pytest.mark.parametrize("entry", ["/data/val/cat/1.jpg", "./cat/1.jpg", "1.jpg"])
def test_a_row_may_name_more_or_less_of_a_path(tmp_path: Path, entry: str):
    attributes = table(tmp_path, f"Path,age\n{entry},old\n")

    assert group_scores(attributes, [PICTURES[0]], [True]).overall.count == 1


def test_the_worst_group_has_enough_pictures_to_tell(tmp_path: Path):
    groups = many(tmp_path, {"few": (0, 29), "low": (15, 30), "high": (29, 30)})

    assert groups.worst is not None
    column, score = groups.worst
    assert (column, score.name, score.right, score.count) == ("kind", "low", 15, 30)


def test_groups_too_small_to_tell_have_no_worst(tmp_path: Path):
    assert many(tmp_path, {"a": (0, 29), "b": (29, 29)}).worst is None


def test_a_short_line_and_a_blank_line_are_read(tmp_path: Path):
    attributes = table(tmp_path, "\ufeffage,file,race\n\n3,1.jpg\n")

    assert attributes.columns == ("age", "race")
    assert attributes.rows == {"1.jpg": ("3", "")}


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("", "Save it as UTF-8"),
        ("name,age\n1.jpg,3\n", "Call it one of file, path"),
        ("file,age\n1.jpg,3\n./1.jpg,4\n", "Remove one of the lines"),
    ],
    ids=["empty", "no column of names", "one picture twice"],
)
def test_a_table_that_cannot_be_used_says_what_to_do(tmp_path: Path, text: str, remedy: str):
    with pytest.raises(DatasetError, match=remedy):
        table(tmp_path, text)


@pytest.mark.parametrize("content", [None, b"file,age\n\xff\xfe.jpg,3\n"], ids=["absent", "bytes"])
def test_a_table_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None):
    path = tmp_path / "attributes.csv"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(DatasetError, match=r"attributes\.csv cannot be read"):
        read_attributes(path)


@pytest.mark.parametrize(
    ("paths", "cross", "remedy"),
    [
        (("/data/other.jpg",), (), "Name files as their paths end"),
        ((), (), "Name files as their paths end"),
        (("/a/val/cat/1.jpg", "/b/val/cat/1.jpg"), (), "Name files by more of their path"),
        (PICTURES, (("age", "race"),), "Name some of age, camera, serial"),
    ],
    ids=["none listed", "no pictures", "one row for two", "no such column"],
)
def test_a_table_that_does_not_fit_says_what_to_do(
    tmp_path: Path, paths: tuple[str, ...], cross: tuple[tuple[str, str], ...], remedy: str
):
    with pytest.raises(DatasetError, match=remedy):
        group_scores(table(tmp_path), paths, [True] * len(paths), cross=cross)
