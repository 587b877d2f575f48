"""The trainer's own errors, children of the runtime's GclfError.

GclfError
├── CheckpointError  (ValueError)  a checkpoint is missing, foreign or damaged
└── DatasetError     (ValueError)  a folder of labelled pictures cannot be trained on
"""

from gclf_runtime import GclfError


class CheckpointError(GclfError, ValueError):
    """A checkpoint is missing, foreign or damaged."""


class DatasetError(GclfError, ValueError):
    """A folder of labelled pictures cannot be trained on."""
