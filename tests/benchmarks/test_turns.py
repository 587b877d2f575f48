"""The protocol of contenders in processes of their own."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.turns.serving import closed_loop, per_picture
from benchmarks.turns.worker import Worker, WorkerError
from benchmarks.workplace import EMBEDDED

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "faces"


def test_a_worker_answers_again_and_again():
    asked = {"model": str(EMBEDDED), "pictures": str(EXAMPLES), "variant": "gclf", "callers": 2}

    with Worker("calls") as worker:
        answers = worker.ask(do="answer", **asked)
        turn = worker.ask(do="turn", at_least_s=0.0, **asked)

    assert [sum(probabilities) for probabilities in answers] == pytest.approx([1.0] * 12)
    assert len(turn["seconds"]) == 2  # one call of each caller
    assert turn["per_second"] > 0


@pytest.mark.parametrize("variant", ["", "a caller per core"])
def test_onnxruntime_takes_turns_with_one_caller_or_one_per_core(variant: str, tmp_path: Path):
    np.save(tmp_path / "pixels.npy", np.zeros((3, 64, 64, 3), np.uint8))
    asked = {"model": str(EMBEDDED), "pixels": str(tmp_path / "pixels.npy"), "variant": variant}

    with Worker("onnxruntime_network") as worker:
        answers = worker.ask(do="answer", threads=2, batch=3, **asked)
        turn = worker.ask(do="turn", threads=2, batch=3, at_least_s=0.0, **asked)

    assert [sum(probabilities) for probabilities in answers] == pytest.approx([1.0] * 3)
    assert turn > 0


def test_a_request_that_fails_is_an_error_and_the_worker_lives_on():
    with Worker("gclf_network") as worker:
        with pytest.raises(
            WorkerError, match=r"gclf_network: ModelError: no model at absent\.onnx"
        ):
            worker.ask(model="absent.onnx", pixels="")
        with pytest.raises(WorkerError, match="KeyError: 'model'"):
            worker.ask()


def test_a_worker_that_cannot_start_is_one_clear_error():
    with (
        Worker("absent") as worker,
        pytest.raises(
            WorkerError, match=r"absent ended with 1: .*No module named benchmarks\.turns"
        ),
    ):
        worker.ask()


def test_a_worker_that_dies_is_one_clear_error():
    with Worker("gclf_network") as worker:
        worker.kill()

        with pytest.raises(WorkerError, match="gclf_network ended with -9: it said nothing"):
            worker.ask(model=str(EMBEDDED))


def test_a_worker_that_is_too_slow_is_ended_and_named():
    with (
        Worker("calls", timeout_s=0.01) as worker,
        pytest.raises(WorkerError, match=r"calls did not answer within 0\.01 s"),
    ):
        worker.ask()


def test_callers_work_at_the_same_time():
    together = threading.Barrier(3, timeout=10)

    found = closed_loop([together.wait] * 3, at_least_s=0.0)
    shared = per_picture([together.wait] * 3, pictures=4, at_least_s=0.0)

    assert len(found.seconds) == 3
    assert shared > 0


@pytest.mark.parametrize("callers", [1, 2])
def test_a_turn_is_the_mean_of_its_calls(callers: int):
    found = per_picture([lambda: time.sleep(0.01)] * callers, pictures=10, at_least_s=0.03)

    assert 0.001 / callers <= found < 0.1
