"""What a figure was measured on: without it no figure is written down."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.results import clean
from gclf_runtime.cpus import available_cpus

PACKAGES = ("onnxruntime", "onnxruntime-gpu", "numpy", "pillow", "simplejpeg", "torch")
_SCHEDULING = {os.SCHED_OTHER: "ordinary", os.SCHED_FIFO: "real-time", os.SCHED_RR: "real-time"}
_ROOT = Path(__file__).parent.parent


def conditions(seed: int) -> dict[str, Any]:
    """Return hardware, versions, seed, command and how busy the machine was when it began."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_name(),
        "cpus": available_cpus(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": _gpu_name(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions(PACKAGES),
        "scheduling": _SCHEDULING.get(os.sched_getscheduler(0), "another"),
        "load_before": round(os.getloadavg()[0], 2),
        "seed": seed,
        "commit": _commit(),
        "command": clean(shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])),
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the version of each package that is installed."""
    found: dict[str, str] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine(found: dict[str, Any]) -> str:
    """Return the hardware in a line."""
    gpu = f", {found['gpu']}" if found["gpu"] else ""
    return f"{found['cpus']} cores of {found['cpu']}, {found['memory_gb']:.0f} GB{gpu}"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    split = [line.partition(":") for line in lines]
    said = {name.strip(): value.strip() for name, _, value in split}
    if "model name" not in said:
        return platform.machine()
    # A virtual machine may say no more than "AMD EPYC"; family 26 is Zen 5.
    return f"{said['model name']} (family {said['cpu family']}, model {said['model']})"


def _gpu_name() -> str:
    asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return _first_line(asked)


def _commit() -> str:
    here = ["git", "-C", str(_ROOT)]
    others = ["--", ":!benchmarks/results"]  # a run writes there itself
    status = _first_line([*here, "status", "--porcelain", "-uno", *others])
    changed = " and changes" if status else ""
    return _first_line([*here, "rev-parse", "--short", "HEAD"]) + changed


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return next(iter(done.stdout.splitlines()), "") if done.returncode == 0 else ""
