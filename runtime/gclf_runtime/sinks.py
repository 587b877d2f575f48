"""Where rows go: one per file, as CSV or JSON lines.

Every row has the same columns. CSV: `path`, `label`, `probability`, `error`, `message`, then
`p:CLASS` for each class in the model's order. JSON lines: the same, with one object
`probabilities` in place of the last. A file that could not be read has an `error` (its kind, see
`gclf_runtime.errors`) and a `message`, and no answer. Bytes of a file name that are not UTF-8 are
kept: as they are in CSV, as lone surrogates (Python's surrogateescape) in JSON.
"""

import csv
import json
from pathlib import Path
from typing import Protocol, TextIO

from gclf_runtime.classifier import FileResult
from gclf_runtime.errors import OutputError

_DECIMALS = 6


class Sink(Protocol):
    """What takes rows."""

    def write(self, result: FileResult) -> None:
        """Write one row."""
        ...


class CsvSink:
    """Rows as comma-separated values, with a header."""

    def __init__(self, file: TextIO, label_names: tuple[str, ...]) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._quoting = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        self._classes = len(label_names)
        fixed = ["path", "label", "probability", "error", "message"]
        self._write([*fixed, *(f"p:{name}" for name in label_names)])

    def write(self, result: FileResult) -> None:
        """Write one row."""
        path, answer, error = str(result.path), result.prediction, result.error
        if answer is None:
            reason = [error.kind, error.reason] if error else ["", ""]
            self._write([path, "", "", *reason, *[""] * self._classes])
        else:
            p = [f"{value:.{_DECIMALS}f}" for value in answer.probabilities_k]
            best = f"{answer.probability:.{_DECIMALS}f}"
            self._write([path, answer.label, best, "", "", *p])

    def _write(self, values: list[str]) -> None:
        # The csv module quotes a line feed in a name, but a carriage return only if told to.
        has_return = any("\r" in value for value in values)
        (self._quoting if has_return else self._writer).writerow(values)


class JsonLinesSink:
    """Rows as one JSON object per line."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, result: FileResult) -> None:
        """Write one row."""
        answer, error = result.prediction, result.error
        record = {
            "path": str(result.path),
            "label": answer and answer.label,
            "probability": answer and round(answer.probability, _DECIMALS),
            "error": error and error.kind,
            "message": error and error.reason,
            "probabilities": answer
            and {name: round(p, _DECIMALS) for name, p in answer.top(len(answer.label_names))},
        }
        self._file.write(json.dumps(record) + "\n")


def open_sink(path: Path, file: TextIO, label_names: tuple[str, ...]) -> Sink:
    """Choose the form of the rows by the suffix of their file.

    Raises:
        OutputError: The suffix is neither .csv nor .jsonl.
    """
    check_suffix(path)
    return CsvSink(file, label_names) if path.suffix.lower() == ".csv" else JsonLinesSink(file)


def check_suffix(path: Path) -> None:
    """Refuse an output that is neither .csv nor .jsonl, before any work is done.

    Raises:
        OutputError: It is neither.
    """
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise OutputError(f"{path} names no form of rows. End it in .csv or .jsonl")
