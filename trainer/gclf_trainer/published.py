"""torchvision's datasets by name."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from PIL import Image
from torchvision import datasets  # pyright: ignore[reportMissingTypeStubs]

from gclf_trainer.datasets import PREFIX
from gclf_trainer.errors import DatasetError
from gclf_trainer.folders import SPLITS, Folders, LabelledFiles
from gclf_trainer.picture_files import Progress, write_pictures

_NONE = LabelledFiles((), ())


def read_published(
    name: str,
    data_dir: Path,
    keep: Path,
    *,
    download: bool,
    on_progress: Progress = lambda done, total: None,
) -> Folders:
    """List the pictures of one of torchvision's classification datasets.

    Those it keeps as files are taken as they are; others are written as PNG.

    Args:
        name: torchvision:NAME, for instance torchvision:FashionMNIST, or torchvision:NAME/SPLIT
            for one that comes in several editions (torchvision:EMNIST/letters).
        data_dir: Where torchvision keeps its datasets.
        keep: Pictures that are no files are written below it.
        download: Whether it may download it to `data_dir`.
        on_progress: Called with (done, in all) while pictures are written.

    Raises:
        DatasetError: There is no such dataset, it is not there, or it is not for classification.
    """
    short, _, edition = name.removeprefix(PREFIX).partition("/")
    builder: Any = getattr(datasets, short, None)
    if short not in datasets.__all__ or "root" not in inspect.signature(builder).parameters:
        raise DatasetError(f"torchvision has no dataset {short!r}. Try {PREFIX}FashionMNIST")
    _refuse_incomplete(name, builder, edition)
    splits: dict[str, LabelledFiles] = {}
    classes: Sequence[str] = ()
    for split, options in _splits(builder, edition).items():
        opened = _open(name, builder, data_dir, options, download=download, split=split)
        if opened is None:
            continue
        classes = cast(Sequence[str], getattr(opened, "classes", classes))
        stem = f"{short}-{split}"
        splits[split] = _list(stem, opened, keep, on_progress)
    held = sorted({label for files in splits.values() for label in files.labels})
    names = tuple(map(str, classes or range(held[-1] + 1)))
    if held[0] < 0 or held[-1] >= len(names):
        raise _unfit(name, f"labels go from {held[0]} to {held[-1]}")
    # EMNIST/letters lists a class 0, N/A, that has no pictures.
    numbers = {label: number for number, label in enumerate(held)}
    listed = (splits.get(split, _NONE) for split in SPLITS)
    renumbered = (
        LabelledFiles(files.paths, tuple(numbers[label] for label in files.labels))
        for files in listed
    )
    return Folders(tuple(names[label] for label in held), *renumbered)


def _refuse_incomplete(name: str, builder: Any, edition: str) -> None:
    """Refuse a dataset that a name alone does not open."""
    needed = [
        parameter.name
        for parameter in inspect.signature(builder).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    ]
    if "split" in needed and not edition:
        raise DatasetError(
            f"{name} comes in editions. Name one, as in {PREFIX}EMNIST/letters (or balanced, "
            "byclass, bymerge, digits, mnist)"
        )
    if others := [name for name in needed if name not in {"root", "loader", "split"}]:
        raise _unfit(name, f"it needs {', '.join(others)}")


def _splits(builder: Any, edition: str) -> dict[str, dict[str, Any]]:
    """Return the options that open each split.

    To train, it is the split of that name, if there is one; what a builder opens by itself may be
    all there is (LFWPeople's 10fold), its test pictures too.
    """
    parameters = inspect.signature(builder).parameters
    fixed = {"split": edition} if edition else {}
    # MNIST's relatives take `train` among their **kwargs.
    if "train" in parameters or issubclass(builder, datasets.MNIST):
        return {"train": fixed | {"train": True}, "test": fixed | {"train": False}}
    if "split" not in parameters or edition:
        return {"train": fixed}
    val = "valid" if builder is datasets.Country211 else "val"
    return {"train": {"split": "train"}, "val": {"split": val}, "test": {"split": "test"}}


def _open(
    name: str, builder: Any, data_dir: Path, options: dict[str, Any], *, download: bool, split: str
) -> Any:
    """Open a split; None when the dataset has no such one."""
    parameters = inspect.signature(builder).parameters
    options = dict(options)
    if "loader" in parameters:  # then it need not decode: we want the file
        options["loader"] = Path
    if download and ("download" in parameters or issubclass(builder, datasets.MNIST)):
        options["download"] = True
    try:
        try:
            return builder(data_dir, **options)
        except ValueError:
            if options.pop("split", "") != "train":
                raise
            return builder(data_dir, **options)  # OxfordIIITPet's trainval, Places365's own
    except ModuleNotFoundError as error:
        raise DatasetError(
            f"{name} needs {error.name}. Install it: pip install {error.name}"
        ) from error
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        if isinstance(error, ValueError) and split != "train":
            return None
        raise DatasetError(
            f"{name} cannot be opened in {data_dir} ({' '.join(str(error).split())[:200]}). "
            "Name its folder with --data-dir, or let torchvision fetch it: --download"
        ) from error


def _list(stem: str, opened: Any, keep: Path, on_progress: Progress) -> LabelledFiles:
    """List a split; its pictures are written as files unless all of them are."""
    labels: list[int] = []
    paths: list[Path] = []
    for index in range(len(opened)):
        item, label = _item(stem, opened, index)
        labels.append(label)
        if isinstance(item, Path):
            paths.append(item)
        elif not isinstance(item, Image.Image):
            raise _unfit(stem, f"an item is a {type(item).__name__}")
    if len(paths) == len(labels):
        return LabelledFiles(tuple(paths), tuple(labels))

    def picture(index: int) -> Image.Image:
        return opened[index][0]

    written = write_pictures(stem, len(labels), picture, keep, on_progress=on_progress)
    return LabelledFiles(written, tuple(labels))


def _item(stem: str, opened: Any, index: int) -> tuple[Path | Image.Image | object, int]:
    """Return one picture, as a file if it lies in one, and its label."""
    if isinstance(opened, datasets.OxfordIIITPet):  # it takes no loader, but knows its files
        return opened._images[index], opened._labels[index]  # pyright: ignore[reportPrivateUsage]
    try:
        item, label = opened[index]
        number = int(label)
    except (TypeError, ValueError) as error:
        raise _unfit(stem, "an item is no picture with one class") from error
    # An image that is not decoded yet still knows where it came from.
    filename = getattr(item, "filename", "")
    return (Path(filename) if filename else item), number


def _unfit(name: str, reason: str) -> DatasetError:
    return DatasetError(
        f"{name} is no dataset for classification by its name: {reason}. Try {PREFIX}FashionMNIST"
    )
