"""The device that a training runs on."""

import platform

import torch

from gclf_runtime import ProviderError
from gclf_trainer.parallel import Ranks


def device_of(name: str, ranks: Ranks) -> torch.device:
    """Return the device of a name; `auto` is CUDA where there is one.

    Of several processes on one machine, each takes the GPU of its own number.

    Raises:
        ProviderError: It cannot be used.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and ranks.count > 1:
        name = f"cuda:{ranks.local}"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # a "meta" tensor has no number in it
        if name.startswith("cuda:"):
            torch.cuda.set_device(device)  # also for what names none: streams, NCCL
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].split(". ")[0][:120]
        raise ProviderError(f"device {name} cannot be used ({reason}). Try --device cpu") from error
    return device


def describe(device: torch.device) -> str:
    """Name what computes."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
