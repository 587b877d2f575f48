"""What the command shows: a line per picture, a bar, a summary. It returns text; cli.py prints."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from threading import Thread

from gclf_runtime.batch import Tally
from gclf_runtime.classifier import Classifier
from gclf_runtime.errors import GclfError
from gclf_runtime.items import Skipped
from gclf_runtime.results import FileResult
from gclf_runtime.sinks.rows import UNKNOWN, Columns

_ROWS_PER_REDRAW = 16


def line_of(result: FileResult, columns: Columns) -> str:
    """Say a result in one line for a reader: answer, probability, path, the next classes."""
    width = max(map(len, ("error", UNKNOWN if columns.abstain else "", *columns.label_names)))
    if result.prediction is None:
        reason = result.error.reason if result.error else ""
        line = f"{'error':{width}}    —      {result.path}: {reason}"
    else:
        best = result.prediction.top(columns.top_k or len(columns.label_names))
        label = columns.label(result.prediction)
        others = best[1:] if label == best[0][0] else best
        rest = "".join(f"  {name} {p:.1%}" for name, p in others)
        line = f"{label:{width}}  {best[0][1]:6.1%}  {result.path}  {rest and '│' + rest}".rstrip()
    return printable(line)


def printable(line: str) -> str:
    """Make one line of a text that holds file names, for a terminal that obeys none of them."""
    return "".join(c if c.isprintable() else "�" for c in line)


def with_bar(
    results: Iterable[FileResult], done: int, count: Callable[[], int | None]
) -> Iterator[FileResult]:
    """Show a bar on a terminal's stderr while results pass.

    Args:
        results: What passes.
        done: How many were done before.
        count: Counts the inputs, in a thread beside the work; None when only the end will tell.
    """
    if not sys.stderr.isatty():
        yield from results
        return
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("classifying"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[rate]} img/s"),
        bars.TimeElapsedColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None, completed=done, rate="—")

        def count_all() -> None:
            with contextlib.suppress(GclfError):  # the work itself will meet it, and say so
                progress.update(task, total=count())

        Thread(target=count_all, daemon=True).start()
        start = time.perf_counter()
        for number, result in enumerate(results, start=1):
            if number % _ROWS_PER_REDRAW == 0:
                rate = f"{number / (time.perf_counter() - start):,.0f}"
                progress.update(task, completed=done + number, rate=rate)
            yield result


def summary(
    tally: Tally, skipped: Skipped, classifier: Classifier, batch_size: int, seconds: float
) -> str:
    """Say what was done and what was left out, a line each; `batch_size` is that of the start."""
    rows = tally.rows
    answers = ", ".join(f"{n} {label}" for label, n in sorted(tally.labels.items()))
    lines = [f"{rows} {'file' if rows == 1 else 'files'}: {answers or 'no answer'}"]
    if tally.resumed:
        lines.append(f"{tally.resumed} rows were there already")
    if tally.failed:
        lines.append(f"{tally.failed} could not be read, their rows say why")
    if tally.unsorted:
        lines.append(f"{tally.unsorted} have an answer and could not be sorted into their folder")
    if skipped.not_images:
        lines.append(f"{skipped.not_images} skipped: not an image by name or by first bytes")
    if skipped.hidden:
        lines.append(f"{skipped.hidden} skipped: hidden")
    if skipped.unreadable_folders:
        lines.append(f"{skipped.unreadable_folders} folders could not be listed")
    if classifier.batch_size < batch_size:
        lines.append(f"GPU memory ended: batches of {classifier.batch_size}, not {batch_size}")
    done = rows - tally.resumed
    lines.append(f"{seconds:.2f} s, {done / seconds:,.0f} img/s, {classifier.provider}")
    return "\n".join(lines)
