"""A few threads at a time, in the order in which they came."""

from collections import deque
from threading import Lock, get_ident

_PATIENCE_S = 1.0


class Turnstile:
    """Lets a number of threads in at a time; the others wait in line.

    A place that is given up goes to whoever has waited longest. `threading.Semaphore` gives it to
    whoever asks next, who is most often the thread that has just left, and some wait for long.

    A thread that is in may come in again, and is out when it first leaves. So a place that was not
    given up, because a signal's handler raised on the way out, is found again by its thread; until
    then the others have one less.

    Args:
        places: How many threads may be in.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._lock = Lock()
        self._inside: set[int] = set()
        self._waiting: deque[tuple[int, Lock]] = deque()

    def __enter__(self) -> None:
        me, bell = get_ident(), Lock()
        try:
            with self._lock:
                if me in self._inside or len(self._inside) < self._places:
                    self._inside.add(me)
                    return
                bell.acquire()
                self._waiting.append((me, bell))
            while me not in self._inside:
                if not bell.acquire(timeout=_PATIENCE_S):
                    self._look(me, bell)
        except BaseException:  # Ctrl-C while it waits
            with self._lock:
                self._waiting = deque(each for each in self._waiting if each[1] is not bell)
                self._inside.discard(me)
                self._admit()
            raise

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside.discard(get_ident())
            self._admit()

    def _admit(self) -> None:
        while self._waiting and len(self._inside) < self._places:
            who, bell = self._waiting.popleft()
            self._inside.add(who)
            bell.release()

    def _look(self, me: int, bell: Lock) -> None:
        """Do what a thread that was interrupted while it let others in has left undone."""
        with self._lock:
            if me not in self._inside and (me, bell) not in self._waiting:
                self._waiting.appendleft((me, bell))
            self._admit()
