"""Types of the command's options that typer needs in a form of its own."""

from enum import StrEnum


class PrecisionOption(StrEnum):
    """A `Choice` that may be repeated; typer takes lists of enums, not of literals."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    AUTO = "auto"
