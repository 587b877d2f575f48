"""Result files to pages: what is written where, and when nothing is."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import training
from benchmarks.publishing import publish_folder
from benchmarks.results import Result, save

CONDITIONS: dict[str, Any] = {
    "date": "2026-11-22T10:00:00+00:00",
    "cpu": "some",
    "cpus": 2,
    "memory_gb": 8.0,
    "gpu": "",
    "python": "3.11.7",
    "versions": {"numpy": "2"},
    "scheduling": "real-time",
    "load_before": 0.1,
    "seed": 1,
    "commit": "abc",
    "command": "python -m benchmarks run",
    "rule": {"bound": 0.03},
}
SECONDS = {"rounds": [2.0] * 5, "median": 2.0, "low": 2.0, "high": 2.0, "is_stable": True}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root with pages that have a place for memory, start-up and files."""
    (tmp_path / "docs").mkdir()
    places = ("memory", "startup", "files_to_rows")
    page = "\n".join(f"# {name}\n<!-- figures: {name} -->\nstale\n<!-- end -->" for name in places)
    (tmp_path / "docs" / "benchmarks.md").write_text(page)
    (tmp_path / "README.md").write_text("<!-- figures: summary -->\n<!-- end -->\nafter\n")
    return tmp_path


def memory() -> Result:
    rows = [{"who": "gclf", "count": 10, "peaks_mb": [80.0, 82.0]}]
    return Result("memory", CONDITIONS, rows, ["fails at /somewhere/else/file.py"])


def test_a_page_has_table_plot_conditions_and_notes(root: Path):
    save(memory(), root / "results")

    written = publish_folder(root / "results", root)

    page = (root / "docs" / "benchmarks.md").read_text()
    assert "stale" not in page.partition("# startup")[0]
    assert "stale" in page.partition("# startup")[2]
    assert "| gclf | 81 |" in page
    assert "![How much memory does a run hold" in page
    assert "2 cores of some, 8 GB" in page
    assert "load 0.1 before, real-time scheduling. `python" in page
    assert "Note: fails at file.py" in page
    assert written == [root / "docs/benchmarks/memory.png", root / "docs/benchmarks.md"]
    assert written[0].read_bytes()[:4] == b"\x89PNG"


def learnt(network: str, who: str, seconds: float, **more: Any) -> dict[str, Any]:
    rounds = {"rounds": [seconds] * 6, "low": seconds, "high": seconds, "is_stable": True}
    timing = rounds | {"median": seconds}
    return {"network": network, "who": who, "pictures": 100, "seconds": timing} | more


def test_decoding_counts_against_us():
    ours = {"precision": "bf16", "decoding_s": 5.0, "spent": {"backward": 0.5}}
    rows = [
        learnt("cnn", "plain", 3.0, waits=0.2),
        learnt("cnn", "gclf", 1.0, **ours),
        learnt("resnet10", "plain", 2.0, waits=0.1),
        learnt("resnet10", "gclf", 1.0, **ours),
    ]

    said = training.tables(Result("training", CONDITIONS, rows, []))

    assert "| 33 (33 to 33) | 100 (100 to 100) | 3.00× (3.00 to 3.00) | 2.50× (2.50" in said
    assert "| 2.00× (2.00 to 2.00) | 1.67× (1.67 to 1.67) |" in said
    assert "`cnn` spends on: backward 50%. The plain way waits for its pictures 20%" in said


def test_nothing_is_written_where_one_figure_has_no_place(root: Path):
    save(memory(), root / "results")
    row = {"callers": 1, "who": "gclf", "max_dp": 0.0, "seconds": SECONDS}
    row["latency_s"] = dict.fromkeys(("p50", "p95", "p99", "largest"), 0.001)
    save(Result("callers", CONDITIONS, [row], []), root / "results")
    before = (root / "docs" / "benchmarks.md").read_text()

    with pytest.raises(ValueError, match="Write <!-- figures: callers -->"):
        publish_folder(root / "results", root)

    assert (root / "docs" / "benchmarks.md").read_text() == before
    assert not (root / "docs" / "benchmarks").exists()


def test_the_summary_has_no_start_up_that_was_not_measured(root: Path):
    stages = dict.fromkeys(("read", "decode", "decode_by_pillow", "network", "rest", "limit"), 1.0)
    shared = {"count": 10, "seconds": SECONDS, "cpu_s": 1.0, "peak_mb": 80.0, "stages": stages}
    names = ("gclf, cnn fp32", "gclf, resnet10 fp32")
    rows = [
        {"who": who, "pictures": pictures} | shared
        for pictures in ("faces", "photos")
        for who in names
    ]
    startup: dict[str, Any] = {
        "what": "first answer",
        "who": names[0],
        "seconds": SECONDS | {"is_stable": False},
    }
    save(Result("files_to_rows", CONDITIONS, rows, []), root / "results")
    save(Result("startup", CONDITIONS, [startup], []), root / "results")

    publish_folder(root / "results", root)

    readme = (root / "README.md").read_text()
    assert "| gclf, cnn fp32 | 5 | 5 | ~2.00 | 80 |" in readme
    assert "| gclf, resnet10 fp32 | 5 | 5 |  | 80 |" in readme
    assert readme.endswith("<!-- end -->\nafter\n")


@pytest.mark.parametrize(
    ("question", "change", "said"),
    [
        ("startup", {"cpu": "another"}, "measured on different machines"),
        ("memory", {}, "is not the answer to startup"),
    ],
    ids=["another machine", "another question"],
)
def test_results_that_do_not_belong_together_are_not_published(
    root: Path, question: str, change: dict[str, str], said: str
):
    shared = {
        "seconds": SECONDS | {"rounds": [2.0] * 6},
        "count": 10,
        "cpu_s": 1.0,
        "peak_mb": 80.0,
    }
    rows = [{"who": "gclf, cnn fp32", "pictures": each} | shared for each in ("faces", "photos")]
    startup = {"what": "first answer", "who": "gclf, cnn fp32", "seconds": shared["seconds"]}
    save(Result("files_to_rows", CONDITIONS, rows, []), root / "results")
    path = save(Result(question, CONDITIONS | change, [startup], []), root / "results")
    path.rename(root / "results" / "startup.json")
    before = (root / "README.md").read_text()

    with pytest.raises(ValueError, match=said):
        publish_folder(root / "results", root)

    assert (root / "README.md").read_text() == before
    assert not (root / "docs" / "benchmarks").exists()
