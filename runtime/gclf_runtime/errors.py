"""Every error a caller may catch.

GclfError
├── ImageError     (ValueError)    one picture cannot be read; `kind` says why in one word
├── ModelError     (ValueError)    a model file is missing, damaged, or breaks the contract
├── OutputError    (OSError)       the rows cannot be written where they were asked for
├── ProviderError  (RuntimeError)  onnxruntime or the device asked for cannot start
└── SourceError    (OSError)       a folder, list, archive or table of pictures cannot be read

A wrong argument is a plain ValueError. A message says what is wrong, then what to do.
"""

from typing import Literal

ImageErrorKind = Literal[
    "missing",  # no such file
    "unreadable",  # the system refuses to read it, or it is not a regular file
    "empty",  # zero bytes or zero pixels
    "unsupported",  # not an image, or in a format or pixel type that is not decoded
    "too_large",  # past the limit on bytes or on pixels held in memory
    "corrupt",  # an image by its first bytes, but its data cannot be decoded
]


class GclfError(Exception):
    """Base of every error gclf raises on purpose."""


class ImageError(GclfError, ValueError):
    """One picture cannot become pixels.

    Attributes:
        kind: Why, in one word that programs can compare.
        reason: Why, in one line without the file's name, and the remedy.
    """

    def __init__(self, kind: ImageErrorKind, reason: str, *, name: str = "") -> None:
        super().__init__(f"{name}: {reason}" if name else reason)
        self.kind: ImageErrorKind = kind
        self.reason = reason


class ModelError(GclfError, ValueError):
    """A model file is missing, damaged, or breaks the contract."""


class OutputError(GclfError, OSError):
    """The rows cannot be written where they were asked for."""


class ProviderError(GclfError, RuntimeError):
    """The build of onnxruntime or the device asked for cannot start."""


class SourceError(GclfError, OSError):
    """A folder, list, archive or table of pictures cannot be read, or not to its end."""
