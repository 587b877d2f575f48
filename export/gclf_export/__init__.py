"""A trained checkpoint to one verified, self-describing .onnx file."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gclf_export.errors import ExportError
    from gclf_export.exporter import export, export_all
    from gclf_export.modules import export_module
    from gclf_export.production import Export, Exported

__all__ = ["Export", "ExportError", "Exported", "export", "export_all", "export_module"]

_MODULES = {
    "Export": "production",
    "ExportError": "errors",
    "Exported": "production",
    "export_module": "modules",
}


def __getattr__(name: str) -> object:
    # When first asked for: torch takes seconds, and the command has to check its arguments before.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'exporter')}"), name)
