"""The trainer's own errors, children of the runtime's GclfError.

GclfError
├── CheckpointError  (ValueError)  a checkpoint is missing, foreign or damaged
├── DatasetError     (ValueError)  a folder of labelled pictures cannot be trained on
├── RunError         (OSError)     a RUN folder cannot be written
└── TrainingError    (RuntimeError)  the loss is no longer a number
"""

from gclf_runtime import GclfError


class CheckpointError(GclfError, ValueError):
    """A checkpoint is missing, foreign or damaged."""


class DatasetError(GclfError, ValueError):
    """A folder of labelled pictures cannot be trained on."""


class RunError(GclfError, OSError):
    """A RUN folder cannot be written."""


class TrainingError(GclfError, RuntimeError):
    """The loss is no longer a number."""
