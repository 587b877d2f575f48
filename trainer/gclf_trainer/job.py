"""A training and the folder that it is kept in."""

import contextlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gclf_runtime import ModelSpec
from gclf_trainer import checkpoint
from gclf_trainer.audit import Audit
from gclf_trainer.errors import RunError
from gclf_trainer.evaluation import Evaluation
from gclf_trainer.events import Events
from gclf_trainer.groups import Attributes
from gclf_trainer.loop import Training
from gclf_trainer.parallel import Ranks
from gclf_trainer.pixels import Dataset
from gclf_trainer.recipe import Epoch
from gclf_trainer.run import Run
from gclf_trainer.run_report import groups_of, page
from gclf_trainer.torch_file import reason_of
from gclf_trainer.trained import Trained, calibrated, measured
from gclf_trainer.view import View


@dataclass(frozen=True)
class Job:
    """A training and the folder that it is kept in, by the first process."""

    run: Run
    dataset: Dataset
    training: Training
    network: str
    promise: ModelSpec
    ranks: Ranks
    audit: Audit
    attributes: Attributes | None
    cross: Sequence[tuple[str, str]]
    command: str
    facts: Mapping[str, str]

    def start(self, config: dict[str, Any]) -> None:
        """Begin the folder; or go back to its state, and put right what a kill left behind it."""
        if self.run.state is None:
            if self.ranks.is_first:
                self.run.begin(config, self.dataset)
            return
        try:
            self.training.restore(self.run.state.training)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise RunError(
                f"{self.run.folder / 'last.pt'} is the state of another training than "
                f"config.json ({reason_of(error)}). Put back its own, or name another --output"
            ) from error
        self.run.state = None  # it may be large
        best = self.run.best
        if best and best.number == self.training.epoch:
            self._keep_best(best, self.training.evaluate())
        if self.ranks.is_first:
            self.run.write_metrics()

    def run_epochs(self, view: View, *, tensorboard: bool) -> None:
        """Train until it is over, and keep every epoch before the next begins."""
        wanted = tensorboard and self.ranks.is_first
        with _events(self.run, wanted=wanted) as events:
            while not self.run.is_over(self.training.recipe):
                epoch = self._run_epoch(view)
                if events:
                    events.add(epoch)

    def finish(self) -> Trained:
        """Measure the best epoch from its file; the test split is looked at here and only here."""
        run, dataset = self.run, self.dataset
        path, best = run.checkpoint, checkpoint.load(run.checkpoint)
        trained = measured(path, best, dataset, self.training.device, with_test=True)
        calibration = calibrated(path, best, dataset, trained.logits["validation"])
        table = self.attributes
        groups = groups_of(trained, dataset, table, self.cross) if table else None
        html = page(
            run,
            dataset,
            self.training,
            calibration,
            trained.logits,
            network=self.network,
            promise=self.promise,
            audit=self.audit,
            groups=groups,
            command=self.command,
            facts=self.facts,
        )
        run.write_report(html, self.audit.to_record())
        run.finish(dataset, trained.val, trained.test, groups)
        return trained

    def _run_epoch(self, view: View) -> Epoch:
        epoch = self.training.run_epoch(view.stepped)
        self.run.epochs.append(epoch)
        is_best = self.run.best is epoch
        if self.ranks.is_first:
            self.run.keep(self.training.state())
        if is_best:
            self._keep_best(epoch, self.training.measured)
        view.epoch_ended(epoch, is_best=is_best)
        return epoch

    def _keep_best(self, epoch: Epoch, val: Evaluation) -> None:
        if not self.ranks.is_first:
            return
        dataset = self.dataset
        # First, so that a model.pt never lies there without it.
        self.run.write_answers("validation.csv", dataset.label_names, dataset.val, val)
        metrics = {"val_accuracy": epoch.val_accuracy, "val_count": len(dataset.val.paths)}
        promise = replace(self.promise, metrics=metrics)
        checkpoint.save(self.run.checkpoint, self.network, self.training.evaluated, promise)


@contextlib.contextmanager
def _events(run: Run, *, wanted: bool) -> Generator[Events | None]:
    if not wanted:
        yield None
        return
    events = Events(run.folder / "events")
    try:
        for epoch in run.epochs:  # again: a kill may have come between an epoch and its figures
            events.add(epoch)
        yield events
    finally:
        events.close()
