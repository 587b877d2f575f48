"""Whether torchrun started this process, known before torch is imported."""

import os


def is_launched() -> bool:
    """Say whether this is one of several processes of a training, as torch itself does."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_quiet() -> bool:
    """Say whether another process of this training prints and writes, before any has joined."""
    return is_launched() and os.environ.get("RANK", "0") != "0"
