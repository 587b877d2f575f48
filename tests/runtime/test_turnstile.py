import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from random import Random

import pytest

from gclf_runtime.turnstile import Turnstile


class Waiter:
    """A thread that stands in line, and says when it is in."""

    def __init__(self, turnstile: Turnstile, name: str, entered: list[str]) -> None:
        self._turnstile, self._name, self._entered = turnstile, name, entered
        self.may_go = threading.Event()
        self.thread = threading.Thread(target=self._wait)
        before = waiting(turnstile)
        self.thread.start()
        until(lambda: waiting(turnstile) > before)

    def _wait(self) -> None:
        with self._turnstile:
            self._entered.append(self._name)
            assert self.may_go.wait(10)


@contextmanager
def held(turnstile: Turnstile) -> Generator[None]:
    """Let another thread be in for a while."""
    is_in, may_go = threading.Event(), threading.Event()

    def hold() -> None:
        with turnstile:
            is_in.set()
            assert may_go.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert is_in.wait(10)
    yield
    may_go.set()
    thread.join()


def waiting(turnstile: Turnstile) -> int:
    return len(turnstile._waiting)  # pyright: ignore[reportPrivateUsage]


def until(claim: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not claim():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_as_many_are_in_as_there_are_places():
    turnstile, inside, most = Turnstile(2), list[int](), list[int]()

    def visit(number: int) -> None:
        with turnstile:
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.002)
            inside.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(visit, range(40)))

    assert max(most) == 2
    assert waiting(turnstile) == 0


def test_places_go_to_those_who_wait_in_the_order_they_came():
    turnstile, entered = Turnstile(1), list[str]()
    with turnstile:
        waiters = [Waiter(turnstile, name, entered) for name in ("first", "second", "third")]
    for count, waiter in enumerate(waiters, 1):
        until(lambda count=count: len(entered) == count)
        waiter.may_go.set()
        waiter.thread.join(10)

    assert entered == ["first", "second", "third"]


def test_who_leaves_does_not_get_in_again_before_those_who_wait():
    turnstile, entered = Turnstile(1), list[str]()
    with turnstile:
        waiter = Waiter(turnstile, "who waited", entered)
    waiter.may_go.set()
    with turnstile:
        entered.append("who came back")
    waiter.thread.join(10)

    assert entered == ["who waited", "who came back"]


def test_a_place_is_given_up_after_an_error():
    turnstile = Turnstile(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="inside"), turnstile:
            raise ValueError("inside")

    with turnstile:
        assert waiting(turnstile) == 0


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no SIGALRM on this system")
@pytest.mark.parametrize("has_turn", [False, True], ids=["in line", "just let in"])
def test_who_is_interrupted_in_line_takes_no_place_with_him(has_turn: bool):
    turnstile = Turnstile(1)

    def interrupt(*_: object) -> None:
        if has_turn:
            stack.close()
        raise KeyboardInterrupt

    def send() -> None:
        until(lambda: waiting(turnstile) == 1)
        os.kill(os.getpid(), signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with ExitStack() as stack:
            stack.enter_context(held(turnstile))
            sender = threading.Thread(target=send)
            sender.start()
            with pytest.raises(KeyboardInterrupt):
                turnstile.__enter__()
    finally:
        signal.signal(signal.SIGALRM, before)
    sender.join()

    assert waiting(turnstile) == 0
    with ThreadPoolExecutor(1) as pool, turnstile:
        other = pool.submit(turnstile.__enter__)  # it would be in at once had the place been lost
        until(lambda: waiting(turnstile) == 1)
    other.result()


def test_who_is_in_may_come_in_again():
    turnstile = Turnstile(1)
    with ThreadPoolExecutor(1) as pool, turnstile, turnstile:
        other = pool.submit(turnstile.__enter__)
        until(lambda: waiting(turnstile) == 1)

    other.result(10)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no SIGALRM on this system")
def test_signals_whose_handlers_raise_lose_no_place():
    class Alarm(BaseException):
        """What a worker's time limit raises."""

    def ring(*_: object) -> None:
        raise Alarm

    turnstile, is_over, delays = Turnstile(2), threading.Event(), Random(0)

    def visit() -> None:
        while not is_over.is_set():
            with turnstile:
                pass

    others = [threading.Thread(target=visit) for _ in range(3)]
    before = signal.signal(signal.SIGALRM, ring)
    for other in others:
        other.start()
    try:
        for _ in range(1000):
            with suppress(Alarm):
                signal.setitimer(signal.ITIMER_REAL, delays.uniform(5e-5, 5e-4))
                while True:
                    with turnstile:
                        pass
    finally:
        signal.signal(signal.SIGALRM, before)
        is_over.set()
    for other in others:
        other.join(10)

    assert not any(other.is_alive() for other in others)
    with turnstile:
        assert turnstile._inside == {threading.get_ident()}  # pyright: ignore[reportPrivateUsage]
    assert not turnstile._inside  # pyright: ignore[reportPrivateUsage]
