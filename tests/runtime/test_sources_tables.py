import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from gclf_runtime import ImageError, SourceError
from gclf_runtime.sources import Item, Skipped, open_sources, tables

PNG = b"\x89PNG\r\n\x1a\n"


def table(path: Path, columns: dict[str, list[Any]], **options: object) -> Path:
    arrow: Any = pytest.importorskip("pyarrow")
    parquet: Any = import_module("pyarrow.parquet")
    parquet.write_table(arrow.table(columns), path, **options)
    return path


def read(path: Path, image_column: str | None = None) -> list[Item]:
    return list(open_sources([str(path)], Skipped(), image_column=image_column))


def test_rows_of_pictures_as_hugging_face_stores_them(tmp_path: Path):
    images = [{"bytes": PNG, "path": "dog/1.png"}, {"bytes": b"text", "path": None}, None]
    path = table(tmp_path / "x.parquet", {"image": images, "label": [0, 1, 0]})

    first, second, third = read(path)

    assert first == Item(f"{path}:0", PNG, "dog/1.png")
    assert second == Item(f"{path}:1", b"text", "1")
    assert (third.name, third.relative) == (f"{path}:2", "2")
    assert isinstance(third.data, ImageError)
    assert third.data.kind == "missing"


def test_rows_of_bytes_are_named_by_a_column_of_names(tmp_path: Path):
    names = ["../a.png", None, "c.png"]
    path = table(tmp_path / "x.parquet", {"data": [PNG, PNG, None], "file_name": names})

    found = read(path)

    assert [item.relative for item in found] == ["a.png", "1.png", "c.png"]
    assert [isinstance(item.data, ImageError) for item in found] == [False, False, True]


@pytest.mark.parametrize("rows", [0, 1, 32, 33, 1000])
def test_any_number_of_rows_comes_in_order(tmp_path: Path, rows: int):
    pictures = [PNG + bytes([n % 256]) for n in range(rows)]
    arrow: Any = pytest.importorskip("pyarrow")
    column = arrow.array(pictures, arrow.binary())
    path = table(tmp_path / "x.parquet", {"image": column}, row_group_size=100)

    found = read(path)

    assert [item.data for item in found] == pictures
    assert [item.name for item in found] == [f"{path}:{row}" for row in range(rows)]


@pytest.mark.parametrize(
    ("columns", "asked", "expected"),
    [
        ({"a": [b"1"]}, None, b"1"),
        ({"image": [b"1"], "mask": [b"2"]}, None, b"1"),
        ({"image": [b"1"], "mask": [b"2"]}, "mask", b"2"),
        ({"image": ["a.png"], "thumbnail": [b"2"]}, None, b"2"),
        ({"a:b.c": [b"1"], "text": ["x"]}, None, b"1"),
    ],
    ids=["the only one", "by its name", "asked for", "the only bytes", "odd name"],
)
def test_the_column_of_pictures_is_found(
    tmp_path: Path, columns: dict[str, list[Any]], asked: str | None, expected: bytes
):
    path = table(tmp_path / "x.parquet", columns)

    assert [item.data for item in read(path, asked)] == [expected]


@pytest.mark.parametrize(
    ("columns", "asked"),
    [
        ({"a": [b"1"], "b": [b"2"]}, None),
        ({"image": [b"1"], "jpg": [b"2"]}, None),
        ({"image": ["a.png"]}, None),
        ({"image": ["a.png"]}, "image"),
        ({"image": [b"1"]}, "picture"),
        ({"image": [{"path": "a.png"}]}, None),
    ],
    ids=["two", "two by name", "no bytes", "asked for text", "asked for none", "struct of paths"],
)
def test_columns_that_leave_a_doubt_are_listed(
    tmp_path: Path, columns: dict[str, list[Any]], asked: str | None
):
    path = table(tmp_path / "x.parquet", columns)

    with pytest.raises(SourceError, match=r"among (a|image) \(.*--image-column"):
        read(path, asked)


def test_a_picture_past_the_limit_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tables, "MAX_FILE_BYTES", 10)
    path = table(tmp_path / "x.parquet", {"image": [bytes(11), bytes(10)]})

    first, second = read(path)

    assert isinstance(first.data, ImageError)
    assert first.data.kind == "too_large"
    assert second.data == bytes(10)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"text" * 100])
def test_what_is_no_table_is_an_error(tmp_path: Path, content: bytes):
    pytest.importorskip("pyarrow")
    (tmp_path / "x.parquet").write_bytes(content)

    with pytest.raises(SourceError, match="Copy it again"):
        read(tmp_path / "x.parquet")


def test_a_table_that_is_damaged_yields_its_rows_and_then_an_error(tmp_path: Path):
    path = table(
        tmp_path / "x.parquet",
        {"image": [bytes([n]) * 1000 for n in range(200)]},
        row_group_size=100,
        compression="gzip",
        use_dictionary=False,
    )
    data, gzip_head = path.read_bytes(), b"\x1f\x8b\x08"
    place = data.index(gzip_head, data.index(gzip_head) + 1)
    path.write_bytes(data[:place] + bytes(50) + data[place + 50 :])
    found: list[Item] = []

    with pytest.raises(SourceError, match="is damaged"):
        found.extend(open_sources([str(path)], Skipped()))

    assert 0 < len(found) <= 100


def test_without_pyarrow_the_error_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = table(tmp_path / "x.parquet", {"image": [PNG]})
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)

    with pytest.raises(SourceError, match=r"pip install 'gclf-runtime\[parquet\]'"):
        read(path)
