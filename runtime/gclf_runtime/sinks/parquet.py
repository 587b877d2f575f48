"""Rows of JSON lines to a Parquet file, in bounded memory; needs pyarrow."""

import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from gclf_runtime.errors import OutputError
from gclf_runtime.sinks.rows import Columns
from gclf_runtime.sinks.whole import written_whole

_ROWS_PER_GROUP = 65_536
SETTINGS_KEY = "gclf.run"


def require_pyarrow() -> Any:
    """Import pyarrow.parquet, which the extra `parquet` brings.

    Raises:
        OutputError: It is not installed.
    """
    try:
        return import_module("pyarrow.parquet")
    except ImportError as error:
        raise OutputError(
            f"Parquet needs pyarrow ({error}). Install it: pip install 'gclf-runtime[parquet]', "
            "or write .csv or .jsonl"
        ) from error


def settings_in_parquet(path: Path) -> Mapping[str, Any] | None:
    """Read what made the rows of a finished file; None when it does not say."""
    try:
        metadata: Any = require_pyarrow().read_schema(str(path)).metadata or {}
        return json.loads(metadata[SETTINGS_KEY.encode()])
    except (OSError, ValueError, KeyError):
        return None


def write_parquet(rows: Path, output: Path, columns: Columns, settings: Mapping[str, Any]) -> None:
    """Write complete JSON lines as a Parquet file with the columns of CSV.

    Args:
        rows: The JSON lines.
        output: The file to write; it is replaced whole.
        columns: What the rows say.
        settings: What made them; kept in the file's metadata under `gclf.run`.

    Raises:
        OutputError: pyarrow is missing, or the file cannot be written.
    """
    parquet = require_pyarrow()
    arrow: Any = import_module("pyarrow")
    kinds = {"number": arrow.float64(), "text": arrow.string()}
    fields = [(name, kinds[kind]) for name, kind in columns.names().items()]
    schema = arrow.schema(fields, metadata={SETTINGS_KEY: json.dumps(settings)})
    try:
        with (
            written_whole(output) as partial,
            rows.open("rb") as lines,
            parquet.ParquetWriter(str(partial), schema) as writer,
        ):
            records = _records(lines, columns)
            while group := list(islice(records, _ROWS_PER_GROUP)):
                writer.write_table(arrow.Table.from_pylist(group, schema=schema))
            writer.close()  # before the file gets its name
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"{output} cannot be written ({reason}). Make room, then add --resume: "
            f"the rows are in {rows}"
        ) from error


def _records(lines: Iterator[bytes], columns: Columns) -> Iterator[dict[str, Any]]:
    for line in lines:
        row: dict[str, Any] = json.loads(line)
        probabilities: dict[str, float] = row.pop("probabilities") or {}
        logits: dict[str, float] = row.pop("logits", None) or {}
        # Parquet holds UTF-8 only: a byte that is not is written out.
        row["path"] = row["path"].encode("utf-8", "backslashreplace").decode()
        if columns.top_k is None:
            row |= {f"p:{name}": p for name, p in probabilities.items()}
        else:
            for n, (name, p) in enumerate(probabilities.items(), start=1):
                row |= {f"label_{n}": name, f"probability_{n}": p}
        yield row | {f"z:{name}": z for name, z in logits.items()}
