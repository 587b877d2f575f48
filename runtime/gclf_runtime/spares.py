"""Worker processes that start before there is work for them."""

import contextlib
import os
import subprocess
import sys
import weakref
from collections.abc import Sequence
from typing import TypeAlias

Process: TypeAlias = "subprocess.Popen[bytes]"
COMMAND = (sys.executable, "-P", "-m", "gclf_runtime.worker")


class Spares:
    """Worker processes that start before there is a pool; those that none takes end with this.

    Args:
        count: How many; fewer when the machine has no room for them.
        command: What starts a worker.
    """

    def __init__(self, count: int, command: Sequence[str] = COMMAND) -> None:
        self._processes: list[Process] = []
        with contextlib.suppress(OSError):
            for _ in range(count):
                self._processes.append(spawn(command))
        weakref.finalize(self, _end, self._processes, os.getpid())

    def __len__(self) -> int:
        return len(self._processes)

    def take(self) -> "Process | None":
        """Return one, or None when there is none left."""
        try:
            return self._processes.pop()
        except IndexError:
            return None


def spawn(command: Sequence[str]) -> Process:
    """Start a worker process; it ends when its standard input does."""
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"OPENBLAS_NUM_THREADS": "1", **os.environ},  # as gclf-infer itself
    )


def _end(processes: list[Process], parent: int) -> None:
    if os.getpid() != parent:  # a forked child: they are not its own
        return
    for process in processes:
        process.kill()
        process.communicate()
