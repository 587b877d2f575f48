"""Items to answers, overlapped, in bounded memory and stable order.

N symmetric workers each take a chunk of items, decode it into a batch of their own and run the
shared session on it, so that one worker decodes while another computes.
Axes: n batch, h height, w width, c channels (RGB), k classes.
"""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gclf_runtime import images
from gclf_runtime.errors import ImageError
from gclf_runtime.items import Item
from gclf_runtime.session import Session
from gclf_runtime.spec import InputSpec

_CHUNKS_AHEAD = 2  # per worker: one in work, one waiting, so that no worker idles
_CHUNK_BYTES = 32 * 1024 * 1024  # of items that bring their bytes: a chunk of them ends here


class Answer(NamedTuple):
    """Probabilities and logits, float32 (K,), and the pixels (H, W, 3) when they were asked for."""

    probabilities_k: NDArray[np.float32]
    logits_k: NDArray[np.float32]
    pixels_hwc: NDArray[np.uint8] | None


Outcome: TypeAlias = Answer | ImageError


def run_items(
    session: Session,
    items: Iterable[Item],
    *,
    workers: int,
    batch_size: int,
    max_pixels: int = images.MAX_PIXELS,
    keep_pixels: bool = False,
) -> Generator[tuple[Item, Outcome]]:
    """Decode and classify.

    Args:
        session: The loaded model.
        items: Any number of inputs, taken from the iterable as they are needed.
        workers: Threads that decode and compute.
        batch_size: Items per chunk.
        max_pixels: Refuse a picture that would hold more pixels than this in memory.
        keep_pixels: Hand out the pixels that the model saw.

    Yields:
        One (item, outcome) per item, in order: the answer, or the error that kept it from being
        read. An error of the iterable itself is raised after the outcomes of what came before it.
    """
    chunks = _chunks(items, batch_size)
    pending: deque[Future[list[Outcome]]] = deque()
    held: deque[list[Item]] = deque()
    failure: Exception | None = None
    pool = ThreadPoolExecutor(workers, thread_name_prefix="gclf")
    try:
        while True:
            while failure is None and len(pending) < workers * _CHUNKS_AHEAD:
                try:
                    chunk = next(chunks, None)
                except Exception as error:
                    failure = error
                    break
                if chunk is None:
                    break
                held.append(chunk)
                pending.append(pool.submit(_run_chunk, session, chunk, max_pixels, keep_pixels))
            if not pending:
                break
            outcomes = pending.popleft().result()
            yield from zip(held.popleft(), outcomes, strict=True)
        if failure is not None:
            raise failure
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Group items; what came before an error of the iterable is a chunk too."""
    chunk: list[Item] = []
    held_bytes = 0
    source = iter(items)
    while True:
        try:
            item = next(source, None)
        except Exception:
            if chunk:
                yield chunk
            raise
        if item is None:
            break
        chunk.append(item)
        held_bytes += len(item.data) if isinstance(item.data, bytes) else 0
        if len(chunk) == size or held_bytes > _CHUNK_BYTES:
            yield chunk
            chunk, held_bytes = [], 0
    if chunk:
        yield chunk


def _run_chunk(
    session: Session, items: list[Item], max_pixels: int, keep_pixels: bool
) -> list[Outcome]:
    spec = session.spec.input
    batch_nhwc = np.empty((len(items), spec.height, spec.width, 3), np.uint8)
    outcomes: list[ImageError | None] = []
    count = 0
    for item in items:
        try:
            batch_nhwc[count] = _load(item, spec, max_pixels)
            outcomes.append(None)
            count += 1
        except ImageError as error:
            outcomes.append(error)
    answers = iter(())
    if count:
        seen_nhwc = batch_nhwc[:count]
        pixels = seen_nhwc if keep_pixels else [None] * count
        answers = map(Answer, *session.run(seen_nhwc), pixels)
    return [next(answers) if error is None else error for error in outcomes]


def _load(item: Item, spec: InputSpec, max_pixels: int) -> NDArray[np.uint8]:
    if isinstance(item.data, ImageError):
        raise item.data
    source = item.name if item.data is None else item.data
    return images.load(source, spec, max_pixels=max_pixels)
