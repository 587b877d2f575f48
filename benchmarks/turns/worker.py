"""Contenders that live in processes of their own, and take their turns when told.

Each is alone in its process, with its own threads and libraries, yet all take part in one run; a
module that says what it needs (PEP 723) has an environment of its own. The other end is
`benchmarks.turns.serving`.
"""

import json
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.environments import environment_of, python_of, versions

_ROOT = Path(__file__).parents[2]
_TIMEOUT_S = 300


class WorkerError(RuntimeError):
    """A contender died or could not answer; the message has its last words."""


class Worker:
    """A process that answers one request at a time.

    Args:
        module: Of `benchmarks.turns`.
        timeout_s: It is killed when an answer takes longer.

    Attributes:
        name: The module's.
        versions: Of the packages in its environment; none where it shares ours.

    Raises:
        PeerError: Its environment cannot be made.
    """

    def __init__(self, module: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        self.name, self._timeout_s = module, timeout_s
        peer = _peer(module)
        python = python_of(peer) if peer else Path(sys.executable)
        self.versions = versions(peer) if peer else {}
        self._said = tempfile.TemporaryFile(  # noqa: SIM115 - open as long as the process runs
            "w+", encoding="utf-8", errors="replace"
        )
        self._process = subprocess.Popen(
            [python, "-m", f"benchmarks.turns.{module}"],
            cwd=_ROOT,
            env=environment_of(python),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )

    def ask(self, **request: Any) -> Any:
        """Send a request and wait for its answer.

        Raises:
            WorkerError: The process ended, was too slow, or could not answer.
        """
        assert self._process.stdin
        assert self._process.stdout
        clock = threading.Timer(self._timeout_s, self._process.kill)
        clock.start()
        try:
            with suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()
            line = self._process.stdout.readline()
        finally:
            is_slow = not clock.is_alive()
            clock.cancel()
        if not line and is_slow:
            raise WorkerError(f"{self.name} did not answer within {self._timeout_s:g} s")
        if not line:
            code = self._process.wait()
            raise WorkerError(f"{self.name} ended with {code}: {self._last_words()}")
        reply = json.loads(line)
        if "error" in reply:
            raise WorkerError(f"{self.name}: {reply['error']}")
        return reply["answer"]

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        assert self._process.stdout
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process.stdout.close()
        self._said.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _last_words(self) -> str:
        self._said.seek(0)
        return " / ".join(self._said.read().strip().splitlines()[-5:]) or "it said nothing"


def _peer(module: str) -> Path | None:
    """Return the script of a module that says what it needs."""
    script = Path(__file__).with_name(f"{module}.py")
    is_peer = script.is_file() and script.read_text(encoding="utf-8").startswith("# /// script")
    return script if is_peer else None
