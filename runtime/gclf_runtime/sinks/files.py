"""The file of rows: appended to as answers come, whole rows only, and able to go on.

Beside `rows.csv` lies `rows.csv.run.json`, which says what makes the rows (the model's digest, the
options, the versions). A run that was stopped, by whatever, goes on with `resume=True`: rows that
are whole are kept, in whole batches, so that the finished file has the bytes of an undisturbed
run. Rows for Parquet, which cannot be appended to, are kept as JSON lines until the run is over.
"""

import contextlib
import errno
import json
import os
import stat
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import PIL

from gclf_runtime import __version__
from gclf_runtime.classifier import Classifier
from gclf_runtime.errors import OutputError
from gclf_runtime.lock import lock
from gclf_runtime.results import FileResult
from gclf_runtime.sinks.parquet import settings_in_parquet, write_parquet
from gclf_runtime.sinks.rows import Columns, CsvCodec, JsonLinesCodec, Row, RowCodec, RowFormat
from gclf_runtime.sinks.whole import written_whole

STDOUT = "-"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_BESIDE_THE_ROWS = ("sort_into", "link")  # of the settings: a run's, but not its rows'
# A row that comes so soon after the last write waits for a later row, a stop or the end.
_SECONDS_HELD = 0.2
_ROWS_HELD = 64


class RowFile:
    """Rows on disk. A row is there whole or not at all, whatever happens.

    Args:
        path: The file of rows; `-` is standard output. What is no regular file is written to, and
            that is all.
        codec: The form of the rows.
        settings: What makes the rows; a run resumes only where they are equal.
        resume: Go on where an earlier run of the same settings stopped.
        batch_size: Rows are kept in multiples of this: a batch is answered again as a whole.

    Raises:
        OutputError: The file cannot be written, or not be resumed.
    """

    def __init__(
        self,
        path: Path,
        codec: RowCodec,
        settings: Mapping[str, Any],
        *,
        resume: bool = False,
        batch_size: int = 1,
    ) -> None:
        self.path = path
        self._codec, self._batch_size = codec, batch_size
        self._held: list[bytes] = []
        self._flushed_at = 0.0
        self._is_closed = False
        with self._explained():
            self._descriptor = _open(path)
            try:
                self._prepare(settings, resume=resume)
            except BaseException:
                os.close(self._descriptor)
                raise

    def _prepare(self, settings: Mapping[str, Any], *, resume: bool) -> None:
        status = os.fstat(self._descriptor)
        self._is_file = stat.S_ISREG(status.st_mode) and str(self.path) != STDOUT
        self._end = status.st_size if self._is_file else 0
        if self._is_file:
            _lock(self._descriptor, self.path)
        self.is_resumed = resume and self._end > 0
        if self.is_resumed:
            _require_equal(self.path, recorded_settings(self.path), settings)
        else:
            self._begin(settings)

    def _begin(self, settings: Mapping[str, Any]) -> None:
        """Empty the file, then say what makes its rows: in this order nothing is ever mixed."""
        if self._is_file:
            os.ftruncate(self._descriptor, 0)
            self._end = 0
            with written_whole(record_of(self.path)) as partial:
                partial.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        self._append(self._codec.header())

    def old_rows(self) -> Iterator[Row]:
        """Read the rows of the run that is resumed; afterwards the file ends behind the last.

        Yields:
            The rows that are kept: whole batches of whole rows.
        """
        kept_end, rows = 0, list[Row]()
        with self._explained():
            with self.path.open("rb") as file:
                for row in self._codec.decode(file):
                    rows.append(row)
                    if len(rows) == self._batch_size:
                        kept_end = row.end
                        yield from rows
                        rows.clear()
            self._end = kept_end  # first: a signal may come between the two
            os.ftruncate(self._descriptor, kept_end)
            os.lseek(self._descriptor, 0, os.SEEK_END)
            if not kept_end:
                self._append(self._codec.header())

    def write(self, result: FileResult) -> None:
        """Add a row; it is written at once, or with one that comes 0.2 s after the last write."""
        self._held.append(self._codec.encode(result))
        if len(self._held) >= _ROWS_HELD or time.monotonic() - self._flushed_at > _SECONDS_HELD:
            self.flush()

    def flush(self) -> None:
        """Write the rows that are held."""
        held, self._held = self._held, []
        self._flushed_at = time.monotonic()
        with self._explained():
            self._append(b"".join(held))

    def own_files(self) -> set[str]:
        """Name what this writes, with links followed: a listing of its folder finds it too."""
        return {os.path.realpath(path) for path in (self.path, record_of(self.path))}

    def stop(self) -> None:
        """End the file behind its last whole row, from a signal handler if need be."""
        if self._is_closed:  # its descriptor may be another file's by now
            return
        with contextlib.suppress(OSError):
            if self._is_file:
                os.ftruncate(self._descriptor, self._end)
            held, self._held = self._held, []
            self._append(b"".join(held))

    def __enter__(self) -> "RowFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()
        else:
            self.close()

    def finish(self) -> None:
        """Close a file that has all its rows."""
        self.close()

    def close(self) -> None:
        """Write what is held and make it last."""
        try:
            self.flush()
            with self._explained():
                if self._is_file:
                    os.fsync(self._descriptor)
        finally:
            self._is_closed = True
            os.close(self._descriptor)

    def _append(self, data: bytes) -> None:
        """Write at the end; what a full disk cuts off is taken back."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError:
            if self._is_file:
                os.ftruncate(self._descriptor, self._end)
            raise
        self._end += len(data)

    @contextlib.contextmanager
    def _explained(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            reason = error.strerror or str(error)
            remedy = "Check the path and your rights to it, or name another --output"
            if error.errno in _FULL and str(self.path) != STDOUT:
                remedy = "Make room, then add --resume: it goes on behind the rows that are there"
            raise OutputError(f"{self.path} cannot be written ({reason}). {remedy}") from error


def recorded_settings(path: Path) -> Mapping[str, Any] | None:
    """Read what made the rows of a file; None when that is not known."""
    try:
        record: object = json.loads(record_of(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return cast(dict[str, Any], record) if isinstance(record, dict) else None


class ParquetFile(RowFile):
    """Rows for a Parquet file, as JSON lines beside it until all are there.

    Args:
        output: The Parquet file.
        columns: What the rows say.
        settings: As of RowFile, as are the options.
    """

    def __init__(
        self,
        output: Path,
        columns: Columns,
        settings: Mapping[str, Any],
        *,
        resume: bool = False,
        batch_size: int = 1,
    ) -> None:
        self._output, self._columns, self._settings = output, columns, settings
        rows = output.with_name(f"{output.name}.rows.jsonl")
        if resume and output.is_file() and not rows.exists():
            _require_equal(output, settings_in_parquet(output), _of_rows(settings))
        super().__init__(
            rows,
            JsonLinesCodec(columns),
            settings,
            resume=resume,
            batch_size=batch_size,
        )

    def finish(self) -> None:
        """Make the Parquet file and remove the lines; they stay locked until then."""
        self.flush()
        write_parquet(self.path, self._output, self._columns, _of_rows(self._settings))
        with self._explained():
            self.path.unlink()
            record_of(self.path).unlink()
        self.close()

    def own_files(self) -> set[str]:
        """Name what this writes, with links followed."""
        return super().own_files() | {os.path.realpath(self._output)}


def open_rows(
    output: Path,
    row_format: RowFormat,
    columns: Columns,
    settings: Mapping[str, Any],
    *,
    resume: bool = False,
    batch_size: int = 1,
) -> RowFile:
    """Open a file of rows of any form; see RowFile."""
    options: dict[str, Any] = {"resume": resume, "batch_size": batch_size}
    if row_format == "parquet":
        return ParquetFile(output, columns, settings, **options)
    codec = CsvCodec(columns) if row_format == "csv" else JsonLinesCodec(columns)
    return RowFile(output, codec, settings, **options)


def settings_of(classifier: Classifier, columns: Columns, **options: object) -> dict[str, Any]:
    """Say all that decides the bytes of the rows, for their record: JSON's types only."""
    return {
        "model_sha256": classifier.sha256,
        "provider": classifier.provider,
        "batch_size": classifier.batch_size,
        **asdict(columns),
        "label_names": list(columns.label_names),
        **options,
        "versions": {
            "onnxruntime": classifier.onnxruntime_version,
            "gclf-runtime": __version__,
            "numpy": np.__version__,
            "pillow": PIL.__version__,
        },
    }


def record_of(path: Path) -> Path:
    """Name the file beside the rows that says what makes them."""
    return path.with_name(f"{path.name}.run.json")


def _open(path: Path) -> int:
    if str(path) == STDOUT:
        return os.dup(1)
    is_device = path.exists() and not path.is_file()
    return os.open(path, os.O_WRONLY if is_device else os.O_RDWR | os.O_CREAT, 0o666)


def _lock(descriptor: int, path: Path) -> None:
    """Keep two runs from writing one file; the lock ends with the process, however it ends."""
    if not lock(descriptor):
        raise OutputError(
            f"{path} is being written by another run. Wait for it, or name another --output"
        )


def _of_rows(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in _BESIDE_THE_ROWS}


def _require_equal(
    path: Path, earlier: Mapping[str, Any] | None, settings: Mapping[str, Any]
) -> None:
    if earlier is None:
        raise OutputError(
            f"{path} cannot be resumed: {record_of(path).name}, which says what made its rows, is "
            "not beside it. Leave out --resume to begin anew"
        )
    names = [name for name in {**earlier, **settings} if earlier.get(name) != settings.get(name)]
    if names:
        changes = "; ".join(
            f"{name} was {earlier.get(name)!r} and is {settings.get(name)!r}" for name in names
        )
        raise OutputError(
            f"{path} was begun otherwise ({changes}). Go on as it was begun, or leave out --resume "
            "to begin anew"
        )
