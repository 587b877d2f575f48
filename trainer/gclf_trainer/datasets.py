"""Labelled pictures in any of the shapes people keep them, as lists of files by split.

A folder of class folders, a CSV, a folder of IDX files (MNIST's format), or one of torchvision's
datasets by name. All that follows (audit, cache, export, report) needs files, so pictures that are
none are written once, losslessly, as PNG.
"""

import csv
import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from gclf_trainer.errors import DatasetError
from gclf_trainer.folders import (
    SPLIT_OF,
    SPLITS,
    Folders,
    LabelledFiles,
    list_folders,
    with_validation,
)
from gclf_trainer.idx import is_idx_folder, read_idx_folder

PREFIX = "torchvision:"
_COLUMNS = ("path", "label", "split")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where labelled pictures are.

    Attributes:
        path: A folder of class folders or of splits, a .csv, a folder of IDX files, or, with
            `dataset`, the folder where torchvision keeps its datasets.
        dataset: torchvision:NAME, or "" for what is at `path`.
        download: Whether torchvision may download it.
        class_names: A JSON object of class (as found) to the name it shall have; None keeps them.
    """

    path: Path
    dataset: str = ""
    download: bool = False
    class_names: Path | None = None


def read_source(
    source: Source,
    *,
    val_split: float,
    seed: int,
    keep: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Folders:
    """List labelled pictures.

    Args:
        source: Where they are.
        val_split: Fraction of each class (0-1, exclusive) held out when no split says so.
        seed: Chooses which files are held out.
        keep: Folder to write pictures to that are no files; they stay there for the export.
        on_progress: Called with (done, in all) while such pictures are written.

    Raises:
        DatasetError: They cannot be trained on; the message names what is missing.
    """
    path = source.path
    if source.dataset:
        from gclf_trainer.published import read_published  # torchvision takes seconds

        found = read_published(
            source.dataset, path, keep, download=source.download, on_progress=on_progress
        )
    elif path.suffix.lower() == ".csv":
        found = read_table(path)
    elif is_idx_folder(path):
        found = read_idx_folder(path, keep, on_progress=on_progress)
    else:
        found = list_folders(path)
    found = with_validation(path, found, val_split=val_split, seed=seed)
    return _renamed(found, source.class_names) if source.class_names else found


def check_dataset(name: str) -> None:
    """Raise a ValueError unless a dataset's name has the form torchvision:NAME."""
    if not name.removeprefix(PREFIX) or not name.startswith(PREFIX):
        raise ValueError(f"{name} is no {PREFIX}NAME. Try {PREFIX}FashionMNIST")


def read_table(path: Path) -> Folders:
    """List the pictures of a CSV with the columns path, label and, if there is one, split.

    Paths are relative to the CSV. A split is train (also where it is blank), val or test.

    Raises:
        DatasetError: It cannot be read, lacks a column, or a row makes no sense.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            found = [_row(path, number, row) for number, row in _rows(path, file)]
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error}). Name a CSV file") from error
    _refuse_absent(path, [file for file, _, _ in found])
    names = tuple(sorted({label for _, label, split in found if split == "train"}))
    unknown = sorted({label for _, label, _ in found} - set(names))
    if unknown:
        raise DatasetError(
            f"{path} has classes without a training picture: {', '.join(unknown)}. "
            "Add training rows or remove theirs"
        )
    numbers = {name: number for number, name in enumerate(names)}
    splits = (
        _listed((file, numbers[label]) for file, label, split in found if split == wanted)
        for wanted in SPLITS
    )
    return Folders(names, *splits)


def _rows(table: Path, file: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Read the rows, each with the number of its line."""
    reader = csv.reader(file)
    number = 1
    try:
        columns = _columns(table, next(reader, []))
        number = reader.line_num + 1
        for cells in reader:
            if any("\n" in cell or "\r" in cell for cell in cells):
                raise csv.Error("a cell goes over several lines")
            if cells:
                yield number, dict(zip(columns, cells, strict=False))
            number = reader.line_num + 1
    except csv.Error as error:
        raise DatasetError(
            f"{table} makes no sense from line {number} on ({error}). Look for a stray quote there"
        ) from error


def _columns(table: Path, header: Sequence[str]) -> list[str]:
    columns = [name.strip().lower() for name in header]
    got = ", ".join(columns)
    if not _is_text(got):
        raise _not_utf8(table)
    if not {"path", "label"} <= set(columns):
        raise DatasetError(
            f"{table} has the columns {got or 'nothing'}. It needs path,label or path,label,split"
        )
    if twice := [name for name in _COLUMNS if columns.count(name) > 1]:
        raise DatasetError(f"{table} has the column {twice[0]} twice. Remove or rename one")
    return columns


def _row(table: Path, number: int, row: dict[str, str]) -> tuple[Path, str, str]:
    name, label, split = (row.get(key, "").strip() for key in _COLUMNS)
    file = table.parent / name
    if not name or not label:
        raise DatasetError(f"{table} line {number} lacks a path or a label. Fill it or remove it")
    # A file's name need not be UTF-8, on the disk and here alike.
    if not _is_text(label) or not (_is_text(name) or file.exists()):
        raise _not_utf8(table, f" line {number}")
    if split and split.lower() not in SPLIT_OF:
        raise DatasetError(
            f"{table} line {number} has the split {split!r}. Write train, val or test"
        )
    return file, label, SPLIT_OF[split.lower() or "train"]


def _is_text(name: str) -> bool:
    """Say whether a name is free of control characters, line ends and what is not Unicode."""
    return not any(unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"} for letter in name)


def _not_utf8(table: Path, where: str = "") -> DatasetError:
    return DatasetError(f"{table}{where} is no UTF-8 text. Save the table as UTF-8")


def _refuse_absent(table: Path, files: Sequence[Path]) -> None:
    if not files:
        raise DatasetError(f"{table} has no rows. Add one of path,label for each picture")
    if not any(file.exists() for file in files):
        raise DatasetError(
            f"{table} names no file that is there: the first is {files[0]}. "
            f"Write paths relative to {table.parent}, or whole ones"
        )


def _listed(pairs: Iterable[tuple[Path, int]]) -> LabelledFiles:
    paths, labels = tuple(zip(*pairs, strict=True)) or ((), ())
    return LabelledFiles(paths, labels)


def _renamed(folders: Folders, mapping: Path) -> Folders:
    """Give classes the names of a JSON object; entries for other classes are ignored."""
    try:
        text = mapping.read_text(encoding="utf-8-sig")
        record: object = json.loads(text, object_pairs_hook=_without_doubles)
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{mapping} cannot be read as JSON ({error}). Mend it") from error
    if not isinstance(record, dict):
        raise DatasetError(f'{mapping} is no JSON object. Write {{"class": "name", ...}}')
    entries = cast(dict[str, Any], record)
    absent = [name for name in folders.label_names if not _is_name(entries.get(name))]
    if absent:
        raise DatasetError(
            f"{mapping} names no class {', '.join(absent[:5])}. Add an entry of printable text"
        )
    names = tuple(str(entries[name]) for name in folders.label_names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DatasetError(f"{mapping} gives several classes the name {', '.join(twice)}")
    return replace(folders, label_names=names)


def _without_doubles(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return record


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and _is_text(value)
