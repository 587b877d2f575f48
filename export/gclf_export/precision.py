"""The arithmetic that a file can be exported in."""

from typing import Literal

Precision = Literal["fp32", "int8"]
