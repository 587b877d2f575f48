"""Items to answers, overlapped, in bounded memory and stable order.

N symmetric workers each take a chunk of items, decode it into a batch of their own and run the
shared session on it, so that one worker decodes while another computes.
Axes: n batch, h height, w width, c channels (RGB), k classes.
"""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Condition, Thread
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gclf_runtime import images
from gclf_runtime.errors import ImageError
from gclf_runtime.items import Item
from gclf_runtime.session import Session

_CHUNKS_AHEAD = 2  # per worker: one in work, one waiting, so that no worker idles
_BYTES_AHEAD = 64 * 1024 * 1024  # of items that bring their bytes
_PATIENCE_S = 0.1  # how long a chunk waits for items that are slow to come
_ITEMS_PER_LOCK = 8  # a lock for each is 4 % of a small picture


class Answer(NamedTuple):
    """Probabilities and logits, float32 (K,), and the pixels (H, W, 3) when they were asked for."""

    probabilities_k: NDArray[np.float32]
    logits_k: NDArray[np.float32]
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
    ahead = _Ahead(items, capacity=workers * batch_size)
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

    Args:
        items: The source.
        capacity: How many items are held until they are taken.
    """

    def __init__(self, items: Iterable[Item], capacity: int) -> None:
        self.failure: Exception | None = None
        self._source, self._capacity = items, capacity
        self._items: deque[Item] = deque()
        self._bytes = 0  # of items that brought them, until they are released
        self._has_ended = self._is_closed = self._is_full = False
        self._changed = Condition()
        Thread(target=self._read, daemon=True, name="gclf source").start()

    def take(self, size: int, *, unless: Future[list[Outcome]] | None) -> list[Item]:
        """Wait for `size` items, or fewer when they are slow; [] at the end.

        Args:
            size: How many; 0 waits for `unless` only.
            unless: Return [] as soon as this is done.
        """
        with self._changed:
            is_patient = True
            while not (unless and unless.done()):
                is_enough = len(self._items) >= size or self._has_ended or self._is_full
                if size and self._items and (is_enough or not is_patient):
                    chunk = [self._items.popleft() for _ in range(min(size, len(self._items)))]
                    self._changed.notify_all()
                    return chunk
                if self._has_ended and not self._items and not unless:
                    break
                is_patient = self._changed.wait(_PATIENCE_S)
        return []

    def release(self, chunk: list[Item]) -> None:
        """Say that the bytes of these items are no longer held."""
        with self._changed:
            self._bytes -= sum(map(_size, chunk))
            self._changed.notify_all()

    def notify(self, _: object) -> None:
        """Wake who waits."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread, once the source gives its next item."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _read(self) -> None:
        try:
            for item in self._source:
                self._items.append(item)
                size = _size(item)
                if not size and len(self._items) % _ITEMS_PER_LOCK:
                    continue
                with self._changed:
                    self._bytes += size
                    self._changed.notify_all()
                    while not self._is_closed and self._must_wait():
                        self._is_full = True
                        self._changed.notify_all()
                        self._changed.wait()
                    self._is_full = False
                    if self._is_closed:
                        return
        except Exception as error:
            self.failure = error
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def _must_wait(self) -> bool:
        return len(self._items) >= self._capacity or self._bytes >= _BYTES_AHEAD


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
            answers = map(Answer, *self._session.run(seen_nhwc), pixels)
        return [next(answers) if error is None else error for error in errors]

    def _load(self, item: Item) -> NDArray[np.uint8]:
        if isinstance(item.data, ImageError):
            raise item.data
        source = item.name if item.data is None else item.data
        return images.load(source, self._session.spec.input, max_pixels=self._max_pixels)
