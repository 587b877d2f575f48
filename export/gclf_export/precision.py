"""The arithmetic that a file can be exported in."""

from typing import Literal

from gclf_runtime.spec import Precision as Precision

# `auto` is the fastest admitted on each provider of this machine.
Choice = Literal["fp32", "fp16", "bf16", "int8", "auto"]
REDUCED: tuple[Precision, ...] = ("int8", "fp16", "bf16")
