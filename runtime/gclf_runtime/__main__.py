"""The command: gclf-infer, or python -m gclf_runtime."""

import os
import signal
import sys
from typing import NoReturn


def main() -> None:
    """Run the command; until it has handlers of its own, a signal ends it without a word."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    # numpy's BLAS starts threads that spin for 0.1 s, and nothing here multiplies matrices.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from gclf_runtime import cli

    try:
        cli.main()
    except SystemExit as end:
        _end(end)


def _end(end: SystemExit) -> NoReturn:
    """End the process with all written; for Python to take itself apart takes 30 ms more."""
    if not isinstance(end.code, int | None):  # a message, which Python prints
        raise end
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):  # the shell may have closed one
            stream.flush()
    except OSError:
        raise end from None
    os._exit(end.code or 0)


def _leave(number: int, _frame: object) -> NoReturn:
    os._exit(128 + number)


if __name__ == "__main__":
    main()
