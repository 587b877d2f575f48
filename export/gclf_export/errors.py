"""The export's own error, a child of the runtime's GclfError."""

from gclf_runtime import GclfError


class ExportError(GclfError, RuntimeError):
    """The exported file is not what the checkpoint is, or cannot be checked or written."""
