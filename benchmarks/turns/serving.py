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
    work: Callable[[], object], *, pictures: int, callers: int, at_least_s: float
) -> list[float]:
    """Time calls for one turn; return seconds per picture.

    Args:
        work: One call.
        pictures: In one call.
        callers: Threads that call at the same time; of one, every call is a value.
        at_least_s: How long the turn takes at least.
    """
    end = time.perf_counter() + at_least_s
    if callers == 1:
        return [seconds / pictures for seconds in _until(end, work)]
    with ThreadPoolExecutor(callers) as pool:
        start = time.perf_counter()
        futures = [pool.submit(_until, end, work) for _ in range(callers)]
        calls = sum(len(future.result()) for future in futures)
        return [(time.perf_counter() - start) / (calls * pictures)]


def closed_loop(
    works: Sequence[Callable[[], object]], *, at_least_s: float
) -> dict[str, float | list[float]]:
    """Let as many callers as there are works call on and on.

    Returns:
        The `seconds` of every call, and the `rate`: calls per second of all together.
    """
    ready = threading.Barrier(len(works) + 1)

    def call(work: Callable[[], object]) -> list[float]:
        ready.wait()
        return _until(time.perf_counter() + at_least_s, work)

    with ThreadPoolExecutor(len(works)) as pool:
        futures = [pool.submit(call, work) for work in works]
        ready.wait()
        start = time.perf_counter()
        seconds = [value for future in futures for value in future.result()]
        return {"seconds": seconds, "rate": len(seconds) / (time.perf_counter() - start)}


def _until(end: float, work: Callable[[], object]) -> list[float]:
    taken: list[float] = []
    while not taken or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return taken
