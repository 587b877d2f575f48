"""A folder of labelled pictures to a small classifier that is worth exporting."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gclf_trainer.errors import CheckpointError, DatasetError, RunError, TrainingError
    from gclf_trainer.recipe import Augmentation, Recipe
    from gclf_trainer.trained import Trained
    from gclf_trainer.training import train
    from gclf_trainer.view import View

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
    "Augmentation": "recipe",
    "Recipe": "recipe",
    "Trained": "trained",
    "View": "view",
    "train": "training",
}


def __getattr__(name: str) -> object:
    # When first asked for: torch takes seconds, and the command has to catch Ctrl-C before it.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)
