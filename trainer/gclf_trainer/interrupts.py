"""Ctrl-C and SIGTERM: one line and the exit, at once, whatever the main thread is doing.

Python itself handles a signal between two lines of Python, and a step of a large network is one
line that may take many seconds. So a thread waits for signals. Ending without further ado is safe
because every file of a run is written whole.
"""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from threading import Thread

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def end_on_signals(last_line: Callable[[], str]) -> None:
    """End the process from now on by `os._exit(128 + signal)`.

    Args:
        last_line: Called then; its text goes to stderr, "" is nothing.
    """
    listening, told = socket.socketpair()  # a pipe would not do on Windows
    told.setblocking(False)
    for number in _SIGNALS:
        signal.signal(number, _left_to_the_thread)
    signal.set_wakeup_fd(told.detach(), warn_on_full_buffer=False)
    Thread(target=_wait, args=(listening, last_line), daemon=True).start()


def _left_to_the_thread(number: int, frame: object) -> None:
    """Do nothing; that there is a handler lets Python tell the thread."""


def _wait(listening: socket.socket, last_line: Callable[[], str]) -> None:
    number = 0
    while number not in _SIGNALS:
        number = listening.recv(1)[0]
    cursor = "\r\x1b[K\x1b[?25h" if sys.stderr.isatty() else ""
    with contextlib.suppress(OSError):
        if line := last_line():
            os.write(2, f"{cursor}{line}\n".encode(errors="replace"))
    os._exit(128 + number)
