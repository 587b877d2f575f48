"""The quick forms: that the questions can be asked, and what their rows hold; not how fast."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measuring import QUICK
from benchmarks.results import Result, load, save
from benchmarks.workplace import Workplace

CONDITIONS: dict[str, Any] = {"date": "2026-11-22", "cpu": "some", "gpu": "", "cpus": 2}
TIMING = {"rounds", "low", "high", "is_stable", "median"}


def ask(question: str, folder: Path) -> Result:
    """Ask, and read back what was written."""
    place = Workplace(folder, folder, folder / "no-data", quick=True, rule=QUICK, with_peers=False)
    rows, notes = import_module(f"benchmarks.{question}").measure(place)
    return load(save(Result(question, CONDITIONS | place.record(), rows, notes), folder))


@pytest.mark.parametrize("question", ["network", "decoding", "callers"])
def test_a_quick_question_has_rows_a_table_and_a_picture(question: str, tmp_path: Path):
    module: Any = import_module(f"benchmarks.{question}")
    result = ask(question, tmp_path)
    names = {row["who"] for row in result.rows}
    assert "gclf" in names
    assert len(names) > 1
    assert all(row["seconds"].keys() == TIMING for row in result.rows)
    assert all(row["seconds"]["median"] > 0 for row in result.rows)
    assert all(name in module.tables(result) for name in names)
    module.plot(result, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"


def test_the_network_answers_the_same_whoever_runs_it(tmp_path: Path):
    result = ask("network", tmp_path)

    assert {(row["who"], row["batch"]) for row in result.rows} == {
        (who, batch) for who in ("gclf", "onnxruntime") for batch in (1, 16)
    }
    assert all(row["max_dp"] == 0 for row in result.rows)
    assert result.notes == []


def test_both_of_our_decoders_give_the_same_pixels(tmp_path: Path):
    rows = ask("decoding", tmp_path).rows
    figures = ("mean_difference", "max_difference", "changed_answers", "max_dp")
    by = {(row["who"], row["picture"]): [row[name] for name in figures] for row in rows}
    kinds = {row["picture"] for row in rows}

    assert all(by["gclf", kind] == by["gclf, Pillow alone", kind] for kind in kinds)
    assert all(by["Pillow", kind] == [0, 0, 0, 0] for kind in kinds)
    assert by["gclf", "face, 80-200"] == [0, 0, 0, 0]  # no small picture is decoded at a scale
