"""gclf-infer: pictures to answers, on the terminal or as one row per input."""

import contextlib
import errno
import json
import os
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from gclf_runtime import __version__, options
from gclf_runtime.batch import FailureLimit, Tally, run_batch, skip_finished
from gclf_runtime.classifier import Classifier
from gclf_runtime.cpus import worker_processes
from gclf_runtime.errors import GclfError, ModelError, OutputError, SourceError
from gclf_runtime.formats import HEAD_BYTES, sniff
from gclf_runtime.images import MAX_PIXELS
from gclf_runtime.items import Item, Skipped
from gclf_runtime.screen import line_of, printable, summary, with_bar
from gclf_runtime.session import Device
from gclf_runtime.sinks.files import STDOUT, RowFile, open_rows, recorded_settings, settings_of
from gclf_runtime.sinks.report import Report
from gclf_runtime.sinks.rows import UNKNOWN, Columns, RowFormat, format_of
from gclf_runtime.sinks.sorting import Sorter
from gclf_runtime.sinks.whole import written_whole
from gclf_runtime.sources import find_images, open_sources

_EXIT_FAILED_FILES = 3
_LONG = 1000  # pictures: half a second on one core, and starting a process takes a quarter
_TOP_K = 3

_EPILOG = (
    "Exit codes: 0 every input has an answer, or no more failed than --max-failures allows; "
    "1 stopped, the message says why; 2 wrong usage; 3 finished, but some inputs could not be "
    "read (their rows say why); 130 and 143 stopped by Ctrl-C and by SIGTERM. After 1, 130, 143 "
    "and a kill, --resume goes on."
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """Run the command; a GclfError is one line on stderr and exit code 1."""
    # Pillow warns of odd files on stderr; a row says what matters.
    warnings.simplefilter("ignore")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    for stream in (sys.stdout, sys.stderr):  # a name that this terminal cannot show
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except GclfError as error:
        _fail(f"error: {error}")
    except OSError as error:
        _fail(f"error: {error}. Check the disk and the rights there")
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "start new thread" not in str(error):
            raise
        _fail(
            f"error: memory or threads ended here ({str(error) or 'out of memory'}). Try "
            "--threads 1 --batch-size 1, or allow more (ulimit -v, ulimit -u, a container's limit)"
        )


def _fail(message: str) -> NoReturn:
    if sys.stderr:  # the shell may have closed it, and standard output may hold rows
        with contextlib.suppress(OSError):
            print(printable(message), file=sys.stderr, flush=True)
    sys.exit(1)


class _Interrupt:
    """Ends the command at once on a signal: whole rows on disk, one line, no waiting."""

    def __init__(self) -> None:
        self.rows: RowFile | None = None

    def __call__(self, number: int, _frame: object) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)  # once is enough
        line = "stopped"
        if self.rows:
            self.rows.stop()
            if str(self.rows.path) != STDOUT:
                line = f"stopped; {self.rows.path} holds whole rows. Go on with --resume"
        cursor = "\r\x1b[K\x1b[?25h" if sys.stderr.isatty() else ""
        with contextlib.suppress(OSError):
            os.write(2, f"{cursor}{line}\n".encode(errors="replace"))
        os._exit(128 + number)


_interrupt = _Interrupt()


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What to make of the inputs; the options of the command, checked."""

    inputs: list[str]
    columns: Columns
    skipped: Skipped
    limit: FailureLimit | None
    output: Path | None
    row_format: RowFormat | None
    resume: bool
    settings: Mapping[str, Any]
    all_files: bool


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gclf-infer {__version__}")
        raise typer.Exit


@app.command(epilog=_EPILOG)
def infer(
    sources: options.Sources = None,
    *,
    batch: options.Batch = None,
    model: options.Model = None,
    model_sha256: options.ModelSha256 = None,
    device: options.Device = "auto",
    output: options.Output = None,
    row_format: options.Format = None,
    resume: options.Resume = False,
    probabilities: options.Probabilities = "all",
    top_k: options.TopK = None,
    logits: options.Logits = False,
    abstain: options.Abstain = 0.0,
    sort_into: options.SortInto = None,
    link: options.Link = False,
    report: options.ReportFile = None,
    all_files: options.AllFiles = False,
    image_column: options.ImageColumn = None,
    max_failures: options.MaxFailures = None,
    max_pixels: options.MaxPixels = MAX_PIXELS,
    batch_size: options.BatchSize = "auto",
    threads: options.Threads = None,
    processes: options.Processes = "auto",
    doctor: options.Doctor = False,
    as_json: options.AsJson = False,
    self_test: options.SelfTest = False,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
) -> None:
    """Classify pictures with a model exported by gclf-export, or with the embedded one.

    The embedded model tells female from male faces, as annotators perceive them.
    """
    if doctor:
        _examine(model, device, as_json=as_json)
        return
    in_rows = output is not None
    inputs = [] if self_test else _inputs(sources, batch)
    _require(not as_json, "goes with --doctor", "--json")
    _require(sort_into or not link, "goes with --sort-into", "--link")
    _require(in_rows or not (resume or logits), "goes with --output", "--resume, --logits")
    _require(not (resume and report), "shows every picture, so it needs a whole run", "--report")
    _require(
        top_k is None or not in_rows or probabilities == "top",
        "goes with --probabilities top",
        "--top-k",
    )
    if output and not row_format:
        row_format = "csv" if str(output) == STDOUT else format_of(output)
    _require(in_rows or not row_format, "goes with --output", "--format")
    _require(in_rows or probabilities == "all", "goes with --output", "--probabilities")
    _require(abstain == abstain, "nan is no probability", "--abstain")
    is_file = str(report) != STDOUT and not (str(output) == STDOUT and row_format == "parquet")
    _require(is_file, "a page and a Parquet file need a name", "-")
    _refuse_overwriting(inputs, output, report)
    _require_folder(report)
    limit = _failure_limit(max_failures)
    worth = 0 if threads else worker_processes()
    opening: dict[str, Any] = {
        "device": device,
        "threads": threads,
        "processes": _count(processes, "--processes", least=0, auto=worth),
        "batch_size": _count(batch_size, "--batch-size", least=1, auto=_old_batch(output, resume)),
        "max_pixels": max_pixels,
        "sha256": model_sha256,
    }
    opening["starts_early"] = opening["processes"] > 0 and _is_long(inputs)
    start = time.perf_counter()
    classifier = Classifier(model, **opening) if model else Classifier.default(**opening)
    if self_test:
        _replay(classifier)
        return
    _require(not abstain or UNKNOWN not in classifier.spec.label_names, "is a class", "--abstain")
    sorter = Sorter(sort_into, link=link) if sort_into else None
    _refuse_sorting_into_inputs(sorter, inputs, classifier.spec.label_names)
    columns = Columns(
        label_names=classifier.spec.label_names,
        top_k=(top_k or _TOP_K) if probabilities == "top" or not in_rows else None,
        logits=logits,
        abstain=abstain,
    )
    sorting = None if sort_into is None else os.path.abspath(sort_into)
    job = _Job(
        inputs=inputs,
        columns=columns,
        skipped=Skipped(),
        limit=limit,
        output=output,
        row_format=row_format,
        resume=resume,
        all_files=all_files,
        settings=settings_of(
            classifier,
            columns,
            format=row_format,
            all_files=all_files,
            image_column=image_column,
            max_pixels=max_pixels,
            sort_into=sorting,
            link=link,
        ),
    )
    page = Report(columns.label_names) if report else None
    items = open_sources(inputs, job.skipped, all_files=all_files, image_column=image_column)
    batch_at_start = classifier.batch_size
    tally = _run(job, classifier, items, sorter, page)
    seconds = time.perf_counter() - start
    said = [summary(tally, job.skipped, classifier, batch_at_start, seconds)]
    if page and report:
        _write_report(page, report, classifier, tally, seconds)
        said.append(f"report: {report}")
    if output and str(output) != STDOUT:
        said.append(printable(f"rows: {output}"))
    for number in (signal.SIGINT, signal.SIGTERM):  # all is done: too late to stop
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # the rows are there, whoever cannot be told so
        typer.echo("\n".join(said), err=True)
    if job.skipped.unreadable_folders or tally.unsorted or (tally.failed and limit is None):
        raise typer.Exit(_EXIT_FAILED_FILES)


def _run(
    job: _Job,
    classifier: Classifier,
    items: Iterator[Item],
    sorter: Sorter | None,
    page: Report | None,
) -> Tally:
    """Classify the items; rows that were written before an error stay."""
    first = next(items, None)
    if first is None:  # before an older output is touched
        raise SourceError(f"no picture in {', '.join(job.inputs)}. Name a source that holds some")
    items, tally = chain([first], items), Tally()
    with contextlib.ExitStack() as stack:
        rows = None
        if job.output and job.row_format:
            rows = open_rows(
                job.output,
                job.row_format,
                job.columns,
                job.settings,
                resume=job.resume,
                batch_size=classifier.batch_size,
            )
            _interrupt.rows = stack.enter_context(rows)
            items = _without(rows.own_files(), items)
            if rows.is_resumed:
                skip_finished(items, rows, tally)
        results = run_batch(
            classifier,
            items,
            job.columns,
            tally,
            rows=rows,
            sorter=sorter,
            report=page,
            limit=job.limit,
        )
        if rows:
            results = with_bar(results, tally.rows, lambda: _total(job))
        for result in results:
            if not rows:
                _show(line_of(result, job.columns))
    return tally


def _without(own: set[str], items: Iterator[Item]) -> Iterator[Item]:
    """Leave out what this run writes into the folder that it reads."""
    names = {os.path.basename(path) for path in own}
    for item in items:
        if os.path.basename(item.name) not in names or os.path.realpath(item.name) not in own:
            yield item


def _show(line: str) -> None:
    try:
        if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison] - closed by the shell
            raise OSError(errno.EBADF, "standard output is closed")
        typer.echo(line)
    except OSError as error:
        # What is still buffered cannot be written either; Python would try once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise OutputError(
            f"the answers cannot be written ({error.strerror}). Name an --output"
        ) from error


def _require(condition: object, what: str, option: str) -> None:
    if not condition:
        raise typer.BadParameter(what, param_hint=option)


def _inputs(sources: list[str] | None, batch: str | None) -> list[str]:
    if bool(sources) == (batch is not None):
        raise typer.BadParameter("name IMAGE... or --batch DIR, one of the two")
    if batch is None:
        return sources or []
    is_there = os.path.exists(batch) or "://" in batch or any(c in batch for c in "-*?[")
    _require(is_there, f"nothing at {batch!r}", "--batch")
    return [batch]


def _count(text: str, option: str, *, least: int, auto: int | None) -> int | None:
    if text == "auto":
        return auto
    is_number = text.removeprefix("-").isdecimal() and int(text) >= least
    _require(is_number, f"{text!r} is neither auto nor a whole number from {least} on", option)
    return int(text)


def _old_batch(output: Path | None, resume: bool) -> int | None:
    """Go on with the batch size of the rows that are there: a GPU's is chosen by timing."""
    settings = recorded_settings(output) if output and resume else None
    return settings.get("batch_size") if settings else None


def _failure_limit(text: str | None) -> FailureLimit | None:
    try:
        return None if text is None else FailureLimit.parse(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is neither a number, as 20, nor a share, as 0.5%",
            param_hint="--max-failures",
        ) from error


def _refuse_overwriting(inputs: list[str], *outputs: Path | None) -> None:
    """Pictures, lists and archives are not written over; neither is one output by the other."""
    named = [output.resolve() for output in outputs if output]
    _require(len(set(named)) == len(named), "is --output too", "--report")
    for output in outputs:
        if not output or str(output) == STDOUT or not output.is_file():
            continue
        is_input = any(os.path.isfile(s) and os.path.samefile(s, output) for s in inputs)
        with output.open("rb") as file:
            is_picture = sniff(file.read(HEAD_BYTES)) is not None
        _require(not is_input, f"{output} is an input, and would be lost", "--output")
        _require(not is_picture, f"{output} is a picture, and would be lost", "--output")


def _require_folder(report: Path | None) -> None:
    _require(not report or report.parent.is_dir(), f"no folder for {report}", "--report")


def _refuse_sorting_into_inputs(
    sorter: Sorter | None, inputs: list[str], label_names: tuple[str, ...]
) -> None:
    """Copies in a folder that is being read would be read as well."""
    folders = [sorter.folder_of(label) for label in (*label_names, UNKNOWN)] if sorter else []
    for source in inputs:
        fixed = os.path.dirname(source.split("*")[0].split("?")[0].split("[")[0])
        root = os.path.realpath(source if os.path.isdir(source) else fixed or ".")
        if not os.path.isdir(source) and not any(sign in source for sign in "*?["):
            continue
        for folder in map(os.path.realpath, folders):
            is_inside = os.path.commonpath([folder, root]) in (folder, root)
            _require(not is_inside, f"{folder} and {source} share files", "--sort-into")


def _write_report(
    page: Report, path: Path, classifier: Classifier, tally: Tally, seconds: float
) -> None:
    spec = classifier.spec
    facts = {
        "model": f"{spec.precision}, exported {spec.created or 'at an unknown time'}",
        "sha256 of the model": classifier.sha256,
        "provider": classifier.provider,
        "time": f"{seconds:.1f} s, {tally.rows / seconds:,.0f} pictures per second",
        "command": shlex.join(["gclf-infer", *sys.argv[1:]]),
        "gclf-runtime": __version__,
    }
    try:
        with written_whole(path) as partial:
            partial.write_text(page.to_html(facts), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror or error}). Name another --report"
        ) from error


def _is_long(inputs: list[str]) -> bool:
    """Tell whether the inputs are surely work for several processes; files stand for pictures."""
    folders = filter(os.path.isdir, inputs)
    files = (name for folder in folders for _, _, names in os.walk(folder) for name in names)
    return len(inputs) >= _LONG or len(list(islice(files, _LONG))) == _LONG


def _total(job: _Job) -> int | None:
    """Count the inputs of a single folder; of other sources only reading them tells."""
    if len(job.inputs) > 1 or not os.path.isdir(job.inputs[0]):
        return None
    return sum(1 for _ in find_images(Path(job.inputs[0]), all_files=job.all_files))


def _examine(model: Path | None, device: Device, *, as_json: bool) -> None:
    """Print what the doctor finds; exit 1 when there is a problem."""
    from gclf_runtime import doctor

    record = doctor.examine(model, device)
    typer.echo(json.dumps(record, indent=1) if as_json else doctor.to_text(record))
    if record["problems"]:
        raise typer.Exit(1)


def _replay(classifier: Classifier) -> None:
    """Print how the model's own pictures are answered here; exit 1 when one is too far off."""
    from gclf_runtime.golden import GOLDEN_KEY, read_golden, replay

    if GOLDEN_KEY not in classifier.metadata:
        raise ModelError(
            "the model carries no pictures to replay. Export it again: gclf-export RUN/model.pt"
        )
    replayed = replay(classifier, read_golden(classifier.metadata[GOLDEN_KEY]))
    for name, difference in replayed.differences.items():
        typer.echo(f"{name:16} off by {difference:.7f}")
    name, difference = replayed.worst
    verdict = "passed" if replayed.passed else "FAILED"
    typer.echo(
        f"{verdict}: at most {difference:.7f} off ({name}), {replayed.tolerance:g} is allowed, "
        f"{classifier.provider}"
    )
    if not replayed.passed:
        raise typer.Exit(1)
