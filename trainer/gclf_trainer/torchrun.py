"""Whether torchrun started this process, known before torch is imported."""

import os


def is_launched() -> bool:
    """Say whether this is one of several processes of a training, as torch itself does."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def processes() -> tuple[int, int]:
    """Return how many processes torchrun started on each machine, and on how many machines.

    A scheduler sets WORLD_SIZE too, for what is not a training of several processes.
    """
    if not is_launched():
        return 1, 1
    return int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ.get("GROUP_WORLD_SIZE", "1"))


def is_quiet() -> bool:
    """Say whether another process of this training prints and writes, before any has joined."""
    return is_launched() and os.environ.get("RANK", "0") != "0"
