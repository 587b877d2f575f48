"""A few threads at a time, in the order in which they came."""

from collections import deque
from threading import Lock


class Turnstile:
    """Lets a number of threads in at a time; the others wait in line.

    A place that is given up goes to whoever has waited longest. `threading.Semaphore` gives it to
    whoever asks next, who is most often the thread that has just left, and some wait for long.

    Args:
        places: How many threads may be in.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._lock = Lock()
        self._waiting: deque[Lock] = deque()

    def __enter__(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            turn.acquire()
        except BaseException:  # Ctrl-C while it waits
            self._leave(turn)
            raise

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._give_up()

    def _leave(self, turn: Lock) -> None:
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
            else:  # it had been let in
                self._give_up()

    def _give_up(self) -> None:
        if self._waiting:
            self._waiting.popleft().release()
        else:
            self._free += 1
