import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gclf_runtime import FileResult, ImageError, OutputError, Prediction
from gclf_runtime.sinks.rows import Columns, CsvCodec, JsonLinesCodec, RowCodec, format_of

NAMES = ("cat", "dog", "emu")
PROBABILITIES = np.array([0.25, 0.7, 0.05], np.float32)
LOGITS = np.array([-1.5, 2.25, 0.0], np.float32)
ANSWERED = FileResult("a,b.jpg", Prediction(NAMES, PROBABILITIES, LOGITS), None)
FAILED = FileResult("c.jpg", None, ImageError("corrupt", 'damaged "JPEG"', name="c.jpg"))
CODECS = [CsvCodec, JsonLinesCodec]


def columns(**options: Any) -> Columns:
    return Columns(label_names=NAMES, **options)


def written(codec: RowCodec, *results: FileResult) -> bytes:
    return codec.header() + b"".join(codec.encode(result) for result in results)


def csv_rows(codec: RowCodec, *results: FileResult) -> list[dict[str, str]]:
    text = written(codec, *results).decode("utf-8", "surrogateescape")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def named(path: str) -> FileResult:
    return FileResult(path, ANSWERED.prediction, None)


def test_csv_has_a_row_per_input_with_the_same_columns():
    answered, failed = csv_rows(CsvCodec(columns()), ANSWERED, FAILED)

    assert answered == {
        "path": "a,b.jpg",
        "label": "dog",
        "probability": "0.700000",
        "error": "",
        "message": "",
        "p:cat": "0.250000",
        "p:dog": "0.700000",
        "p:emu": "0.050000",
    }
    assert failed == {name: "" for name in answered} | {
        "path": "c.jpg",
        "error": "corrupt",
        "message": 'damaged "JPEG"',
    }


def test_json_lines_have_an_object_per_input_with_the_same_keys():
    lines = written(JsonLinesCodec(columns()), ANSWERED, FAILED).splitlines()
    answered, failed = (json.loads(line) for line in lines)

    assert answered == {
        "path": "a,b.jpg",
        "label": "dog",
        "probability": 0.7,
        "error": None,
        "message": None,
        "probabilities": {"dog": 0.7, "cat": 0.25, "emu": 0.05},
    }
    assert list(failed) == list(answered)
    assert failed["error"] == "corrupt"
    assert failed["label"] is None


def test_the_best_classes_alone_have_numbered_columns():
    answered, failed = csv_rows(CsvCodec(columns(top_k=2)), ANSWERED, FAILED)

    assert list(answered)[5:] == ["label_1", "probability_1", "label_2", "probability_2"]
    assert list(answered.values())[5:] == ["dog", "0.700000", "cat", "0.250000"]
    assert list(failed.values())[5:] == [""] * 4
    record = json.loads(JsonLinesCodec(columns(top_k=2)).encode(ANSWERED))
    assert record["probabilities"] == {"dog": 0.7, "cat": 0.25}


def test_more_best_classes_than_there_are_is_all_of_them():
    (row,) = csv_rows(CsvCodec(columns(top_k=9)), ANSWERED)

    assert list(row)[-1] == "probability_3"


def test_logits_are_given_when_asked_for():
    answered, failed = csv_rows(CsvCodec(columns(logits=True)), ANSWERED, FAILED)

    assert [answered[f"z:{name}"] for name in NAMES] == ["-1.500000", "2.250000", "0.000000"]
    assert [failed[f"z:{name}"] for name in NAMES] == ["", "", ""]
    record = json.loads(JsonLinesCodec(columns(logits=True)).encode(ANSWERED))
    assert record["logits"] == {"cat": -1.5, "dog": 2.25, "emu": 0.0}
    assert json.loads(JsonLinesCodec(columns(logits=True)).encode(FAILED))["logits"] is None


@pytest.mark.parametrize(("abstain", "label"), [(0.69, "dog"), (0.71, "unknown")])
def test_below_the_limit_the_label_is_unknown_and_the_rest_stays(abstain: float, label: str):
    (row,) = csv_rows(CsvCodec(columns(abstain=abstain)), ANSWERED)
    record = json.loads(JsonLinesCodec(columns(abstain=abstain)).encode(ANSWERED))

    assert row["label"] == record["label"] == label
    assert row["probability"] == "0.700000"
    assert record["probabilities"]["dog"] == 0.7


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "name",
    ["a\rb.jpg", "a\nb.jpg", "a\r\n,b.jpg", 'a"b.jpg', "\udcff.jpg", "ü€.jpg", '"\n"\n.jpg'],
)
def test_any_name_is_one_row_and_is_read_back(codec: Callable[[Columns], RowCodec], name: str):
    rows = codec(columns())
    data = written(rows, named("first"), named(name), named("last"))
    read = list(rows.decode(io.BytesIO(data)))

    assert [row.path for row in read] == ["first", name, "last"]
    assert [row.label for row in read] == ["dog"] * 3
    assert read[-1].end == len(data)


@pytest.mark.parametrize("codec", CODECS)
def test_what_was_cut_anywhere_is_read_up_to_the_last_whole_row(
    codec: Callable[[Columns], RowCodec],
):
    rows = codec(columns())
    results = [named("plain"), FAILED, named('quo"ted\nand broken'), named("last")]
    ends = [len(written(rows, *results[:count])) for count in range(len(results) + 1)]
    data = written(rows, *results)

    for cut in range(len(data) + 1):
        read = list(rows.decode(io.BytesIO(data[:cut])))
        whole = sum(end <= cut for end in ends[1:])
        assert len(read) == whole
        assert [row.end for row in read] == ends[1 : whole + 1]


def test_no_rows_leave_a_header_and_an_empty_file():
    assert (
        written(CsvCodec(columns())) == b"path,label,probability,error,message,p:cat,p:dog,p:emu\n"
    )
    assert written(JsonLinesCodec(columns())) == b""


@pytest.mark.parametrize("name", ["out", "out.txt", "out.CSV.gz"])
def test_another_suffix_is_refused_with_the_remedy(name: str):
    with pytest.raises(
        OutputError, match=r"End it in \.csv, \.jsonl or \.parquet, or add --format"
    ):
        format_of(Path(name))
    assert format_of(Path("OUT.CSV")) == "csv"
