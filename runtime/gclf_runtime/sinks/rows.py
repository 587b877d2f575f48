r"""What a row looks like: one per input, as CSV, JSON lines or Parquet.

Every row has the same columns, in this order:

    path         the input's name, as given or found
    label        the most probable class; "unknown" below `--abstain`
    probability  of the most probable class, 0-1
    error        why there is no answer, in one word (see `gclf_runtime.errors`)
    message      the same for a reader, with the remedy
    p:CLASS      probability of each class, in the model's order
    label_1, probability_1, ...   in their place, the best classes, with `--probabilities top`
    z:CLASS      with `--logits`: what the model computed before temperature and softmax

JSON has objects `probabilities` and `logits` in place of the last. An input that could not be
read has `error` and `message` and nothing else. Numbers are rounded to six decimals. Bytes of a
name that are not UTF-8 are kept: as they are in CSV, as lone surrogates (Python's surrogateescape)
in JSON, written out as \udcXX in Parquet.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, Protocol, TypeAlias, cast

from gclf_runtime.errors import OutputError
from gclf_runtime.results import FileResult, Prediction

RowFormat: TypeAlias = Literal["csv", "jsonl", "parquet"]
UNKNOWN = "unknown"
_DECIMALS = 6
_FIXED = ("path", "label", "probability", "error", "message")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What a row says of an answer.

    Attributes:
        label_names: Class names, in the model's order.
        top_k: Only so many of the best classes; every class when None.
        logits: Whether the logits are given too.
        abstain: Below this probability (0-1) the label is "unknown".
    """

    label_names: tuple[str, ...]
    top_k: int | None = None
    logits: bool = False
    abstain: float = 0.0

    def names(self) -> dict[str, Literal["text", "number"]]:
        """Name the columns of a table in order, with what they hold."""
        names: dict[str, Literal["text", "number"]] = dict.fromkeys(_FIXED, "text")
        names["probability"] = "number"
        if self.top_k is None:
            names |= dict.fromkeys((f"p:{name}" for name in self.label_names), "number")
        else:
            for n in range(1, min(self.top_k, len(self.label_names)) + 1):
                names |= {f"label_{n}": "text", f"probability_{n}": "number"}
        if self.logits:
            names |= dict.fromkeys((f"z:{name}" for name in self.label_names), "number")
        return names

    def label(self, prediction: Prediction) -> str:
        """Return the label of a row: the best class, or "unknown"."""
        return UNKNOWN if prediction.probability < self.abstain else prediction.label


class Row(NamedTuple):
    """What is read back of a row: where it ends in its file, in bytes, and what it says."""

    end: int
    path: str
    label: str
    probability: float
    error: str
    message: str


class RowCodec(Protocol):
    """A form of rows that can be appended to, and read back."""

    def header(self) -> bytes:
        """Return what stands before the first row."""
        ...

    def encode(self, result: FileResult) -> bytes:
        """Return one row."""
        ...

    def decode(self, file: BinaryIO) -> Iterator[Row]:
        """Read the rows of a file up to the first that is incomplete."""
        ...


class CsvCodec:
    """Rows as comma-separated values, with a header."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._buffer = io.StringIO(newline="")
        self._writer = csv.writer(self._buffer, lineterminator="\n")
        self._quoting = csv.writer(self._buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)
        self._names = list(columns.names())
        self._blanks = [""] * (len(self._names) - len(_FIXED))

    def header(self) -> bytes:
        """Return the line of column names."""
        return self._line(self._names)

    def encode(self, result: FileResult) -> bytes:
        """Return one row."""
        answer, error = result.prediction, result.error
        if answer is None:
            reason = [error.kind, error.reason] if error else ["", ""]
            return self._line([result.path, "", "", *reason, *self._blanks])
        best = f"{answer.probability:.6f}"
        values = [result.path, self._columns.label(answer), best, "", ""]
        if self._columns.top_k is None:
            values += [f"{p:.6f}" for p in answer.probabilities_k.tolist()]
        else:
            for name, p in answer.top(self._columns.top_k):
                values += [name, f"{p:.6f}"]
        if self._columns.logits:
            values += [f"{z:.6f}" for z in answer.logits_k.tolist()]
        return self._line(values)

    def decode(self, file: BinaryIO) -> Iterator[Row]:
        """Read the rows of a file up to the first that is incomplete."""
        end = 0

        def lines() -> Iterator[str]:
            nonlocal end
            for line in file:
                if not line.endswith(b"\n"):
                    return
                end += len(line)
                yield line.decode("utf-8", "surrogateescape")

        try:
            for number, values in enumerate(csv.reader(lines(), strict=True)):
                if number:
                    path, label, probability, error, message = values[:5]
                    yield Row(end, path, label, float(probability or 0), error, message)
        except (csv.Error, ValueError):  # a quoted name that was cut, or no row of ours
            return

    def _line(self, values: list[str]) -> bytes:
        # The csv module quotes a line feed in a name, but a carriage return only if told to.
        has_return = any("\r" in value for value in values)
        (self._quoting if has_return else self._writer).writerow(values)
        text = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return text.encode("utf-8", "surrogateescape")


class JsonLinesCodec:
    """Rows as one JSON object per line."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._shown = columns.top_k or len(columns.label_names)

    def header(self) -> bytes:
        """Return nothing: each row names its own columns."""
        return b""

    def encode(self, result: FileResult) -> bytes:
        """Return one row."""
        columns, answer, error = self._columns, result.prediction, result.error
        record: dict[str, Any] = {
            "path": result.path,
            "label": answer and columns.label(answer),
            "probability": answer and round(answer.probability, _DECIMALS),
            "error": error and error.kind,
            "message": error and error.reason,
            "probabilities": answer and _rounded(answer.top(self._shown)),
        }
        if columns.logits:
            pairs = answer and zip(answer.label_names, answer.logits_k.tolist(), strict=True)
            record["logits"] = pairs and _rounded(list(pairs))
        return json.dumps(record).encode("ascii") + b"\n"

    def decode(self, file: BinaryIO) -> Iterator[Row]:
        """Read the rows of a file up to the first that is incomplete."""
        end = 0
        for line in file:
            try:
                record: Any = json.loads(line)
                if not line.endswith(b"\n"):
                    return
                values = [record[name] or "" for name in ("path", "label", "error", "message")]
                probability = float(record["probability"] or 0)
            except (ValueError, TypeError, KeyError):
                return
            end += len(line)
            path, label, error, message = cast(list[str], values)
            yield Row(end, path, label, probability, error, message)


def _rounded(pairs: list[tuple[str, float]]) -> dict[str, float]:
    return {name: round(value, _DECIMALS) for name, value in pairs}


def format_of(path: Path) -> RowFormat:
    """Read the form of the rows from the suffix of their file.

    Raises:
        OutputError: It is none of .csv, .jsonl and .parquet.
    """
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in ("csv", "jsonl", "parquet"):
        raise OutputError(
            f"{path} names no form of rows. End it in .csv, .jsonl or .parquet, or add --format"
        )
    return suffix
