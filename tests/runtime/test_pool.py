import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gclf_runtime import Classifier, FileResult, ImageError
from gclf_runtime.items import Item
from gclf_runtime.pipeline import Answer, Outcome, SessionRunner
from gclf_runtime.pool import WorkerPool
from gclf_runtime.session import OnnxSession
from gclf_runtime.spares import COMMAND, Spares

# A worker whose decoder crashes on a picture of a certain name, as a broken codec would.
CRASHING = (
    sys.executable,
    "-c",
    "import os; from gclf_runtime import images, worker; load = images.load\n"
    "def crash(source, *a, **k):\n"
    "    return os.abort() if 'kaboom' in str(source) else load(source, *a, **k)\n"
    "images.load = crash; worker.main()",
)


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    """700 inputs: files, bytes at hand, errors at hand, and what cannot be read."""
    Image.new("RGB", (20, 20), (250, 0, 0)).save(tmp_path / "red.png")
    Image.new("RGB", (20, 20), (0, 0, 250)).save(tmp_path / "blue.png")
    red, blue = (Item(str(tmp_path / name)) for name in ("red.png", "blue.png"))
    others = [
        Item("a.tar/blue", (tmp_path / "blue.png").read_bytes()),
        Item("a.tar/gone", ImageError("missing", "no such member")),
        Item(str(tmp_path / "absent\udcff.png")),
        Item("damaged", b"\x89PNG\r\n\x1a\n"),
    ]
    return [red, blue, red, *others] * 100


def said(outcomes: Sequence[Outcome]) -> list[Any]:
    return [
        (o.kind, o.reason, str(o))
        if isinstance(o, ImageError)
        else (o.probabilities_k.tobytes(), o.logits_k.tobytes(), np.array(o.pixels_hwc).tolist())
        for o in outcomes
    ]


@pytest.mark.parametrize("keep_pixels", [False, True], ids=["answers", "pixels too"])
def test_processes_answer_as_this_one_does_to_the_bit(
    colours: Path, items: list[Item], keep_pixels: bool
):
    here = SessionRunner(OnnxSession(colours, device="cpu"), keep_pixels=keep_pixels)
    workers = pool(colours, processes=2, keep_pixels=keep_pixels)

    for start in range(0, 140, 14):
        chunk = items[start : start + 14]
        assert said(workers.run(chunk)) == said(here.run(chunk))
    workers.close()


def test_a_long_stream_is_taken_over_by_workers_and_answered_the_same(
    colours: Path, items: list[Item]
):
    expected = [result.error or result.prediction for _, result in answered(colours, items, 0)]
    before = children(os.getpid())
    seen: set[int] = set()
    results: list[Any] = []
    for number, (_, result) in enumerate(answered(colours, items * 40, 2)):
        results.append(result.error or result.prediction)
        if number % 500 == 0:
            seen |= children(os.getpid()) - before

    assert len(seen) == 2
    assert [getattr(r, "kind", None) or r.label for r in results] == [
        getattr(r, "kind", None) or getattr(r, "label", None) for r in expected
    ] * 40
    assert children(os.getpid()) == before


def answered(colours: Path, items: list[Item], processes: int) -> Iterator[tuple[Item, FileResult]]:
    return Classifier(colours, processes=processes).predict_items(items)


def test_a_worker_refuses_a_model_that_was_changed_since(
    colours: Path, tmp_path: Path, items: list[Item]
):
    model = tmp_path / "model.onnx"
    model.write_bytes(colours.read_bytes())
    session = OnnxSession(model, device="cpu")
    workers = pool_of(session, model, sha256="0" * 64, threads=1)
    expected = kinds(workers.run(items[:14]))
    wait_for_no_thread("start")

    assert kinds(workers.run(items[:14])) == expected
    assert not workers.worker_count
    workers.close()


def pool_of(session: OnnxSession, model: Path, **options: Any) -> WorkerPool:
    settings: dict[str, Any] = {
        "sha256": session.sha256,
        "processes": 1,
        "options": {},
        "items_before_start": 0,
        **options,
    }
    runner = SessionRunner(session, **settings["options"])
    return WorkerPool(model, runner, session.spec, **settings)


def pool(
    colours: Path,
    command: Sequence[str] = COMMAND,
    *,
    processes: int = 1,
    keep_pixels: bool = False,
) -> WorkerPool:
    """Return a pool without a place in this process: whatever is answered, a worker answered."""
    return pool_of(
        OnnxSession(colours, device="cpu"),
        colours,
        processes=processes,
        threads=0,
        command=command,
        options={"keep_pixels": keep_pixels},
    )


def wait_for_no_thread(name: str) -> None:
    deadline = time.monotonic() + 60
    while any(name in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def kinds(outcomes: list[Outcome]) -> list[str]:
    return ["answer" if isinstance(o, Answer) else o.reason.split(".")[0] for o in outcomes]


def test_a_picture_that_crashes_its_decoder_is_an_error_and_its_neighbours_are_answered(
    colours: Path, tmp_path: Path
):
    names = ["a.png", "kaboom.png", "b.png", "kaboom2.png"]
    for name in names:
        Image.new("RGB", (20, 20), (250, 0, 0)).save(tmp_path / name)
    workers = pool(colours, CRASHING)

    for _ in range(2):
        outcomes = workers.run([Item(str(tmp_path / name)) for name in names])
        assert kinds(outcomes) == ["answer", "its decoder crashed"] * 2
    workers.close()


def children(pid: int) -> set[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return {int(child) for task in tasks for child in task.read_text().split()}


def test_a_worker_that_is_killed_is_replaced_and_nothing_is_lost(colours: Path, items: list[Item]):
    before, workers = children(os.getpid()), pool(colours)
    expected = kinds(workers.run(items[:14]))
    (victim,) = children(os.getpid()) - before
    os.kill(victim, signal.SIGKILL)

    assert kinds(workers.run(items[:14])) == expected
    assert victim not in children(os.getpid())
    workers.close()
    assert children(os.getpid()) == before


def test_workers_that_start_early_answer_and_end_with_their_pool(colours: Path, items: list[Item]):
    before, spares = children(os.getpid()), Spares(1)
    (worker,) = children(os.getpid()) - before
    workers = pool_of(
        OnnxSession(colours, device="cpu"),
        colours,
        threads=0,  # no place in this process
        spares=spares,
        items_before_start=10**6,
    )

    assert kinds(workers.run(items[:3])) == ["answer"] * 3
    assert children(os.getpid()) - before == {worker}
    workers.close()
    assert children(os.getpid()) == before


def test_workers_that_start_early_and_are_not_needed_end(colours: Path):
    before = children(os.getpid())
    classifier = Classifier(colours, device="cpu", processes=2, starts_early=True)
    assert len(children(os.getpid()) - before) == 2

    del classifier
    gc.collect()

    assert children(os.getpid()) == before


def test_a_forked_child_leaves_the_workers_of_its_parent_alone():
    spares = Spares(1)
    child = os.fork()
    if not child:
        del spares
        gc.collect()
        os._exit(0)

    assert os.waitpid(child, 0)[1] == 0
    worker = spares.take()
    assert worker
    assert worker.poll() is None
    worker.communicate()


def test_no_worker_starts_early_where_there_is_no_room_for_it():
    assert len(Spares(2, ["/absent"])) == 0


def test_a_worker_that_is_told_nothing_ends_without_a_word():
    run = subprocess.run(COMMAND, input=b"", capture_output=True)

    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")


def test_where_no_worker_can_start_this_process_does_the_work(colours: Path, items: list[Item]):
    session = OnnxSession(colours, device="cpu")
    expected = said(SessionRunner(session).run(items[:14]))
    for command in (["/absent"], [sys.executable, "-c", "raise SystemExit(1)"]):
        workers = pool_of(session, colours, threads=2, processes=2, command=command)
        assert said(workers.run(items[:14])) == expected
        wait_for_no_thread("start")
        assert not workers.worker_count
        assert said(workers.run(items[:14])) == expected
        workers.close()


def test_no_worker_outlives_its_parent(colours: Path, items: list[Item]):
    program = f"""
import itertools, sys
from gclf_runtime import Classifier
from gclf_runtime.items import Item
item = Item({items[0].name!r})
results = Classifier({str(colours)!r}, processes=2).predict_items(itertools.repeat(item))
for number, result in enumerate(results):
    if number % 1000 == 0:
        print(number, flush=True)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    deadline, workers = time.monotonic() + 60, set[int]()
    while len(workers) < 2 and time.monotonic() < deadline:
        parent.stdout.readline()
        workers = children(parent.pid)
    parent.kill()
    parent.communicate()

    assert len(workers) == 2
    while any(Path("/proc", str(pid)).exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in workers if Path("/proc", str(pid)).exists()]
