"""Whole processes: what they took, how they fail, and what a result may say of them."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from benchmarks.environments import environment_of
from benchmarks.processes import ProcessError, run
from benchmarks.results import clean


def test_a_process_is_measured_with_its_memory():
    code = "held = bytearray(80 << 20)"

    small, large = (run([sys.executable, "-c", each]).peak_mb for each in ("pass", code))

    assert large - small == pytest.approx(80, abs=5)


def test_memory_of_children_counts_when_watched():
    child = "import time; held = bytearray(60 << 20); time.sleep(1)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    both = code.replace("subprocess.run(", "held = bytearray(60 << 20); subprocess.run(")

    taken = run([sys.executable, "-c", both], watch=True)

    assert taken.peak_mb > 120
    assert taken.seconds >= 1


def test_what_outlives_its_parent_counts_as_cpu():
    works = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {works!r}])"

    taken = run([sys.executable, "-c", code])

    assert taken.cpu_s >= 0.3


def test_an_exit_code_is_an_error_with_the_last_words():
    with pytest.raises(ProcessError, match=r"python.* ended with 3: so it is"):
        run([sys.executable, "-c", "import sys; print('so it is', file=sys.stderr); sys.exit(3)"])


def test_what_takes_too_long_is_killed_with_its_children(tmp_path: Path):
    pid = tmp_path / "pid"
    code = (
        "import pathlib, subprocess, sys; "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        f"pathlib.Path({str(pid)!r}).write_text(str(child.pid)); child.wait()"
    )

    with pytest.raises(ProcessError, match="did not end within 2 s"):
        run([sys.executable, "-c", code], timeout_s=2)

    assert _ends(int(pid.read_text()))


def _ends(pid: int) -> bool:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":  # dead, and its new parent has not looked yet
            return True
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    return False


def test_only_another_environment_loses_what_leads_back_to_ours(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", "here")
    monkeypatch.setenv("VIRTUAL_ENV", "there")
    lost = {"PYTHONPATH", "VIRTUAL_ENV"}

    assert environment_of(Path(sys.executable).with_name("gclf-infer")) == dict(os.environ)
    assert lost & environment_of("/elsewhere/bin/python").keys() == set()


@pytest.mark.parametrize(
    ("text", "published"),
    [
        (
            "run --scratch /tmp/a/b --checkpoint cnn=/x/run/model.pt",
            "run --scratch b --checkpoint cnn=model.pt",
        ),
        ("failed: https://index.example/simple/torch is away", "failed:  is away"),
        ("no pictures at '/data/faces'", "no pictures at 'faces'"),
        ("1 / 2 pictures/s, ../shared/data", "1 / 2 pictures/s, ../shared/data"),
    ],
    ids=["paths", "addresses", "quoted", "no paths"],
)
def test_a_text_is_published_without_addresses_and_folders(text: str, published: str):
    assert clean(text) == published
