"""Chunks answered by other processes: more than a few cores need more than one interpreter.

A worker ends when its input does, so none outlives its parent; one that dies is replaced, and the
picture that it dies of is an error in its row.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, BinaryIO, cast

import numpy as np

from gclf_runtime.errors import GclfError, ImageError, ModelError
from gclf_runtime.items import Item
from gclf_runtime.pipeline import Answer, Outcome, Runner
from gclf_runtime.spares import COMMAND, Process, Spares, spawn
from gclf_runtime.spec import ModelSpec
from gclf_runtime.worker import read_message, write_message


class WorkerPool:
    """Runs chunks in worker processes; in this one until they have started.

    Args:
        model: The model file, opened by each worker on the CPU.
        runner: What runs chunks in this process.
        spec: The model's.
        sha256: The model's: a worker that finds another file there does not start.
        processes: How many workers. They start when there is work enough to be worth it.
        threads: How many chunks this process runs at a time while no worker is there.
        options: Keyword arguments of each worker's SessionRunner.
        command: What starts a worker.
        items_before_start: How many items are no work worth a start.
        spares: Processes of `command` that are already starting; the first chunk puts them to work.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        runner: Runner,
        spec: ModelSpec,
        *,
        sha256: str,
        processes: int,
        threads: int,
        options: Mapping[str, Any],
        command: Sequence[str] = COMMAND,
        items_before_start: int = 512,
        spares: Spares | None = None,
    ) -> None:
        self._opening = {
            "model": os.fspath(model),
            "sha256": sha256,
            "spec": spec.to_json(),
            **options,
        }
        self._runner, self._spec, self._command = runner, spec, command
        self._processes, self._items_before_start = processes, items_before_start
        # Each place in the queue is a chunk at work: first all here, in the end all in workers.
        self._free: SimpleQueue[Runner] = SimpleQueue()
        for _ in range(threads):
            self._free.put(runner)
        self._lock, self._workers, self._is_closed = Lock(), list[_Worker](), False
        self._items, self._places_to_give_up = 0, 0
        self._spares = spares
        if spares:  # there are some: the first chunk puts them to work
            self._items_before_start = 0

    def run(self, items: list[Item]) -> list[Outcome]:
        """Answer a chunk in whichever process is free."""
        self._start_workers_when_worth_it(len(items))
        runner = self._free.get()
        if not isinstance(runner, _Worker):
            try:
                return runner.run(items)
            finally:
                self._give_back(runner)
        try:
            outcomes = runner.run(items)
        except (OSError, ValueError) as error:
            if isinstance(error, GclfError):
                self._free.put(runner)
                raise
            self._drop(runner)
            return self._one_by_one(items)
        self._free.put(runner)
        return outcomes

    @property
    def worker_count(self) -> int:
        """How many workers are at work or being started."""
        with self._lock:
            return len(self._workers)

    def close(self) -> None:
        """End the workers."""
        with self._lock:
            self._is_closed = True
            workers, self._workers = self._workers, []
        for worker in workers:
            worker.close()

    def _drop(self, worker: "_Worker") -> None:
        with self._lock:
            if worker in self._workers:
                self._workers.remove(worker)
        worker.close()

    def _start_workers_when_worth_it(self, items: int) -> None:
        with self._lock:
            before, self._items = self._items, self._items + items
            is_time = before <= self._items_before_start < self._items
        for _ in range(self._processes if is_time else 0):
            Thread(target=self._start, daemon=True, name="gclf start").start()

    def _start(self) -> None:
        worker = self._open()
        if worker:
            with self._lock:
                self._places_to_give_up += 1
            self._free.put(worker)

    def _give_back(self, runner: Runner) -> None:
        """Make the place of a chunk that ran here free, unless a worker has taken it over."""
        with self._lock:
            is_taken_over = self._places_to_give_up > 0
            self._places_to_give_up -= is_taken_over
        if not is_taken_over:
            self._free.put(runner)

    def _open(self) -> "_Worker | None":
        """Start a worker and wait until it is ready; None when it fails or the pool is closed."""
        try:
            spare = self._spares.take() if self._spares else None
            worker = _Worker(spare or spawn(self._command), self._spec)
        except OSError:
            return None
        with self._lock:
            is_closed = self._is_closed
            if not is_closed:
                self._workers.append(worker)
        if is_closed or not worker.open(self._opening):
            self._drop(worker)
            return None
        return worker

    def _one_by_one(self, items: list[Item]) -> list[Outcome]:
        """Answer the chunk that a worker died of, each picture at its own risk."""
        outcomes: list[Outcome] = []
        worker = self._open()
        try:
            for item in items:
                if worker is None:
                    raise ModelError(
                        "a worker process ended and none could be started in its place. Free some "
                        "memory, or pass --processes 0"
                    )
                try:
                    outcomes += worker.run([item])
                except (OSError, ValueError) as error:
                    if isinstance(error, GclfError):
                        raise
                    self._drop(worker)
                    reason = "its decoder crashed. Save or convert it again"
                    outcomes.append(ImageError("corrupt", reason, name=item.name))
                    worker = self._open()
        finally:
            self._free.put(worker or self._runner)
        return outcomes


class _Worker:
    """One worker process, as its parent sees it."""

    def __init__(self, process: Process, spec: ModelSpec) -> None:
        self._process, self._spec = process, spec
        self._input = cast(BinaryIO, process.stdin)
        self._output = cast(BinaryIO, process.stdout)

    def open(self, opening: Mapping[str, Any]) -> bool:
        """Say what to open; tell whether it was opened."""
        try:
            write_message(self._input, opening, b"")
            return read_message(self._output)[0] == "ready"
        except (OSError, ValueError):
            return False

    def run(self, items: list[Item]) -> list[Outcome]:
        """Answer a chunk. OSError or ValueError: the process has ended."""
        inputs = [item for item in items if not isinstance(item.data, ImageError)]
        blobs = [item.data for item in inputs if isinstance(item.data, bytes)]
        sizes = [len(item.data) if isinstance(item.data, bytes) else None for item in inputs]
        names = [item.name for item in inputs]
        write_message(self._input, {"names": names, "sizes": sizes}, b"".join(blobs))
        reply, data = read_message(self._output)
        if "failure" in reply:
            raise ModelError(reply["failure"])
        errors: list[dict[str, Any] | None] = reply["errors"]
        answers = iter(_answers(data, errors.count(None), self._spec, reply["has_pixels"]))
        outcomes = iter(
            [
                next(answers) if e is None else ImageError(e["kind"], e["reason"], name=name)
                for e, name in zip(errors, names, strict=True)
            ]
        )
        return [
            ImageError(item.data.kind, item.data.reason, name=item.name)
            if isinstance(item.data, ImageError)
            else next(outcomes)
            for item in items
        ]

    def close(self) -> None:
        """End the process, however it is."""
        self._process.kill()
        self._process.wait()
        for stream in (self._input, self._output):
            with contextlib.suppress(OSError):  # what could not be sent cannot be flushed
                stream.close()


def _answers(data: bytes, count: int, spec: ModelSpec, has_pixels: bool) -> list[Answer]:
    classes, size = len(spec.label_names), count * len(spec.label_names)
    values = np.frombuffer(data, np.float32, 2 * size).reshape(2, count, classes)
    pixels: Any = [None] * count
    if has_pixels:
        shape = (count, spec.input.height, spec.input.width, 3)
        pixels = np.frombuffer(data, np.uint8, offset=8 * size).reshape(shape)
    best = cast("list[int]", values[0].argmax(1).tolist())
    return [Answer(*answer) for answer in zip(*values, best, pixels, strict=True)]
