"""Groups: how often a network is right for each class and for each group of pictures.

A table of attributes (CSV) names pictures and says what they are: age, camera, season. It knows
nothing of networks, only which answers were right.
Axes: n pictures.
"""

import csv
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from gclf_trainer.errors import DatasetError
from gclf_trainer.scores import Score

LEAST_COUNT = 30  # pictures of a group that may be named the worst: an interval of ± 18 points
MOST_VALUES = 20  # of a column that makes groups; with more it is a name or a measurement
_FILE_COLUMNS = ("file", "path", "filename", "file_name", "filepath", "image", "picture")


@dataclass(frozen=True)
class Groups:
    """How often a network is right in each group of pictures.

    Attributes:
        source: The table's file.
        columns: Scores by column, or by two columns crossed.
        overall: Of all pictures that the table names.
        unlisted: Pictures that it does not name.
    """

    source: str
    columns: Mapping[str, tuple[Score, ...]]
    overall: Score
    unlisted: int

    @property
    def worst(self) -> tuple[str, Score] | None:
        """The column and group with the lowest accuracy among those of at least 30 pictures."""
        large = [
            (column, score)
            for column, scores in self.columns.items()
            for score in scores
            if score.count >= LEAST_COUNT
        ]
        return min(large, key=lambda item: item[1].share, default=None)

    def to_record(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        worst = self.worst
        return {
            "source": self.source,
            "unlisted": self.unlisted,
            "overall": self.overall.to_record(),
            "least_count_of_worst": LEAST_COUNT,
            "worst": worst and {"column": worst[0], "group": worst[1].name},
            "columns": {
                column: {score.name: score.to_record() for score in scores}
                for column, scores in self.columns.items()
            },
        }


@dataclass(frozen=True)
class Attributes:
    """A table of attributes.

    Attributes:
        source: Its file.
        columns: Names of all columns but the one that names the picture.
        rows: Values by picture, as the table names it, without a leading slash.
    """

    source: Path
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[str, ...]]

    def row_of(self, path: str | os.PathLike[str]) -> str | None:
        """Return the row whose name the picture's absolute path ends in, the longest first."""
        parts = PurePosixPath(os.path.abspath(path)).parts[1:]
        names = ("/".join(parts[start:]) for start in range(len(parts)))
        return next((name for name in names if name in self.rows), None)


def read_attributes(path: Path) -> Attributes:
    """Read a table of attributes: a CSV with a header, one column of which names the pictures.

    Args:
        path: That column is called file, path, filename, file_name, filepath, image or picture,
            and its entries end the paths of the pictures: `val/female/1.jpg`, or `1.jpg`.

    Raises:
        DatasetError: It cannot be read, names no pictures, or names one twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *lines = csv.reader(file)
    except (OSError, ValueError, csv.Error) as error:  # an empty file has no header to unpack
        raise DatasetError(
            f"{path} cannot be read as a CSV with a header ({error}). Save it as UTF-8, "
            "separated by commas"
        ) from error
    naming = next((i for i, n in enumerate(header) if n.strip().lower() in _FILE_COLUMNS), None)
    if naming is None:
        raise DatasetError(
            f"{path} has no column that names pictures, only {', '.join(header)}. "
            f"Call it one of {', '.join(_FILE_COLUMNS)}"
        )
    rows: dict[str, tuple[str, ...]] = {}
    for line in filter(any, lines):
        cells = [cell.strip() for cell in line[: len(header)]] + [""] * (len(header) - len(line))
        name = str(PurePosixPath(cells.pop(naming))).lstrip("/")
        if name in rows:
            raise DatasetError(f"{path} names {name} twice. Remove one of the lines")
        rows[name] = tuple(cells)
    columns = tuple(name.strip() for i, name in enumerate(header) if i != naming)
    return Attributes(path, columns, rows)


def check_cross(attributes: Attributes, cross: Sequence[tuple[str, str]]) -> None:
    """Raise a DatasetError unless all columns to be crossed are there."""
    for name in (name for pair in cross for name in pair):
        if name not in attributes.columns:
            raise DatasetError(
                f"{attributes.source} has no column {name}. Name some of "
                f"{', '.join(attributes.columns)}"
            )


def group_scores(
    attributes: Attributes,
    paths: Sequence[str | os.PathLike[str]],
    right_n: Iterable[bool],
    *,
    cross: Sequence[tuple[str, str]] = (),
) -> Groups:
    """Measure each group: every column with 2 to 20 values makes groups.

    Unless there are fewer than two pictures to a value, as of a name or a number of each.

    Args:
        attributes: Says what the pictures are.
        paths: The pictures.
        right_n: Whether each was answered rightly, in the same order.
        cross: Pairs of columns whose every pair of values makes a group, for instance age and
            race.

    Raises:
        DatasetError: The table names none of the pictures, names several by one row, or has no
            column of a name in `cross`.
    """
    check_cross(attributes, cross)
    listed = _listed(attributes, paths)
    right = [bool(is_right) for is_right in right_n]
    values = [attributes.rows[name] for _, name in listed]
    answers = [right[index] for index, _ in listed]
    columns = dict(zip(attributes.columns, zip(*values, strict=True), strict=True))
    most = min(MOST_VALUES, len(listed) // 2)
    few = {n: v for n, v in columns.items() if 2 <= len(set(v)) <= most}
    for one, other in cross:
        pairs = zip(columns[one], columns[other], strict=True)
        few[f"{one} × {other}"] = tuple(f"{_stated(a)} × {_stated(b)}" for a, b in pairs)
    return Groups(
        source=str(attributes.source),
        columns={name: _scores(column, answers) for name, column in few.items()},
        overall=Score("all", sum(answers), len(answers)),
        unlisted=len(paths) - len(listed),
    )


def _listed(
    attributes: Attributes, paths: Sequence[str | os.PathLike[str]]
) -> list[tuple[int, str]]:
    """Return index and row of the pictures that the table names."""
    found = ((index, attributes.row_of(path)) for index, path in enumerate(paths))
    listed = [(index, name) for index, name in found if name is not None]
    if not listed:
        raise DatasetError(
            f"{attributes.source} names none of the {len(paths)} pictures, for instance "
            f"{next(iter(paths), 'none')}. Name files as their paths end: val/female/1.jpg"
        )
    first: dict[str, int] = {}
    for index, name in listed:
        if first.setdefault(name, index) != index:
            raise DatasetError(
                f"{attributes.source} means both {paths[first[name]]} and {paths[index]} by "
                f"{name}. Name files by more of their path"
            )
    return listed


def _scores(values: Sequence[str], answers: Sequence[bool]) -> tuple[Score, ...]:
    counts: dict[str, list[bool]] = {}
    for value, is_right in zip(values, answers, strict=True):
        counts.setdefault(_stated(value), []).append(is_right)
    ordered = sorted(counts.items(), key=lambda item: _natural(item[0]))
    return tuple(Score(name, sum(rights), len(rights)) for name, rights in ordered)


def _stated(value: str) -> str:
    return value or "not stated"


def _natural(name: str) -> list[tuple[float, str]]:
    """Order by the first number of each part, then by name: 3-9, 10-19, more than 70."""
    numbers = ((re.search(r"\d+", part), part) for part in name.split(" × "))
    return [(int(number[0]) if number else float("inf"), part) for number, part in numbers]
