"""Whole processes, as a user would start them: how long, how much CPU, how much memory."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import environment_of

GCLF_INFER = str(Path(sys.executable).with_name("gclf-infer"))
_STARTER = Path(__file__).with_name("starter.py")
_TIMEOUT_S = 900


@dataclass(frozen=True)
class Run:
    """What a whole process took: wall seconds, CPU seconds with its children's, megabytes."""

    seconds: float
    cpu_s: float
    peak_mb: float


class ProcessError(RuntimeError):
    """A command did not end well; the message has its last words."""


def run(
    command: Sequence[str | Path],
    *,
    watch: bool = False,
    timeout_s: float = _TIMEOUT_S,
) -> Run:
    """Start a command, wait for it, say what it took.

    Args:
        command: And its arguments.
        watch: Add up the memory of its descendants too, at some cost in time.
        timeout_s: It is killed with all its children when it takes longer.

    Raises:
        ProcessError: Its exit code is not 0, or it took too long.
    """
    name = Path(str(command[0])).name
    words = [*(["--watch"] if watch else []), *map(str, command)]
    with subprocess.Popen(
        [sys.executable, "-S", "-E", str(_STARTER), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment_of(command[0]),
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            said, complained = process.communicate(timeout=timeout_s)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)  # its children too, for they hold its pipes
            if isinstance(error, subprocess.TimeoutExpired):
                raise ProcessError(f"{name} did not end within {timeout_s:g} s") from error
            raise
    if process.returncode:
        last = "\n".join(complained.strip().splitlines()[-5:])
        raise ProcessError(f"{name} ended with {process.returncode}: {last}")
    return Run(**json.loads(said))


def gclf_infer(
    folder: Path, rows: Path, *, model: Path | None = None, device: str = "cpu"
) -> list[str]:
    """Return our command for a folder of pictures."""
    named = ["--model", str(model)] if model else []
    return [GCLF_INFER, "--batch", str(folder), "--output", str(rows), "--device", device, *named]
