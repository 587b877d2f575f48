"""Who takes part, what counts as an answer, and what tables say of ratios."""

import csv
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.contenders import (
    OURS_EMBEDDED,
    PEERS,
    Command,
    able,
    answers,
    check_rows,
    commands_of,
    disagreement,
    ours_of,
)
from benchmarks.environments import PeerError
from benchmarks.measuring import QUICK, Rule
from benchmarks.stages import measure_stages
from benchmarks.tables import bound_of, rates, times
from benchmarks.workplace import EMBEDDED, Workplace


def fails() -> list[str]:
    raise PeerError("no uv")


def passes() -> list[str]:
    return [sys.executable, "-c", "pass"]


@pytest.fixture
def quick(tmp_path: Path) -> Workplace:
    """Return a workplace with the examples' faces."""
    return Workplace(
        tmp_path, tmp_path, tmp_path / "no-data", quick=True, rule=QUICK, with_peers=False
    )


def timing(*rounds: float) -> dict[str, Any]:
    return {"rounds": list(rounds), "median": rounds[0], "low": min(rounds), "high": max(rounds)}


def test_a_peer_that_cannot_is_noted_and_left_out():
    notes: list[str] = []
    commands: dict[str, Command] = {"here": passes, "away": fails, "ends": lambda: ["false"]}

    assert list(able(commands, "faces", notes)) == ["here"]
    assert notes[0] == "away did not answer faces: no uv"
    assert notes[1].startswith("ends did not answer faces: false ended with 1")


def test_ours_must_be_able():
    with pytest.raises(PeerError, match="no uv"):
        able({OURS_EMBEDDED: fails}, "faces", [])


def test_a_peer_whose_rows_are_not_those_of_the_pictures_is_left_out(tmp_path: Path):
    rows, notes = tmp_path / "rows.csv", list[str]()
    rows.write_text("path,label,probability\na.jpg,male,0.9\n")

    assert able({"peer": passes}, "faces", notes, check=lambda _: check_rows(rows, {"a.jpg"}))
    for pictures in ({"a.jpg", "b.jpg"}, {"b.jpg"}):
        check = partial(check_rows, rows, pictures)
        assert not able({"peer": passes}, "faces", notes, check=lambda _, check=check: check())
    said = "peer did not answer faces: it wrote 1 rows; 1 of"
    assert notes == [f"{said} 2 are missing", f"{said} 1 are missing"]


def test_answers_disagree_by_label_and_by_probability():
    ours = {"a": ("x", 0.9), "b": ("x", 0.8), "c": ("y", 0.7), "d": ("y", 0.6)}

    assert disagreement(ours, ours) == (0, 0)
    assert disagreement(ours | {"a": ("y", 0.5), "b": ("x", 0.75)}, ours) == (
        0.25,
        pytest.approx(0.05),
    )


def test_everybody_has_a_name_and_rows_of_their_own(quick: Workplace):
    rows = {quick.rows(peer.name) for peer in PEERS}

    assert len(rows) == len({peer.name for peer in PEERS}) == len(PEERS)


def test_our_command_writes_the_rows_that_are_read(quick: Workplace):
    commands = commands_of(quick, quick.faces(3), ours_of(quick), peers=())

    assert list(able(commands, "faces", [])) == [OURS_EMBEDDED]
    assert len(answers(quick.rows(OURS_EMBEDDED))) == 3
    with quick.rows(OURS_EMBEDDED).open(encoding="utf-8") as file:
        assert {row["label"] for row in csv.DictReader(file)} <= {"female", "male"}


def test_the_limit_is_the_cores_over_all_that_a_picture_costs(quick: Workplace):
    found = measure_stages(EMBEDDED, quick.faces(20), rounds=1).record()

    assert found["whole"] > found["decode"] > 0
    parts = sum(found[name] for name in ("read", "decode", "network", "rest"))
    assert parts >= found["whole"] * 0.999
    assert found["limit"] > 0


@pytest.mark.parametrize(
    ("rounds", "bound", "said"),
    [
        ((2, 2, 2, 4, 4, 4), 0.03, "2.00× (2.00 to 2.00)"),
        ((2, 2.1, 1.9, 4, 4, 4), 0.03, "~2.00× (1.90 to 2.10)"),
        ((2, 2.1, 1.9, 4, 4, 4), 0.2, "2.00× (1.90 to 2.10)"),
        ((2,), 0.03, "~2.00× (2.00 to 2.00)"),
    ],
    ids=["known", "not within the bound", "a wider bound", "too few rounds"],
)
def test_a_ratio_has_a_tilde_of_its_own(rounds: tuple[float, ...], bound: float, said: str):
    fast = timing(*(1, 1, 1, 2, 2, 2)[: len(rounds)])

    assert times(timing(*rounds), fast, bound=bound) == said


def test_a_rate_has_its_ends_in_order():
    assert rates(timing(2, 1, 4), 100) == (50, 25, 100)


def test_a_result_keeps_its_rule_and_what_its_pictures_were_made_of(tmp_path: Path):
    kept = Workplace(tmp_path, tmp_path, tmp_path, rule=Rule(bound=0.05)).record()

    assert kept["rule"]["bound"] == bound_of(kept) == 0.05
    assert kept["rule"]["budget_s"] is None
    assert kept["source_pictures"] == 12


def test_pictures_of_other_faces_are_other_folders(quick: Workplace, tmp_path: Path):
    faces = tmp_path / "data" / "faces" / "val" / "male"
    faces.mkdir(parents=True)
    source = next(iter(sorted((EMBEDDED.parents[3] / "examples" / "faces").glob("*.jpg"))))
    (faces / "a.jpg").write_bytes(source.read_bytes())
    other = Workplace(quick.scratch, tmp_path, tmp_path / "data", quick=True)

    assert quick.faces(2) != other.faces(2)
    assert quick.faces(2) == quick.faces(2)
