"""gclf-infer: pictures to answers, on the terminal or as one row per file."""

import contextlib
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from threading import Thread
from typing import Annotated

import typer

from gclf_runtime.classifier import Classifier, FileResult
from gclf_runtime.errors import GclfError, OutputError, SourceError
from gclf_runtime.session import Device
from gclf_runtime.sinks import Sink, check_suffix, open_sink
from gclf_runtime.sources import Skipped, find_images

_EXIT_FAILED_FILES = 3
_ROWS_PER_REDRAW = 16

_EPILOG = (
    "Exit codes: 0 every file has an answer; 1 stopped, the message says why; 2 wrong usage; "
    "3 finished, but some files could not be read (their rows say why)."
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """Run the command; a GclfError is one line on stderr and exit code 1."""
    # Pillow warns of odd files on stderr; a row says what matters.
    warnings.simplefilter("ignore")
    for stream in (sys.stdout, sys.stderr):  # a name that this terminal cannot show
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except GclfError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        # What is still buffered cannot be written either; Python would try once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(f"error: the answers cannot be written ({error.strerror}). Name an --output")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gclf-infer {version('gclf-runtime')}")
        raise typer.Exit


@app.command(epilog=_EPILOG)
def infer(
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="IMAGE", help="Pictures to classify.")
    ] = None,
    *,
    batch: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Classify every picture below this folder; links are followed.",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="An .onnx file of gclf-export.", show_default="embedded"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write one row per file here: .csv or .jsonl."),
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="How many classes to print, best first.")] = 3,
    device: Annotated[
        Device, typer.Option(help="cuda: CUDA or an error; auto: CUDA when it starts.")
    ] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Workers.", show_default="the CPUs this process may use"),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
) -> None:
    """Classify pictures with a model exported by gclf-export, or with the embedded one.

    The embedded model tells female from male faces, as annotators perceive them.
    """
    if bool(images) == bool(batch):
        raise typer.BadParameter("name IMAGE... or --batch DIR, one of the two")
    if output:
        check_suffix(output)
    start = time.perf_counter()
    if model is None:
        classifier = Classifier.default(device=device, threads=threads)
    else:
        classifier = Classifier(model, device=device, threads=threads)

    skipped = Skipped()
    paths = find_images(batch, skipped) if batch else iter(images or [])
    results = classifier.predict_files(paths)
    first = next(results, None)
    if first is None:  # before an older output is touched
        raise SourceError(f"no picture below {batch}. Name a folder that holds some")
    results = chain([first], results)
    if output:
        shown = _with_progress(results, lambda: _count(images, batch))
        counts = _write(shown, output, classifier.spec.label_names)
    else:
        counts = _print(results, classifier.spec.label_names, top_k)
    _summarise(counts, skipped, classifier.provider, time.perf_counter() - start, output)
    if skipped.unreadable_folders or counts[None]:
        raise typer.Exit(_EXIT_FAILED_FILES)


def _count(images: list[Path] | None, batch: Path | None) -> int:
    return sum(1 for _ in find_images(batch)) if batch else len(images or [])


def _write(
    results: Iterable[FileResult], output: Path, label_names: tuple[str, ...]
) -> Counter[str | None]:
    try:
        # surrogateescape: a file name that is not UTF-8 goes through as it is.
        with output.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            return _feed(results, open_sink(output, file, label_names))
    except OSError as error:
        if isinstance(error, GclfError):
            raise
        reason = error.strerror or str(error)
        raise OutputError(
            f"{output} cannot be written ({reason}). Name another --output"
        ) from error


def _feed(results: Iterable[FileResult], sink: Sink) -> Counter[str | None]:
    """Count the answers by label, failures under None."""
    counts: Counter[str | None] = Counter()
    for result in results:
        sink.write(result)
        counts[result.prediction.label if result.prediction else None] += 1
    return counts


def _print(
    results: Iterable[FileResult], label_names: tuple[str, ...], top_k: int
) -> Counter[str | None]:
    return _feed(results, _Screen(max(len(name) for name in (*label_names, "error")), top_k))


class _Screen:
    """Rows for a reader: answer, probability, the next classes, path."""

    def __init__(self, width: int, top_k: int) -> None:
        self._width, self._top_k = width, top_k

    def write(self, result: FileResult) -> None:
        if result.prediction is None:
            reason = result.error.reason if result.error else ""
            line = f"{'error':{self._width}}    —      {result.path}: {reason}"
        else:
            (label, p), *others = result.prediction.top(self._top_k)
            rest = "".join(f"  {name} {q:.1%}" for name, q in others)
            line = f"{label:{self._width}}  {p:6.1%}  {result.path}  {rest and '│' + rest}".rstrip()
        # One line per file, and a terminal that obeys no file name.
        typer.echo("".join(c if c.isprintable() else "�" for c in line))


def _with_progress(results: Iterable[FileResult], count: Callable[[], int]) -> Iterator[FileResult]:
    """Show a bar on a terminal's stderr; the total is counted while the work goes on."""
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
        task = progress.add_task("", total=None, rate="—")

        def count_all() -> None:
            with contextlib.suppress(GclfError):  # the work itself will meet it, and say so
                progress.update(task, total=count())

        Thread(target=count_all, daemon=True).start()
        start = time.perf_counter()
        for done, result in enumerate(results, start=1):
            if done % _ROWS_PER_REDRAW == 0:
                rate = f"{done / (time.perf_counter() - start):,.0f}"
                progress.update(task, completed=done, rate=rate)
            yield result


def _summarise(
    counts: Counter[str | None],
    skipped: Skipped,
    provider: str,
    seconds: float,
    output: Path | None,
) -> None:
    """Say on stderr what was done, what was left out, where the rows are."""
    total = counts.total()
    answers = ", ".join(f"{n} {label}" for label, n in sorted(counts.items(), key=str) if label)
    lines = [f"{total} {'file' if total == 1 else 'files'}: {answers or 'no answer'}"]
    if counts[None]:
        lines.append(f"{counts[None]} could not be read, their rows say why")
    if skipped.not_images:
        lines.append(f"{skipped.not_images} skipped: not an image by name or by first bytes")
    if skipped.hidden:
        lines.append(f"{skipped.hidden} skipped: hidden")
    if skipped.unreadable_folders:
        lines.append(f"{skipped.unreadable_folders} folders could not be listed")
    lines.append(f"{seconds:.2f} s, {total / seconds:,.0f} img/s, {provider}")
    if output:
        lines.append(f"rows: {output}")
    typer.echo("\n".join(lines), err=True)
