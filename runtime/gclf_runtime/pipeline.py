"""Items to answers, overlapped, in bounded memory and stable order.

N symmetric workers each take a chunk of items, decode it into a batch of their own and run the
shared session on it, so that one worker decodes while another computes.
Axes: n batch, h height, w width, c channels (RGB), k classes.
"""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Condition, Lock, Thread
from typing import NamedTuple, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from gclf_runtime import images
from gclf_runtime.errors import ImageError
from gclf_runtime.items import Item
from gclf_runtime.session import Session

_CHUNKS_AHEAD = 2  # per worker: one in work, one waiting, so that no worker idles
_BYTES_AHEAD = 64 * 1024 * 1024  # of items that bring their bytes
_PATIENCE_S = 0.1  # how long a chunk waits for items that are slow to come


class Answer(NamedTuple):
    """Probabilities and logits, float32 (K,), and the pixels (H, W, 3) when they were asked for.

    `best` is the index of the most probable class.
    """

    probabilities_k: NDArray[np.float32]
    logits_k: NDArray[np.float32]
    best: int
    pixels_hwc: NDArray[np.uint8] | None


Outcome: TypeAlias = Answer | ImageError


class Runner(Protocol):
    """What answers a chunk; calls may come from any thread."""

    def run(self, items: list[Item]) -> list[Outcome]:
        """Return one outcome per item, in order."""
        ...


def run_items(
    runner: Runner, items: Iterable[Item], *, workers: int, batch_size: int
) -> Generator[tuple[Item, Outcome]]:
    """Decode and classify.

    Args:
        runner: What answers a chunk.
        items: Any number of inputs, read in a thread of its own as they are needed.
        workers: Threads that call the runner.
        batch_size: Items per chunk; fewer when no more come for a while, so that rows follow
            their inputs.

    Yields:
        One (item, outcome) per item, in order: the answer, or the error that kept it from being
        read. An error of the iterable itself is raised after the outcomes of what came before it.
    """
    ahead = _Ahead(items, capacity=2 * workers * batch_size)
    pending: deque[tuple[list[Item], Future[list[Outcome]]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="gclf")
    try:
        while True:
            places = workers * _CHUNKS_AHEAD - len(pending)
            head = pending[0][1] if pending else None
            chunk = ahead.take(batch_size if places else 0, unless=head)
            if chunk:
                future = pool.submit(runner.run, chunk)
                future.add_done_callback(ahead.notify)
                pending.append((chunk, future))
            elif pending:
                chunk, future = pending.popleft()
                yield from zip(chunk, future.result(), strict=True)
                ahead.release(chunk)
            else:
                break
        if ahead.failure:
            raise ahead.failure
    finally:
        ahead.close()
        pool.shutdown(wait=True, cancel_futures=True)


class _Ahead:
    """Reads a source in a thread, not too far ahead.

    Who waits is woken only for what it waits for: waking for every few items was measured to cost
    some 20 µs of CPU per picture.

    Args:
        items: The source.
        capacity: How many items are held until they are taken.
    """

    def __init__(self, items: Iterable[Item], capacity: int) -> None:
        self.failure: Exception | None = None
        self._source, self._capacity = items, capacity
        self._items: deque[Item] = deque()
        self._bytes = 0  # of items that brought them, until they are released
        self._wanted = capacity  # how many items are waited for
        self._has_ended = self._is_closed = self._is_full = False
        lock = Lock()
        self._changed, self._has_room = Condition(lock), Condition(lock)
        self._thread = Thread(target=self._read, daemon=True, name="gclf source")
        self._thread.start()

    def take(self, size: int, *, unless: Future[list[Outcome]] | None) -> list[Item]:
        """Wait for `size` items, or fewer when they are slow; [] at the end.

        Args:
            size: How many; 0 waits for `unless` only.
            unless: Return [] as soon as this is done.
        """
        with self._changed:
            self._wanted = size or self._capacity
            is_patient = True
            while not (unless and unless.done()):
                is_enough = len(self._items) >= size or self._has_ended or self._is_full
                if size and self._items and (is_enough or not is_patient):
                    return self._pop(size)
                if self._has_ended and not self._items and not unless:
                    break
                is_patient = self._changed.wait(_PATIENCE_S)
        return []

    def _pop(self, size: int) -> list[Item]:
        chunk = [self._items.popleft() for _ in range(min(size, len(self._items)))]
        self._wanted = self._capacity
        if self._is_full:
            self._has_room.notify()
        return chunk

    def release(self, chunk: list[Item]) -> None:
        """Say that the bytes of these items are no longer held."""
        if size := sum(map(_size, chunk)):
            with self._has_room:
                self._bytes -= size
                self._has_room.notify()

    def notify(self, _: object) -> None:
        """Wake who waits for a chunk."""
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """End the thread, once the source gives its next item; a slow one is not waited for."""
        with self._has_room:
            self._is_closed = True
            self._has_room.notify()
        self._thread.join(_PATIENCE_S)

    def _read(self) -> None:
        try:
            for item in self._source:
                self._items.append(item)
                size = _size(item)
                if not size and len(self._items) < self._wanted:
                    continue
                with self._changed:
                    self._bytes += size
                    if len(self._items) >= self._wanted:
                        self._changed.notify()
                    self._wait_for_room()
                    if self._is_closed:
                        return
        except Exception as error:
            self.failure = error
        with self._changed:
            self._has_ended = True
            self._changed.notify()

    def _wait_for_room(self) -> None:
        if len(self._items) < self._capacity and self._bytes < _BYTES_AHEAD:
            return
        self._is_full = True
        self._changed.notify()
        while not self._is_closed and (
            len(self._items) > self._capacity // 2 or self._bytes >= _BYTES_AHEAD
        ):
            self._has_room.wait()
        self._is_full = False


def _size(item: Item) -> int:
    return len(item.data) if isinstance(item.data, bytes) else 0


class SessionRunner:
    """Decodes a chunk into a batch and runs the session on it, in the calling thread.

    Args:
        session: The loaded model.
        max_pixels: Refuse a picture that would hold more pixels than this in memory.
        keep_pixels: Hand out the pixels that the model saw.
    """

    def __init__(
        self, session: Session, *, max_pixels: int = images.MAX_PIXELS, keep_pixels: bool = False
    ) -> None:
        self._session, self._max_pixels, self._keep_pixels = session, max_pixels, keep_pixels

    def run(self, items: list[Item]) -> list[Outcome]:
        """Return one outcome per item, in order."""
        spec = self._session.spec.input
        batch_nhwc = np.empty((len(items), spec.height, spec.width, 3), np.uint8)
        errors: list[ImageError | None] = []
        count = 0
        for item in items:
            try:
                batch_nhwc[count] = self._load(item)
                errors.append(None)
                count += 1
            except ImageError as error:
                errors.append(ImageError(error.kind, error.reason, name=item.name))
        answers: Iterator[Answer] = iter(())
        if count:
            seen_nhwc = batch_nhwc[:count]
            pixels = seen_nhwc if self._keep_pixels else [None] * count
            probabilities_nk, logits_nk = self._session.run(seen_nhwc)
            # For the whole batch: numpy gives up the interpreter for every argmax of its own, and
            # waits 9 µs to have it back from busy workers.
            best = cast("list[int]", probabilities_nk.argmax(1).tolist())
            answers = map(Answer, probabilities_nk, logits_nk, best, pixels)
        return [next(answers) if error is None else error for error in errors]

    def _load(self, item: Item) -> NDArray[np.uint8]:
        if isinstance(item.data, ImageError):
            raise item.data
        source = item.name if item.data is None else item.data
        return images.load(source, self._session.spec.input, max_pixels=self._max_pixels)
