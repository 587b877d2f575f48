"""How much memory there is for pixels."""

import contextlib
import os
from pathlib import Path

import torch

# Pixels are held where they take up no more than this share of what is free: the network, its
# gradients and its activations need the rest.
HELD_SHARE = 0.5

_UNKNOWN = 4 * 2**30  # where the system does not say (Windows)


def free_bytes(device: torch.device) -> int:
    """Return how much memory could be had on a device now, in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limit = container_room(Path("/sys/fs/cgroup"))
    return _free_ram() if limit is None else min(limit, _free_ram())


def container_room(cgroup: Path) -> int | None:
    """Return what a container may still take (cgroup v2, else v1), None without a limit.

    What it holds of files does not count: the kernel gives that up first.
    """
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):
            most = int((cgroup / limit).read_text(encoding="ascii"))  # "max" is a ValueError
            taken = int((cgroup / used).read_text(encoding="ascii"))
            stat = (cgroup / used).with_name("memory.stat").read_text(encoding="ascii")
            fields = dict(line.split() for line in stat.splitlines())
            files = int(fields["inactive_file"]) + int(fields["active_file"])
            return max(0, most - taken + files)
    return None


def _free_ram() -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            name, value, *_ = line.split()
            if name == "MemAvailable:":
                return int(value) * 1024
    with contextlib.suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return _UNKNOWN
