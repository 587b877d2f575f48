"""Labelled pictures in any of the shapes people keep them, as lists of files by split.

A folder of class folders, a CSV, a folder of IDX files (MNIST's format), or one of torchvision's
datasets by name. All that follows (audit, cache, export, report) needs files, so pictures that are
none are written once, losslessly, as PNG.
"""

import csv
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from gclf_trainer.errors import DatasetError
from gclf_trainer.folders import SPLITS, Folders, LabelledFiles, list_folders, with_validation
from gclf_trainer.idx import is_idx_folder, read_idx_folder

PREFIX = "torchvision:"
_SPLIT_OF = {"": "train"} | {name: split for split, names in SPLITS.items() for name in names}


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
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read ({error}). Name a CSV file") from error
    if not {"path", "label"} <= set(columns):
        got = ", ".join(columns) or "nothing"
        raise DatasetError(f"{path} has the columns {got}. It needs path,label or path,label,split")
    found = [_row(path, number, row) for number, row in rows]
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


def _row(table: Path, number: int, row: dict[str, str]) -> tuple[Path, str, str]:
    file, label, split = ((row.get(key) or "").strip() for key in ("path", "label", "split"))
    if not file or not label:
        raise DatasetError(f"{table} line {number} lacks a path or a label. Fill it or remove it")
    if split.lower() not in _SPLIT_OF:
        raise DatasetError(
            f"{table} line {number} has the split {split!r}. Write train, val or test"
        )
    return table.parent / file, label, _SPLIT_OF[split.lower()]


def _listed(pairs: Iterable[tuple[Path, int]]) -> LabelledFiles:
    paths, labels = tuple(zip(*pairs, strict=True)) or ((), ())
    return LabelledFiles(paths, labels)


def _renamed(folders: Folders, mapping: Path) -> Folders:
    """Give classes the names of a JSON object; entries for other classes are ignored."""
    try:
        record: object = json.loads(mapping.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{mapping} cannot be read as JSON ({error}). Mend it") from error
    if not isinstance(record, dict):
        raise DatasetError(f'{mapping} is no JSON object. Write {{"class": "name", ...}}')
    entries = cast(dict[str, Any], record)
    absent = [name for name in folders.label_names if not _is_name(entries.get(name))]
    if absent:
        raise DatasetError(
            f"{mapping} names no class {', '.join(absent[:5])}. Add an entry of text"
        )
    names = tuple(str(entries[name]) for name in folders.label_names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DatasetError(f"{mapping} gives several classes the name {', '.join(twice)}")
    return replace(folders, label_names=names)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)
