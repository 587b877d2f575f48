"""A batch run: items in, rows and copies and counts out. It neither prints nor parses options."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from gclf_runtime.classifier import Classifier
from gclf_runtime.errors import GclfError, OutputError
from gclf_runtime.items import Item
from gclf_runtime.results import FileResult
from gclf_runtime.sinks.files import RowFile
from gclf_runtime.sinks.report import Report
from gclf_runtime.sinks.rows import Columns
from gclf_runtime.sinks.sorting import Sorter

_ROWS_BEFORE_SHARE = 100  # a share of fewer rows says nothing


@dataclass
class Tally:
    """Rows by label, and failures; of a resumed run also those that were there."""

    labels: Counter[str] = field(default_factory=Counter[str])
    failed: int = 0
    resumed: int = 0
    unsorted: int = 0

    @property
    def rows(self) -> int:
        """All of them."""
        return self.labels.total() + self.failed


@dataclass(frozen=True)
class FailureLimit:
    """How many inputs may fail before the run stops.

    Attributes:
        count: So many, or any number when None.
        share: So large a share of the rows, 0-1; judged from 100 rows on, and at the end.
    """

    count: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> "FailureLimit":
        """Read `20` or `0.5%`; anything else is a ValueError."""
        if text.endswith("%"):
            share = float(text[:-1]) / 100
            if not 0 <= share <= 1:
                raise ValueError(f"{text} is no share between 0% and 100%")
            return cls(share=share)
        if int(text) < 0:
            raise ValueError(f"{text} is below 0")
        return cls(count=int(text))

    def is_passed(self, tally: Tally, *, at_end: bool = False) -> bool:
        """Tell whether more failed than may."""
        if self.count is not None:
            return tally.failed > self.count
        if self.share is None or (tally.rows < _ROWS_BEFORE_SHARE and not at_end):
            return False
        return tally.failed > self.share * tally.rows


class TooManyFailuresError(GclfError):
    """More inputs failed than were allowed to."""


def skip_finished(items: Iterator[Item], rows: RowFile, tally: Tally) -> None:
    """Count the rows that a resumed run already has, and take their items from the source.

    Raises:
        OutputError: A row is not that of the input in its place.
    """
    for number, row in enumerate(rows.old_rows(), start=1):
        item = next(items, None)
        if item is None or item.name != row.path:
            found = f"the input has {item.name}" if item else "the input ends before it"
            raise OutputError(
                f"{rows.path} cannot be resumed: row {number} is {row.path}, {found}. Name the "
                "inputs as they were, or leave out --resume to begin anew"
            )
        tally.resumed += 1
        if row.error:
            tally.failed += 1
        else:
            tally.labels[row.label] += 1


def run_batch(
    classifier: Classifier,
    items: Iterator[Item],
    columns: Columns,
    tally: Tally,
    *,
    rows: RowFile | None = None,
    sorter: Sorter | None = None,
    report: Report | None = None,
    limit: FailureLimit | None = None,
) -> Iterator[FileResult]:
    """Classify items and hand each result to all who want it.

    Yields:
        Each result, in order, after it was written.

    Raises:
        OutputError: A row or a copy cannot be written.
        TooManyFailuresError: More failed than `limit` allows; the rows so far are written.
    """
    limit = limit or FailureLimit()
    for item, result in classifier.predict_items(items, keep_pixels=report is not None):
        label = columns.label(result.prediction) if result.prediction else None
        if sorter and label is not None:
            tally.unsorted += not sorter.place(item, label)
        if rows:
            rows.write(result)
        if report:
            report.add(result, label=label)
        if label is None:
            tally.failed += 1
        else:
            tally.labels[label] += 1
        yield result
        if label is None and limit.is_passed(tally):
            raise _too_many(tally)
    if limit.is_passed(tally, at_end=True):
        raise _too_many(tally)


def _too_many(tally: Tally) -> TooManyFailuresError:
    return TooManyFailuresError(
        f"{tally.failed} of {tally.rows} inputs could not be read, more than --max-failures "
        "allows. Their rows say why; mend them, or raise --max-failures and add --resume"
    )
