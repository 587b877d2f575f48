"""gclf-infer: pictures to answers, on the terminal or as one row per input."""

import contextlib
import json
import os
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import typer

from gclf_runtime.batch import FailureLimit, Tally, run_batch, skip_finished
from gclf_runtime.classifier import Classifier
from gclf_runtime.errors import GclfError, ModelError, OutputError, SourceError
from gclf_runtime.images import MAX_PIXELS
from gclf_runtime.items import Skipped
from gclf_runtime.output import STDOUT, RowFile, open_rows
from gclf_runtime.report import Report
from gclf_runtime.screen import line_of, summary, with_bar
from gclf_runtime.session import Device
from gclf_runtime.sinks import UNKNOWN, Columns, RowFormat, format_of
from gclf_runtime.sorting import Sorter
from gclf_runtime.sources import find_images, open_sources

T = TypeVar("T")
_EXIT_FAILED_FILES = 3

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
        sys.exit(f"error: {error}")
    except OSError as error:
        # What is still buffered cannot be written either; Python would try once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(f"error: the answers cannot be written ({error.strerror}). Name an --output")


class _Interrupt:
    """Ends the command at once on a signal: whole rows on disk, one line, no waiting."""

    def __init__(self) -> None:
        self.rows: RowFile | None = None

    def __call__(self, number: int, _frame: object) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)  # once is enough
        line = "stopped"
        if self.rows:
            self.rows.stop()
            line = f"stopped; {self.rows.path} holds whole rows. Go on with --resume"
        cursor = "\r\x1b[K\x1b[?25h" if sys.stderr.isatty() else ""
        with contextlib.suppress(OSError):
            os.write(2, f"{cursor}{line}\n".encode(errors="replace"))
        os._exit(128 + number)


_interrupt = _Interrupt()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gclf-infer {version('gclf-runtime')}")
        raise typer.Exit


_ROWS, _PICTURES, _CHECKS = "Rows", "Inputs", "Checks"


@app.command(epilog=_EPILOG)
def infer(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE",
            help="Pictures; also folders, globs, .tar and .zip, .parquet, a .txt of paths, URLs, "
            "and - for paths on standard input.",
        ),
    ] = None,
    *,
    batch: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Classify every picture below this folder, or in this source; links are followed.",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="An .onnx file of gclf-export.", show_default="embedded"),
    ] = None,
    model_sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="Refuse a model with another digest.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write one row per input: .csv, .jsonl or .parquet; - is standard output.",
            rich_help_panel=_ROWS,
        ),
    ] = None,
    row_format: Annotated[
        RowFormat | None,
        typer.Option(
            "--format", help="Form of the rows.", show_default="by suffix", rich_help_panel=_ROWS
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on where a stopped run left --output.", rich_help_panel=_ROWS
        ),
    ] = False,
    top_k: Annotated[
        int,
        typer.Option(min=1, help="How many classes to give, best first.", rich_help_panel=_ROWS),
    ] = 3,
    probabilities: Annotated[
        Literal["all", "top"],
        typer.Option(help="Of all classes, or of the --top-k best.", rich_help_panel=_ROWS),
    ] = "all",
    logits: Annotated[
        bool, typer.Option("--logits", help="Give the logits too.", rich_help_panel=_ROWS)
    ] = False,
    abstain: Annotated[
        float,
        typer.Option(
            metavar="P",
            min=0,
            max=1,
            help='Label "unknown" what is less probable than this.',
            rich_help_panel=_ROWS,
        ),
    ] = 0.0,
    sort_into: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Copy pictures into class folders.", rich_help_panel=_ROWS
        ),
    ] = None,
    link: Annotated[
        bool,
        typer.Option("--link", help="With --sort-into: link, not copy.", rich_help_panel=_ROWS),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write a page to look at.", rich_help_panel=_ROWS),
    ] = None,
    all_files: Annotated[
        bool,
        typer.Option(
            "--all-files",
            help="A row for hidden files too, and for those that are no pictures.",
            rich_help_panel=_PICTURES,
        ),
    ] = False,
    image_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of a .parquet source.", rich_help_panel=_PICTURES),
    ] = None,
    max_failures: Annotated[
        str | None,
        typer.Option(
            metavar="N|P%",
            help="Stop when more inputs fail.",
            show_default="any number",
            rich_help_panel=_PICTURES,
        ),
    ] = None,
    max_pixels: Annotated[
        int,
        typer.Option(
            min=1, help="Refuse a picture that holds more in memory.", rich_help_panel=_PICTURES
        ),
    ] = MAX_PIXELS,
    device: Annotated[
        Device, typer.Option(help="cuda: CUDA or an error; auto: CUDA when it starts.")
    ] = "auto",
    batch_size: Annotated[
        str, typer.Option(metavar="N|auto", help="Pictures per run of the model.")
    ] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Workers.", show_default="the CPUs this process may use"),
    ] = None,
    doctor: Annotated[
        bool,
        typer.Option(
            "--doctor", help="Say what a bug report needs, and stop.", rich_help_panel=_CHECKS
        ),
    ] = False,
    self_test: Annotated[
        bool,
        typer.Option(
            "--self-test",
            help="Replay the pictures and answers that the model carries, and stop.",
            rich_help_panel=_CHECKS,
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --doctor: for machines.", rich_help_panel=_CHECKS)
    ] = False,
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
    if not self_test and bool(sources) == (batch is not None):
        raise typer.BadParameter("name IMAGE... or --batch DIR, one of the two")
    if batch is not None and not os.path.exists(batch) and "://" not in batch and batch != STDOUT:
        raise typer.BadParameter(f"nothing at {batch!r}", param_hint="--batch")
    if resume and (report or output is None):
        raise typer.BadParameter("goes with --output, and not with --report", param_hint="--resume")
    inputs = sources or [batch or ""]
    _refuse_sorting_into_itself(sort_into, inputs)
    limit, size = _parsed(FailureLimit.parse, max_failures), _parsed(_batch_size, batch_size)
    if output and not row_format:
        row_format = "csv" if str(output) == STDOUT else format_of(output)
    start = time.perf_counter()
    opening: dict[str, Any] = {
        "device": device,
        "threads": threads,
        "batch_size": size,
        "max_pixels": max_pixels,
        "sha256": model_sha256,
    }
    classifier = Classifier(model, **opening) if model else Classifier.default(**opening)
    chosen_size = classifier.batch_size
    if self_test:
        _replay(classifier)
        return
    if abstain and UNKNOWN in classifier.spec.label_names:
        raise typer.BadParameter(f"this model has a class {UNKNOWN!r}", param_hint="--abstain")
    columns = Columns(
        label_names=classifier.spec.label_names,
        top_k=top_k if probabilities == "top" or output is None else None,
        logits=logits,
        abstain=abstain,
    )
    skipped, tally = Skipped(), Tally()
    items = open_sources(inputs, skipped, all_files=all_files, image_column=image_column)
    first = next(items, None)
    if first is None:  # before an older output is touched
        raise SourceError(f"no picture in {', '.join(inputs)}. Name a folder that holds some")
    items = chain([first], items)

    page = Report(columns.label_names) if report else None
    sorter = Sorter(sort_into, link=link) if sort_into else None
    with contextlib.ExitStack() as stack:
        rows = None
        if output and row_format:
            settings = _settings(classifier, columns, row_format, all_files, max_pixels)
            rows = open_rows(
                output, row_format, columns, settings, resume=resume, batch_size=chosen_size
            )
            _interrupt.rows = stack.enter_context(rows)
            if rows.is_resumed:
                skip_finished(items, rows, tally)
        results = run_batch(
            classifier, items, columns, tally, rows=rows, sorter=sorter, report=page, limit=limit
        )
        if output:
            results = with_bar(results, tally.rows, lambda: _count(inputs, all_files=all_files))
        for result in results:
            if not output:
                typer.echo(line_of(result, columns))
    said = summary(tally, skipped, classifier, chosen_size, time.perf_counter() - start)
    if page and report:
        _write_report(page, report, classifier, tally, time.perf_counter() - start)
        said += f"\nreport: {report}"
    if output and str(output) != STDOUT:
        said += f"\nrows: {output}"
    typer.echo(said, err=True)
    if skipped.unreadable_folders or (tally.failed and limit is None):
        raise typer.Exit(_EXIT_FAILED_FILES)


def _parsed(parse: Callable[[str], T], text: str | None) -> T | None:
    try:
        return None if text is None else parse(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is neither a number nor understood ({error})"
        ) from error


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    if int(text) < 1:
        raise ValueError("it must be at least 1")
    return int(text)


def _refuse_sorting_into_itself(folder: Path | None, inputs: list[str]) -> None:
    """Copies in a folder that is being read would be read as well."""
    for source in inputs:
        if folder and folder.resolve().is_relative_to(Path(source).resolve()):
            raise typer.BadParameter(f"{folder} lies within {source}", param_hint="--sort-into")


def _settings(
    classifier: Classifier, columns: Columns, row_format: str, all_files: bool, max_pixels: int
) -> dict[str, Any]:
    """Say all that decides the bytes of the rows."""
    return {
        "format": row_format,
        "model_sha256": classifier.sha256,
        "provider": classifier.provider,
        "batch_size": classifier.batch_size,
        "label_names": list(columns.label_names),
        "top_k": columns.top_k,
        "logits": columns.logits,
        "abstain": columns.abstain,
        "all_files": all_files,
        "max_pixels": max_pixels,
        "versions": {
            "onnxruntime": classifier.onnxruntime_version,
            **{name: version(name) for name in ("gclf-runtime", "numpy", "pillow")},
        },
    }


def _write_report(
    page: Report, path: Path, classifier: Classifier, tally: Tally, seconds: float
) -> None:
    spec = classifier.spec
    facts = {
        "classes": str(len(spec.label_names)),
        "model": f"{spec.precision}, exported {spec.created or 'at an unknown time'}",
        "sha256 of the model": classifier.sha256,
        "provider": classifier.provider,
        "time": f"{seconds:.1f} s, {tally.rows / seconds:,.0f} pictures per second",
        "command": shlex.join(["gclf-infer", *sys.argv[1:]]),
        "gclf-runtime": version("gclf-runtime"),
    }
    try:
        path.write_text(page.to_html(facts), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror or error}). Name another --report"
        ) from error


def _count(inputs: list[str], *, all_files: bool) -> int | None:
    """Count the inputs of a single folder; of other sources only reading them tells."""
    if len(inputs) > 1 or not os.path.isdir(inputs[0]):
        return None
    return sum(1 for _ in find_images(Path(inputs[0]), all_files=all_files))


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
