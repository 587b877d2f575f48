"""A trained checkpoint to one verified, self-describing .onnx file."""

from gclf_export.errors import ExportError
from gclf_export.exporter import Exported, export

__all__ = ["ExportError", "Exported", "export"]
