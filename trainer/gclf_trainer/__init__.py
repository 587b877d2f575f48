"""A folder of labelled pictures to a small classifier that is worth exporting."""

from gclf_trainer.augment import Augmentation
from gclf_trainer.errors import CheckpointError, DatasetError, RunError, TrainingError
from gclf_trainer.loop import Recipe
from gclf_trainer.training import Trained, View, train

__all__ = [
    "Augmentation",
    "CheckpointError",
    "DatasetError",
    "Recipe",
    "RunError",
    "Trained",
    "TrainingError",
    "View",
    "train",
]
