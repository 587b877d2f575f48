"""The export's own error, a child of the runtime's GclfError."""

from gclf_runtime import GclfError


class ExportError(GclfError, RuntimeError):
    """The exported file is not what the checkpoint is, or cannot be checked or written."""


def without_remedy(error: GclfError) -> str:
    """Say what is wrong, without the last sentence: the remedy for whoever has only the file."""
    said = str(error)
    return said.rpartition(". ")[0] or said
