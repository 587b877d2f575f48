import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from gclf_runtime import FileResult, ImageError, OutputError, Prediction
from gclf_runtime.sinks import open_sink

NAMES = ("cat", "dog")
PROBABILITIES = np.array([0.25, 0.75], np.float32)
ROWS = [
    FileResult(Path("a,b.jpg"), Prediction(NAMES, PROBABILITIES, PROBABILITIES), None),
    FileResult(Path("c.jpg"), None, ImageError("corrupt", 'damaged "JPEG"', name="c.jpg")),
]


def written(suffix: str) -> str:
    file = io.StringIO()
    sink = open_sink(Path("out" + suffix), file, NAMES)
    for row in ROWS:
        sink.write(row)
    return file.getvalue()


def test_csv_has_a_row_per_file_with_the_same_columns():
    rows = list(csv.DictReader(io.StringIO(written(".csv"))))

    assert rows == [
        {
            "path": "a,b.jpg",
            "label": "dog",
            "probability": "0.750000",
            "error": "",
            "message": "",
            "p:cat": "0.250000",
            "p:dog": "0.750000",
        },
        {
            "path": "c.jpg",
            "label": "",
            "probability": "",
            "error": "corrupt",
            "message": 'damaged "JPEG"',
            "p:cat": "",
            "p:dog": "",
        },
    ]


def test_json_lines_have_an_object_per_file_with_the_same_keys():
    answered, failed = (json.loads(line) for line in written(".jsonl").splitlines())

    assert answered == {
        "path": "a,b.jpg",
        "label": "dog",
        "probability": 0.75,
        "error": None,
        "message": None,
        "probabilities": {"cat": 0.25, "dog": 0.75},
    }
    assert list(failed) == list(answered)
    assert failed["error"] == "corrupt"
    assert failed["label"] is None


@pytest.mark.parametrize("name", ["a\rb.jpg", "a\nb.jpg", "a\r\n,b.jpg", 'a"b.jpg'])
def test_any_name_is_one_row(name: str):
    file = io.StringIO(newline="")
    row = FileResult(Path(name), Prediction(NAMES, PROBABILITIES, PROBABILITIES), None)
    open_sink(Path("out.csv"), file, NAMES).write(row)

    (read,) = csv.DictReader(io.StringIO(file.getvalue(), newline=""))
    assert read["path"] == name


def test_no_rows_leave_a_header_and_an_empty_file():
    for suffix, text in (
        (".csv", "path,label,probability,error,message,p:cat,p:dog\n"),
        (".jsonl", ""),
    ):
        file = io.StringIO()
        open_sink(Path("out" + suffix), file, NAMES)
        assert file.getvalue() == text


@pytest.mark.parametrize("name", ["out", "out.txt", "out.CSV.gz"])
def test_another_suffix_is_refused_with_the_remedy(name: str):
    with pytest.raises(OutputError, match=r"End it in \.csv or \.jsonl"):
        open_sink(Path(name), io.StringIO(), NAMES)
