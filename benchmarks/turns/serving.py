"""A contender in a process of its own that takes its turns when told.

A request comes in as one line of JSON, one line of JSON goes back: an answer, or the error that
kept it from being one. What libraries print goes to stderr, where it is nobody's answer. It needs
the standard library alone, for it runs in the environments of peers.
"""

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any


def serve(answer: Callable[[dict[str, Any]], Any]) -> None:
    """Answer requests until there are no more."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        try:
            reply = {"answer": answer(json.loads(line))}
        except Exception as error:
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def per_picture(
    works: Sequence[Callable[[], object]], *, pictures: int, at_least_s: float
) -> float:
    """Let callers call on and on for one turn; return the seconds per picture.

    It is the mean of the turn for one caller too. The median of its calls would leave out the
    moments when the machine does other work, and those of several callers would not.

    Args:
        works: A call of each caller; they call at the same time, from a thread each.
        pictures: In one call.
        at_least_s: How long the turn takes at least.
    """
    if len(works) == 1:
        start = time.perf_counter()
        calls = len(_until(start + at_least_s, works[0]))
        return (time.perf_counter() - start) / (calls * pictures)
    found = closed_loop(works, at_least_s=at_least_s)
    return 1 / (found.per_second * pictures)


@dataclass(frozen=True)
class Calls:
    """What callers took: the seconds of each call, and calls per second of all together."""

    seconds: list[float]
    per_second: float


def closed_loop(works: Sequence[Callable[[], object]], *, at_least_s: float) -> Calls:
    """Let as many callers as there are works call on and on."""
    starts: list[float] = []
    ready = threading.Barrier(len(works), action=lambda: starts.append(time.perf_counter()))

    def call(work: Callable[[], object]) -> list[float]:
        ready.wait()
        return _until(time.perf_counter() + at_least_s, work)

    with ThreadPoolExecutor(len(works)) as pool:
        futures = [pool.submit(call, work) for work in works]
        seconds = [value for future in futures for value in future.result()]
        return Calls(seconds, len(seconds) / (time.perf_counter() - starts[0]))


def _until(end: float, work: Callable[[], object]) -> list[float]:
    taken: list[float] = []
    while not taken or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return taken
