"""The arithmetic that a file can be exported in."""

from typing import Literal

Precision = Literal["fp32", "fp16", "bf16", "int8"]
# `auto` is the fastest admitted on each provider of this machine.
Choice = Literal["fp32", "fp16", "bf16", "int8", "auto"]
