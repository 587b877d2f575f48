"""What this computer is, for the doctor: processor, memory, packages, CUDA, private names.

It knows no model. A function may fail where the system is another than it knows; the doctor says
so in its place. What loads libraries (`onnxruntime`, `cuda_libraries`) is meant for a child
process.
"""

import contextlib
import ctypes.util
import getpass
import importlib
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from PIL import features

from gclf_runtime.cpus import available_cpus, cpu_quota

_TOOL_LIMIT_S = 10
_KINDS = ("gpu", "directml", "openvino", "rocm", "migraphx", "qnn", "silicon", "training", "webgpu")
# All of them install the module `onnxruntime`.
_BUILDS = ("onnxruntime", *(f"onnxruntime-{kind}" for kind in _KINDS), "ort-nightly")
# What the kernels for fp32 and int8 are chosen by, on x86 and on ARM.
_FLAGS = re.compile(r"avx2|avx_vnni|avx512f|avx512_(vnni|bf16)|amx_\w+|asimddp|i8mm|bf16")
_LIBRARIES = ("cuda", "cudart", "cublas", "cublasLt", "cudnn", "curand", "cufft")


def cpu() -> dict[str, Any]:
    """Say what the processor is, and how many of its CPUs are ours."""
    fields: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip().lower(), value.strip())
    flags = fields.get("flags", fields.get("features", "")).split()
    has_mask = hasattr(os, "sched_getaffinity")  # Linux
    return {
        "model": fields.get("model name") or platform.processor() or platform.machine(),
        "flags": [flag for flag in flags if _FLAGS.fullmatch(flag)],
        "host": os.cpu_count(),
        "affinity": len(os.sched_getaffinity(0)) if has_mask else None,
        "quota": cpu_quota(Path("/sys/fs/cgroup")),
        "used": available_cpus(),
    }


def memory() -> dict[str, Any]:
    """Say how much memory there is, and how much of it a container may use, in MiB."""
    total = limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            limit = int((Path("/sys/fs/cgroup") / name).read_text(encoding="ascii"))
            break
    # Without a limit, cgroup v1 states a number larger than any memory.
    return {"total_mib": total >> 20, "limit_mib": limit >> 20 if limit < total else None}


def pillow() -> dict[str, Any]:
    """Say which decoders Pillow was built with."""
    wanted = {"jpeg": "jpg", "libjpeg_turbo": "libjpeg_turbo", "webp": "webp"}
    return {name: features.version(feature) for name, feature in wanted.items()}


def package(name: str) -> str | None:
    """Return the version of an installed package, None where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
    except Exception as error:  # half removed: a dist-info without its METADATA
        return f"unreadable ({type(error).__name__})"


def onnxruntime_builds() -> dict[str, str]:
    """Return the version of each installed package that is a build of onnxruntime."""
    versions = {name: package(name) for name in _BUILDS}
    return {name: version for name, version in versions.items() if version}


def onnxruntime() -> dict[str, Any]:
    """Say what the module is that gets imported, also when it is broken."""
    # By name: session.py would refuse a broken one, and that is the one to be looked at.
    ort = importlib.import_module("onnxruntime")
    providers = getattr(ort, "get_available_providers", list[str])
    return {
        "module": ort.__file__ or next(iter(ort.__path__)),
        "version": getattr(ort, "__version__", None),
        "listed_providers": providers(),
    }


def cuda() -> dict[str, Any]:
    """Say which NVIDIA driver is loaded, and which GPUs it shows."""
    driver, gpus = None, list[str]()
    with contextlib.suppress(OSError):
        text = Path("/proc/driver/nvidia/version").read_text(errors="replace")
        found = re.search(r"\b\d+\.\d+(\.\d+)?\b", text)
        driver = found and found[0]
    if tool := shutil.which("nvidia-smi"):
        query = [tool, "--query-gpu=driver_version,name,memory.total", "--format=csv,noheader"]
        try:
            run = subprocess.run(query, capture_output=True, text=True, timeout=_TOOL_LIMIT_S)
            gpus = (run.stdout + run.stderr).splitlines()[:16]
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            gpus = [f"nvidia-smi: {error}"]
    return {"driver": driver, "gpus": gpus}


def cuda_libraries() -> dict[str, Any]:
    """Find CUDA's libraries: of the nvidia packages, of LD_LIBRARY_PATH, of the system."""
    named = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    folders = [f for entry in sys.path for f in Path(entry).glob("nvidia/*/[bl]i[nb]")]
    folders += [Path(entry) for entry in named if entry]
    return {f"lib{stem}": _find(stem, folders) for stem in _LIBRARIES}


def without_names(record: dict[str, Any]) -> dict[str, Any]:
    """Take what is private out of every text: home reads ~, user and host go from all paths."""
    return _replace(record, _private())


def _find(stem: str, folders: list[Path]) -> str | None:
    for folder in folders:
        for pattern in (f"lib{stem}.so*", f"{stem}64*.dll"):
            for path in sorted(folder.glob(pattern)):
                return str(path)
    return ctypes.util.find_library(stem)


def _replace(value: Any, patterns: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        items = cast(dict[str, Any], value).items()
        return {name: _replace(inner, patterns) for name, inner in items}
    if isinstance(value, list):
        return [_replace(inner, patterns) for inner in cast(list[object], value)]
    if isinstance(value, str):
        for pattern, replacement in patterns.items():
            value = re.sub(pattern, replacement, value)
    return value


def _private() -> dict[str, str]:
    """Patterns for the home folder, and for the user's and the host's name as parts of paths."""
    names = {"<host>": socket.gethostname()}
    with contextlib.suppress(Exception):  # an account without a name, as in many containers
        names["<user>"] = getpass.getuser()
    homes = {os.path.expanduser("~"), os.path.expanduser(f"~{names.get('<user>', '')}")}
    homes |= {os.path.realpath(home) for home in homes}
    # A home of / is nobody's, and would turn every path into one below it.
    patterns = {
        rf"{re.escape(home)}(?![\w.-])": "~"
        for home in sorted(homes, key=len, reverse=True)
        if os.path.isabs(home) and len(Path(home).parts) > 1
    }
    return patterns | {
        rf"(?<=[/\\]){re.escape(name)}(?=[/\\]|$)": replacement
        for replacement, name in names.items()
        if name
    }
