"""Run a command as a whole process and print what it took, as a line of JSON.

    python -S -E starter.py [--watch] COMMAND...

It is a small process of its own because the peak of a child counts what its parent held when it
forked. With --watch the proportional set size of the command and all its descendants is added up
every 10 ms, which costs some time: for memory, not for speed. It reads /proc: Linux only.
"""

import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

_INTERVAL_S, _PATIENCE_S = 0.01, 5.0
_SET_CHILD_SUBREAPER = 36  # of prctl: who loses its parent becomes a child of this process


def main() -> int:
    """Run it; return its exit code."""
    watches = sys.argv[1] == "--watch"
    command = sys.argv[2:] if watches else sys.argv[1:]
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    largest, ended = 0, False
    while watches and not ended:
        largest = max(largest, sum(map(_kilobytes, _tree(process.pid))))
        time.sleep(_INTERVAL_S)
        ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    _reap()
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken = {
        "seconds": seconds,
        "cpu_s": spent.ru_utime + spent.ru_stime,
        # Of the largest single process, exactly; of all together, as often as it was looked at.
        "peak_mb": max(usage.ru_maxrss, largest) / 1024,
    }
    print(json.dumps(taken))
    return os.waitstatus_to_exitcode(status)


def _reap() -> None:
    """Wait some time for what the command left behind: its CPU time counts too."""
    end = time.perf_counter() + _PATIENCE_S
    while time.perf_counter() < end:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(_INTERVAL_S)
        except ChildProcessError:
            return


def _tree(root: int) -> list[int]:
    """Return a process and its descendants."""
    found = [root]
    for pid in found:
        try:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, children.read_text().split())
        except OSError:
            continue  # it has ended
    return found


def _kilobytes(pid: int) -> int:
    """Return the proportional set size: shared pages count once among those who share them."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


if __name__ == "__main__":
    sys.exit(main())
