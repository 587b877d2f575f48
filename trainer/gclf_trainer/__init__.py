"""A folder of labelled pictures to a small classifier that is worth exporting."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gclf_trainer.augment import Augmentation
    from gclf_trainer.errors import CheckpointError, DatasetError, RunError, TrainingError
    from gclf_trainer.recipe import Recipe
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

_MODULES = {
    "Augmentation": "augment",
    "Recipe": "recipe",
    "Trained": "training",
    "View": "training",
    "train": "training",
}


def __getattr__(name: str) -> object:
    # When first asked for: torch takes seconds, and the command has to catch Ctrl-C before it.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)
