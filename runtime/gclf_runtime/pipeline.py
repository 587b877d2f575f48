"""Files to answers, overlapped, in bounded memory and stable order.

N symmetric workers each take a chunk of files, decode it into a batch of their own and run the
shared session on it, so that one worker decodes while another computes.
Axes: n batch, h height, w width, c channels (RGB), k classes.
"""

import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gclf_runtime import images
from gclf_runtime.errors import ImageError
from gclf_runtime.session import Session

_CHUNK = 16  # files per task: small enough to show the first row at once, large enough to batch
_CHUNKS_AHEAD = 2  # per worker: one in work, one waiting, so that no worker idles

Outputs: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]  # (K,) each
Outcome: TypeAlias = Outputs | ImageError


def run_files(
    session: Session, paths: Iterable[str | os.PathLike[str]], *, workers: int
) -> Generator[tuple[Path, Outcome]]:
    """Decode and classify files.

    Args:
        session: The loaded model.
        paths: Any number of files, taken from the iterable as they are needed.
        workers: Threads that decode and compute.

    Yields:
        One (path, outcome) per path, in order: probabilities and logits, float32 (K,) each, or
        the error that kept the file from being read.
    """
    files = iter(paths)
    pending: deque[Future[list[tuple[Path, Outcome]]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="gclf")
    try:
        while True:
            while len(pending) < workers * _CHUNKS_AHEAD:
                chunk = [Path(path) for path in islice(files, _CHUNK)]
                if not chunk:
                    break
                pending.append(pool.submit(_run_chunk, session, chunk))
            if not pending:
                return
            yield from pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _run_chunk(session: Session, paths: list[Path]) -> list[tuple[Path, Outcome]]:
    spec = session.spec.input
    batch_nhwc = np.empty((len(paths), spec.height, spec.width, 3), np.uint8)
    errors: dict[int, ImageError] = {}
    rows: dict[int, int] = {}
    for index, path in enumerate(paths):
        try:
            batch_nhwc[len(rows)] = images.load(path, spec)
            rows[index] = len(rows)
        except ImageError as error:
            errors[index] = error
    if not rows:
        return [(path, errors[i]) for i, path in enumerate(paths)]
    probabilities_nk, logits_nk = session.run(batch_nhwc[: len(rows)])
    return [
        (path, errors[i] if i in errors else (probabilities_nk[rows[i]], logits_nk[rows[i]]))
        for i, path in enumerate(paths)
    ]
