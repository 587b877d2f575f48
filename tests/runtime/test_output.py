import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gclf_runtime import FileResult, ImageError, OutputError, Prediction
from gclf_runtime.sinks.files import RowFile, open_rows, record_of
from gclf_runtime.sinks.rows import Columns, CsvCodec, JsonLinesCodec

NAMES = ("cat", "dog")
COLUMNS = Columns(label_names=NAMES)
SETTINGS = {"model_sha256": "ab", "top_k": None}
BATCH = 4


def result(number: int) -> FileResult:
    """Answer differently for every number; every fifth input fails."""
    if number % 5 == 4:
        return FileResult(f"{number}\n.jpg", None, ImageError("corrupt", "damaged"))
    p = np.float32(number / 100)
    values = np.array([p, 1 - p], np.float32)
    return FileResult(f"{number}.jpg", Prediction(NAMES, values, values), None)


def run(path: Path, count: int, *, resume: bool = False, stop: int | None = None) -> int:
    """Write rows as the command does; stop without closing; return how many were there."""
    form = CsvCodec(COLUMNS) if path.suffix == ".csv" else JsonLinesCodec(COLUMNS)
    rows = RowFile(path, form, SETTINGS, resume=resume, batch_size=BATCH)
    done = [row.path for row in rows.old_rows()] if rows.is_resumed else []
    assert done == [result(number).path for number in range(len(done))]
    for number in range(len(done), count if stop is None else stop):
        rows.write(result(number))
    if stop is None:
        rows.close()
    return len(done)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_file_cut_at_any_byte_is_finished_to_the_same_bytes(tmp_path: Path, suffix: str):
    path = tmp_path / f"rows{suffix}"
    run(path, 11)
    whole = path.read_bytes()

    kept: list[int] = []
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        kept.append(run(path, 11, resume=True))
        assert path.read_bytes() == whole
    assert set(kept) == {0, BATCH, 2 * BATCH}


def test_a_finished_file_is_resumed_to_itself_and_longer_inputs_go_on(tmp_path: Path):
    path, longer = tmp_path / "rows.csv", tmp_path / "longer.csv"
    run(path, 11)
    run(longer, 20)

    run(path, 20, resume=True)

    assert path.read_bytes() == longer.read_bytes()


def test_without_resume_a_run_begins_anew(tmp_path: Path):
    path = tmp_path / "rows.csv"
    run(path, 11)
    run(path, 3)

    assert len(path.read_bytes().splitlines()) == 4


def test_a_first_run_may_be_told_to_resume(tmp_path: Path):
    path = tmp_path / "rows.csv"

    assert run(path, 5, resume=True) == 0
    assert len(path.read_bytes().splitlines()) == 7  # header, five rows, a name of two lines


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"model_sha256": "cd", "top_k": None}, "model_sha256 was 'ab' and is 'cd'"),
        ({"model_sha256": "ab", "top_k": 3}, "top_k was None and is 3"),
        (SETTINGS | {"new": 1}, "new was None and is 1"),
        ({"top_k": None}, "model_sha256 was 'ab' and is None"),
    ],
    ids=["model", "option", "more", "less"],
)
def test_other_settings_are_not_mixed_in(tmp_path: Path, settings: dict[str, Any], match: str):
    path = tmp_path / "rows.csv"
    run(path, 11)
    before = path.read_bytes()

    with pytest.raises(OutputError, match=f"begun otherwise .*{match}"):
        RowFile(path, CsvCodec(COLUMNS), settings, resume=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize("record", [None, "", "[]", "not json"], ids=repr)
def test_rows_of_unknown_making_are_not_resumed(tmp_path: Path, record: str | None):
    path = tmp_path / "rows.csv"
    run(path, 3)
    record_of(path).unlink()
    if record is not None:
        record_of(path).write_text(record, encoding="utf-8")

    with pytest.raises(OutputError, match="Leave out --resume to begin anew"):
        RowFile(path, CsvCodec(COLUMNS), SETTINGS, resume=True)


def test_the_record_is_there_before_the_first_row_and_says_what_makes_them(tmp_path: Path):
    path = tmp_path / "rows.csv"
    run(path, 3, stop=0)

    assert json.loads(record_of(path).read_text(encoding="utf-8")) == SETTINGS
    assert path.read_bytes().count(b"\n") == 1


def test_the_first_row_is_on_disk_at_once(tmp_path: Path):
    path = tmp_path / "rows.csv"
    run(path, 3, stop=1)

    assert path.read_bytes().count(b"\n") == 2


def test_a_stop_leaves_whole_rows_with_all_that_was_held(tmp_path: Path):
    path = tmp_path / "rows.csv"
    rows = RowFile(path, CsvCodec(COLUMNS), SETTINGS)
    for number in range(30):
        rows.write(result(number))
    rows.stop()

    with path.open("rb") as file:
        assert len(list(CsvCodec(COLUMNS).decode(file))) == 30


def test_a_stop_while_old_rows_are_read_loses_none(tmp_path: Path):
    path = tmp_path / "rows.csv"
    run(path, 11)
    before = path.read_bytes()
    rows = RowFile(path, CsvCodec(COLUMNS), SETTINGS, resume=True, batch_size=BATCH)
    next(rows.old_rows())
    rows.stop()

    assert path.read_bytes() == before


def test_a_device_is_written_to_and_nothing_is_put_beside_it(tmp_path: Path):
    path = tmp_path / "rows.csv"
    path.symlink_to("/dev/null")
    run(path, 11)

    assert sorted(os.listdir(tmp_path)) == ["rows.csv"]


def test_a_full_device_says_what_to_do(tmp_path: Path):
    path = tmp_path / "rows.csv"
    path.symlink_to("/dev/full")

    with pytest.raises(OutputError, match=r"No space left on device\)\. Make room, .*--resume"):
        run(path, 11)


@pytest.mark.parametrize("name", ["absent/rows.csv", "."])
def test_a_file_that_cannot_be_made_is_an_output_error(tmp_path: Path, name: str):
    with pytest.raises(OutputError, match="cannot be written"):
        open_rows(tmp_path / name, "csv", COLUMNS, SETTINGS)
