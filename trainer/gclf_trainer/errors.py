"""The trainer's own errors, children of the runtime's GclfError.

GclfError
├── CheckpointError  (ValueError)  a checkpoint is missing, foreign or damaged
├── DatasetError     (ValueError)  a folder of labelled pictures cannot be trained on
├── RunError         (OSError)     a RUN folder cannot be begun, gone on with or written
└── TrainingError    (RuntimeError)  the loss is no longer a number, or a process has ended
"""

from gclf_runtime import GclfError


class CheckpointError(GclfError, ValueError):
    """A checkpoint is missing, foreign or damaged."""


class DatasetError(GclfError, ValueError):
    """A folder of labelled pictures cannot be trained on."""


class RunError(GclfError, OSError):
    """A RUN folder cannot be begun, gone on with or written.

    It holds a run already, or one begun otherwise; its state is damaged; another training writes
    there; what is to write there (tensorboard) is not installed.
    """


class TrainingError(GclfError, RuntimeError):
    """The loss is no longer a number, or another process of the training has ended."""
