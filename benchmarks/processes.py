"""Whole processes, as a user would start them: how long, how much CPU, how much memory."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

GCLF_INFER = str(Path(sys.executable).with_name("gclf-infer"))
_STARTER = Path(__file__).with_name("starter.py")
_TIMEOUT_S = 900
_OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # would lead a peer to our packages


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
) -> Run:
    """Start a command, wait for it, say what it took.

    Args:
        command: And its arguments.
        watch: Add up the memory of its descendants too, at some cost in time.

    Raises:
        ProcessError: Its exit code is not 0.
    """
    words = [*(["--watch"] if watch else []), *map(str, command)]
    done = subprocess.run(
        [sys.executable, "-S", "-E", str(_STARTER), *words],
        capture_output=True,
        env={name: value for name, value in os.environ.items() if name not in _OURS},
        text=True,
        errors="replace",
        timeout=_TIMEOUT_S,
    )
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise ProcessError(f"{Path(str(command[0])).name} ended with {done.returncode}: {last}")
    return Run(**json.loads(done.stdout))


def gclf_infer(
    folder: Path, rows: Path, *, model: Path | None = None, device: str = "cpu"
) -> list[str]:
    """Return our command for a folder of pictures."""
    named = ["--model", str(model)] if model else []
    return [GCLF_INFER, "--batch", str(folder), "--output", str(rows), "--device", device, *named]
