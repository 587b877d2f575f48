"""Report: one self-contained HTML page about a training, for people who have to trust it.

It is given everything and reads and writes no files.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gclf_trainer.answers import Answers, Samples
from gclf_trainer.calibration import Calibration, Reliability, measure_reliability
from gclf_trainer.groups import Groups
from gclf_trainer.recipe import Epoch
from gclf_trainer.report.confusion import confusion
from gclf_trainer.report.history import history
from gclf_trainer.report.page import page, safe, tiles
from gclf_trainer.report.pictures import pictures, samples
from gclf_trainer.report.reliability import calibration, calibration_tiles
from gclf_trainer.report.tables import (
    class_table,
    findings,
    group_tables,
    repeat,
    score_tile,
    worst_tile,
)
from gclf_trainer.scores import class_scores


@dataclass(frozen=True, kw_only=True)
class Report:
    """What is to be said of a training.

    Tables and pictures are of the test split where there is one, otherwise of validation, which
    chose the best epoch and so flatters it a little.

    Attributes:
        title: For instance the network and the RUN folder.
        label_names: Names of the classes.
        epochs: In order, at least one.
        marks: Words at an epoch, counted from 1: {7: "best", 12: "stopped early"}.
        validation: Answers to it, after the temperature.
        test: Likewise, if there is a test split.
        calibration: Of validation.
        groups: Of the split that is shown, if there is a table of attributes.
        samples: Training pictures as the network saw them; None leaves the section out.
        findings: Severity (refusal, warning or note) and line of what the audit found; None when
            there was no audit.
        command: The exact command to repeat the run.
        facts: Versions, digests, device, precision: by name.
    """

    title: str
    label_names: Sequence[str]
    epochs: Sequence[Epoch]
    marks: Mapping[int, str] = field(default_factory=dict[int, str])
    validation: Answers
    test: Answers | None = None
    calibration: Calibration
    groups: Groups | None = None
    samples: Samples | None = None
    findings: Sequence[tuple[str, str]] | None = None
    command: str
    facts: Mapping[str, str]

    @property
    def shown(self) -> Answers:
        """The answers that tables and pictures are about; `groups` must be of them."""
        return self.test or self.validation

    def to_html(self) -> str:
        """Write the page: a document that loads nothing, and UTF-8 whatever names it holds."""
        shown = self.shown
        parts = (
            self._headline(),
            history(self.epochs, self.marks),
            confusion(shown, self.label_names),
            class_table(class_scores(shown.confusion_kk, self.label_names), shown),
            group_tables(self.groups, shown.name) if self.groups else "",
            calibration(self.calibration, self._test_reliability()),
            pictures(shown, self.label_names),
            samples(self.samples, self.label_names) if self.samples else "",
            "" if self.findings is None else findings(self.findings),
            repeat(self.command, self.facts),
        )
        return page(f"Training report: {self.title}", "\n".join(part for part in parts if part))

    def _headline(self) -> str:
        answers = [each for each in (self.test, self.validation) if each]
        items = [score_tile(each.score) for each in answers]
        items.extend(calibration_tiles(self.calibration, self._test_reliability()))
        if self.groups and (worst := worst_tile(self.groups)):
            items.append(worst)
        return (
            f'<h1>Training report</h1>\n<p class="lead"><bdi>{safe(self.title)}</bdi></p>\n'
            f"{tiles(items)}"
        )

    def _test_reliability(self) -> Reliability | None:
        if self.test is None:
            return None
        return measure_reliability(self.test.probabilities_nk, self.test.split.labels_n)


def repeat_command(arguments: Sequence[str], *, processes: int = 1, nodes: int = 1) -> str:
    """Write the command line that makes a run again from its start, quoted for a shell.

    Args:
        arguments: `sys.argv[1:]`; that it was resumed is left out.
        processes: How many torchrun started on each machine.
        nodes: On how many machines.
    """
    options = shlex.join(argument for argument in arguments if argument != "--resume")
    if processes == nodes == 1:
        return f"gclf-train {options}"
    machines = f"--nnodes {nodes} " if nodes > 1 else ""
    return f'torchrun {machines}--nproc-per-node {processes} "$(which gclf-train)" {options}'
