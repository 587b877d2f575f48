"""What may watch a training."""

from pathlib import Path

from gclf_trainer.audit import Audit
from gclf_trainer.loop import Training
from gclf_trainer.pixels import Dataset
from gclf_trainer.recipe import Epoch


class View:
    """What watches a training; every method does nothing unless overridden."""

    def decoding(self, done: int, total: int) -> None:
        """Pictures are being decoded."""

    def started(self, dataset: Dataset, training: Training) -> None:
        """The next epoch, `training.epoch` + 1, is about to begin."""

    def audited(self, found: Audit) -> None:
        """The dataset was looked over."""

    def stepped(self, loss: float) -> None:
        """One batch was learnt from."""

    def epoch_ended(self, epoch: Epoch, *, is_best: bool) -> None:
        """One epoch was trained and measured, and is on the disk."""

    def was_finished(self, output: Path) -> None:
        """The run to resume is over; its files stay as they are."""
