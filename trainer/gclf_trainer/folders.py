"""A folder of labelled pictures to lists of files: which classes, which split.

It knows nothing of tables or of datasets of other packages; `gclf_trainer.datasets` does.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gclf_runtime.sources import find_images
from gclf_trainer.errors import DatasetError

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""The names that a split may go by."""

SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}


@dataclass(frozen=True)
class LabelledFiles:
    """Files and the index of each one's class."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Folders:
    """Labelled pictures in their splits; `test` is empty when there is none."""

    label_names: tuple[str, ...]
    train: LabelledFiles
    val: LabelledFiles
    test: LabelledFiles


def read_folders(root: Path, *, val_split: float, seed: int) -> Folders:
    """List a folder of labelled pictures.

    Args:
        root: It holds one folder per class, or `train/`, and with it `val/` and `test/` or not,
            which hold the class folders. Classes are matched across splits by name.
        val_split: Fraction of each class (0-1, exclusive) held out when there is no `val/`.
        seed: Chooses which files are held out.

    Raises:
        DatasetError: Not such a folder; the message names what is missing.
    """
    return with_validation(root, list_folders(root), val_split=val_split, seed=seed)


def list_folders(root: Path) -> Folders:
    """List a folder of labelled pictures as it is: `val` is empty where there is no `val/`."""
    if root.exists() and not root.is_dir():
        raise DatasetError(
            f"{root} is neither a folder nor a .csv. Name a folder that holds a folder per class, "
            "or a .csv with the columns path,label"
        )
    if not root.is_dir():
        raise DatasetError(f"no folder at {root}. Name one that holds a folder per class")
    folders = _class_folders(root)
    splits = _split_folders(root, folders)
    if not splits:
        names = tuple(folders)
        none = LabelledFiles((), ())
        return Folders(names, _list(folders, names), none, none)
    classes = _class_folders(splits["train"])
    label_names = tuple(classes)
    val, test = (_other_split(splits.get(split), label_names) for split in ("val", "test"))
    return Folders(label_names, _list(classes, label_names), val, test)


def with_validation(root: Path, folders: Folders, *, val_split: float, seed: int) -> Folders:
    """Hold out validation pictures where there are none.

    Args:
        root: Where the pictures come from, for messages.
        folders: With or without validation pictures.
        val_split: Fraction of each class (0-1, exclusive) to hold out.
        seed: Chooses which.

    Raises:
        DatasetError: Fewer than two classes, or one without a picture to train or validate on.
    """
    _refuse_empty(root, folders.label_names, folders.train)
    if folders.val.paths:
        return folders
    train, val = _split(folders, val_split, seed)
    return replace(folders, train=train, val=val)


def _split_folders(root: Path, folders: Mapping[str, Path]) -> dict[str, Path]:
    """Find the folder of each split; none at all where these are the folders of classes.

    A split is told by its name, in any case, and by the class folders that it holds.
    """
    named = {name: SPLIT_OF[name.lower()] for name in folders if name.lower() in SPLIT_OF}
    holding = {name: split for name, split in named.items() if any(_subfolders(folders[name]))}
    if "train" not in holding.values():
        if holding or (folders and len(named) == len(folders)):
            raise DatasetError(
                f"{root} holds {', '.join(holding or named)}, and no train/ with a folder per "
                "class. Put the folders of the training pictures into train/"
            )
        return {}
    ignored = [name for name in folders if name not in holding and _holds_picture(folders[name])]
    if ignored:
        raise DatasetError(
            f"{root} holds splits, and pictures in {', '.join(ignored[:5])}, which are in none. A "
            "split is a folder train, val or test with a folder per class: rename or move the rest"
        )
    if len(set(holding.values())) < len(holding):
        raise DatasetError(
            f"{root} holds a split under two names: {', '.join(holding)}. Keep or merge one"
        )
    return {split: folders[name] for name, split in holding.items()}


def _holds_picture(folder: Path) -> bool:
    return next(find_images(folder), None) is not None


def _subfolders(folder: Path) -> Iterator[Path]:
    try:
        paths = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise DatasetError(
            f"{folder} cannot be listed ({error.strerror}). Check its rights"
        ) from error
    yield from (path for path in paths if path.is_dir() and not path.name.startswith("."))


def _class_folders(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in _subfolders(folder)}


def _list(classes: Mapping[str, Path], label_names: tuple[str, ...]) -> LabelledFiles:
    numbers = {name: number for number, name in enumerate(label_names)}
    found = [
        (path, numbers[name]) for name, folder in classes.items() for path in find_images(folder)
    ]
    return LabelledFiles(tuple(path for path, _ in found), tuple(label for _, label in found))


def _other_split(folder: Path | None, label_names: tuple[str, ...]) -> LabelledFiles:
    return LabelledFiles((), ()) if folder is None else read_labelled(folder, label_names)


def read_labelled(folder: Path, label_names: tuple[str, ...]) -> LabelledFiles:
    """List a folder of class folders whose classes are known already, matched by name.

    Raises:
        DatasetError: No such folder, or it holds a class that is not among `label_names`.
    """
    if not folder.is_dir():
        raise DatasetError(f"no folder at {folder}. Name one that holds a folder per class")
    classes = _class_folders(folder)
    unknown = sorted(set(classes) - set(label_names))
    if unknown:
        raise DatasetError(
            f"{folder} has classes that training lacks: {', '.join(unknown)}. "
            "Classes are matched by folder name: rename or remove them"
        )
    return _list(classes, label_names)


def _refuse_empty(root: Path, label_names: tuple[str, ...], train: LabelledFiles) -> None:
    if len(label_names) < 2:
        raise DatasetError(
            f"{root} holds {len(label_names)} classes, a classifier needs at least 2. "
            "Put the pictures of each class into a folder named after it"
        )
    held = set(train.labels)
    empty = [name for label, name in enumerate(label_names) if label not in held]
    if empty:
        raise DatasetError(
            f"{root} has classes without a training picture: {', '.join(empty)}. "
            "Add pictures or remove the class"
        )


def _split(folders: Folders, fraction: float, seed: int) -> tuple[LabelledFiles, LabelledFiles]:
    """Hold out the same fraction of each class, at least one picture and not the last one."""
    files = folders.train
    if not 0 < fraction < 1:
        raise ValueError(f"val_split must be between 0 and 1, got {fraction}")
    generator = np.random.default_rng(seed)
    labels_n = np.asarray(files.labels)
    held_out = np.zeros(len(labels_n), bool)
    for label in np.unique(labels_n):
        members = np.flatnonzero(labels_n == label)
        if len(members) < 2:
            raise DatasetError(
                f"{folders.label_names[label]} holds one picture: none is left to validate on. "
                "Add pictures, or bring a val/ folder"
            )
        count = min(len(members) - 1, max(1, round(fraction * len(members))))
        held_out[generator.permutation(members)[:count]] = True
    return _take(files, np.flatnonzero(~held_out)), _take(files, np.flatnonzero(held_out))


def _take(
    files: LabelledFiles, indices: np.ndarray[tuple[int], np.dtype[np.intp]]
) -> LabelledFiles:
    return LabelledFiles(
        tuple(files.paths[i] for i in indices), tuple(files.labels[i] for i in indices)
    )
