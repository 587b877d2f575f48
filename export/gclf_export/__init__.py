"""A trained checkpoint to one verified, self-describing .onnx file."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gclf_export.errors import ExportError
    from gclf_export.exporter import Exported, export

__all__ = ["ExportError", "Exported", "export"]


def __getattr__(name: str) -> object:
    # When first asked for: torch takes seconds, and the command has to check its arguments before.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "errors" if name == "ExportError" else "exporter"
    return getattr(import_module(f"{__name__}.{module}"), name)
