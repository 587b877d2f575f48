"""The pictures in a column of a Parquet file, read with pyarrow, a few rows at a time."""

from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from typing import BinaryIO, Protocol, cast

from gclf_runtime.errors import ImageError, SourceError
from gclf_runtime.formats import DECODED, HEAD_BYTES, sniff
from gclf_runtime.images import MAX_FILE_BYTES
from gclf_runtime.items import Item, below, say, too_large

_ROWS_PER_READ = 8
_BUFFER_BYTES = 1 << 20
_BINARY = {"binary", "large_binary", "binary_view"}
_PICTURE_NAMES = {"image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp"}
_PATH_NAMES = ("file_name", "filename", "image_path", "path", "file")


class _Column(Protocol):
    """A field of a pyarrow schema, as far as it is used."""

    name: str
    type: Iterable["_Column"]


class _Batch(Protocol):
    def to_pylist(self) -> list[dict[str, object]]: ...


class _Table(Protocol):
    schema_arrow: Sequence[_Column]

    def iter_batches(self, *, batch_size: int, columns: list[str]) -> Iterator[_Batch]: ...


def read_rows(file: BinaryIO, name: str, image_column: str | None = None) -> Iterator[Item]:
    """Read the rows of a Parquet file whose pictures are bytes, or a struct with `bytes`.

    A struct's `path`, or else a column with a name like file_name, names the picture below the
    table: `Item.relative`.

    Args:
        file: The Parquet file, which can be sought in.
        name: Its name, for the rows.
        image_column: The column that holds the pictures; None takes the only one that can, or
            the only one of these that is named like one (image, img, jpg, png and so on).

    Yields:
        One input per row, called NAME:ROW from 0; a row without a picture holds an error.

    Raises:
        SourceError: pyarrow is not installed, it is no Parquet file, it is damaged, or it has no
            such column.
    """
    table = _open(file, name)
    try:
        column, path_column = _choose(table.schema_arrow, name, image_column)
        columns = [column] if path_column is None else [column, path_column]
        row = 0
        for batch in table.iter_batches(batch_size=_ROWS_PER_READ, columns=columns):
            for values in batch.to_pylist():
                yield _item(f"{name}:{row}", row, values[column], values.get(path_column or ""))
                row += 1
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(
            f"{name} is damaged ({say(error)}): the rows that follow are lost. Copy it again"
        ) from error


def _open(file: BinaryIO, name: str) -> _Table:
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError as error:
        raise SourceError(
            f"{name} needs pyarrow. Install it: pip install 'gclf-runtime[parquet]'"
        ) from error
    try:
        # By pages: by default a row group, which may be the whole file, is held at once.
        table = parquet.ParquetFile(
            file, pre_buffer=False, buffer_size=_BUFFER_BYTES, page_checksum_verification=True
        )
    except Exception as error:
        raise SourceError(
            f"{name} is not a whole Parquet file ({say(error)}). Copy it again"
        ) from error
    return cast(_Table, table)


def _choose(columns: Sequence[_Column], name: str, asked: str | None) -> tuple[str, str | None]:
    """Return the column of the pictures, and the one of their names if there is one."""
    named = {column.name: column for column in columns}
    able = [column.name for column in columns if _holds_bytes(column)]
    likely = [column for column in able if column.lower() in _PICTURE_NAMES]
    found = [asked] if asked in able else [] if asked else able if len(able) == 1 else likely
    if len(found) != 1:
        listed = ", ".join(f"{column.name} ({column.type})" for column in columns)
        wanted = f"{asked!r} is no column of pictures" if asked else "no single column of pictures"
        raise SourceError(
            f"{name}: {wanted} among {listed}. Name one that holds bytes with --image-column"
        )
    paths = [path for path in _PATH_NAMES if path in named and str(named[path].type) == "string"]
    return found[0], paths[0] if paths else None


def _holds_bytes(column: _Column) -> bool:
    kind = str(column.type)
    if kind.startswith("struct<"):
        return any(field.name == "bytes" and str(field.type) in _BINARY for field in column.type)
    return kind in _BINARY


def _item(name: str, row: int, value: object, path: object) -> Item:
    if isinstance(value, dict):
        fields = cast(dict[str, object], value)
        value, path = fields.get("bytes"), fields.get("path") or path
    relative = below(path) if isinstance(path, str) else ""
    if not isinstance(value, bytes):
        error = ImageError("missing", "its row holds no picture. Fill it or leave it out")
        return Item(name, error, relative or str(row))
    if len(value) > MAX_FILE_BYTES:
        return Item(name, too_large(f"{len(value)} bytes", MAX_FILE_BYTES), relative or str(row))
    format = sniff(value[:HEAD_BYTES])
    suffix = f".{format.lower()}" if format in DECODED else ""
    return Item(name, value, relative or f"{row}{suffix}")
