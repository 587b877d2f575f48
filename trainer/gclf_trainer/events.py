"""TensorBoard's event files of a run, written by the tensorboard package, an extra."""

from pathlib import Path

from gclf_trainer.errors import RunError
from gclf_trainer.recipe import Epoch


class Events:
    """Event files in a folder, for `tensorboard --logdir`.

    Args:
        folder: Where to write; made when missing.
        first_epoch: The first that will be added, from 1. A resumed run names it, and what was
            written of it and later ones before is left out of the view.

    Raises:
        RunError: The tensorboard package is not installed.
    """

    def __init__(self, folder: Path, *, first_epoch: int = 1) -> None:
        try:
            # Only here: it is slow to import, and few ask for it.
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise RunError(
                "tensorboard is not installed. Install it: pip install 'gclf-trainer[tensorboard]'"
            ) from error
        self._writer = SummaryWriter(str(folder), purge_step=first_epoch)

    def add(self, epoch: Epoch) -> None:
        """Write an epoch's figures."""
        figures = {
            "loss/training": epoch.train_loss,
            "loss/validation": epoch.val_loss,
            "accuracy/validation": epoch.val_accuracy,
            "learning rate": epoch.learning_rate,
            "images per second": epoch.images_per_second,
        }
        for name, value in figures.items():
            self._writer.add_scalar(name, value, epoch.number)
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()
