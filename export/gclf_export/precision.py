"""The arithmetic that a file can be exported in."""

from typing import Literal

from gclf_runtime.spec import Precision as Precision

# `auto` is the fastest admitted on each provider of this machine.
Choice = Literal["fp32", "fp16", "bf16", "int8", "auto"]
DEFAULT_MAX_DROP = 0.005  # how much accuracy a reduced precision may cost
REDUCED: tuple[Precision, ...] = ("int8", "fp16", "bf16")
