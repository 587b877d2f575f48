"""gclf-export: a checkpoint of gclf-train to one verified .onnx file.

torch takes seconds to import, so it is imported once the arguments are known to be right.
"""

import contextlib
import io
import logging
import math
import shlex
import sys
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gclf_export.options import PrecisionOption
from gclf_export.precision import DEFAULT_MAX_DROP, Choice
from gclf_runtime import GclfError
from gclf_trainer.interrupts import end_on_signals

if TYPE_CHECKING:
    from rich.table import Table

    from gclf_export.production import Export

_NO_LIMIT = 1_000_000  # columns of a pipe

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """Run the command; a GclfError is one line on stderr and exit code 1."""
    end_on_signals(_last_line)
    # torch's exporter and onnxruntime's quantiser talk of their own internals.
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    for stream in (sys.stdout, sys.stderr):  # a name that this terminal cannot show
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app(prog_name="gclf-export")
    except GclfError as error:
        from gclf_runtime.screen import printable

        sys.exit(f"error: {printable(str(error))}")


def _last_line() -> str:
    """Remove what was begun; an import that a signal has stopped is not waited for."""
    discard = getattr(sys.modules.get("gclf_export.delivery"), "discard", None)
    return discard() if discard else ""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gclf-export {version('gclf-export')}")
        raise typer.Exit


def _number(value: float) -> float:
    if math.isnan(value):  # it is neither below nor above a limit
        raise typer.BadParameter(f"{value} is no number.")
    return value


@app.command()
def command(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="Of gclf-train, for instance RUN/model.pt.")
    ],
    *,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write this file.", show_default="CHECKPOINT with .onnx"),
    ] = None,
    network: Annotated[
        str,
        typer.Option(
            metavar="package.module:function",
            help="Your own network that CHECKPOINT is of; it is imported only when named here.",
        ),
    ] = "",
    precision: Annotated[
        list[PrecisionOption] | None,
        typer.Option(
            help="Repeat it for several files, FILE.int8.onnx and so on. int8 is for the CPU and "
            "calibrated on RUN/calibration.csv, fp16 is for CUDA, auto is the fastest admitted "
            "on each provider here.",
            show_default="fp32",
        ),
    ] = None,
    max_drop: Annotated[
        float,
        typer.Option(
            min=0, max=1, callback=_number, help="How much accuracy a precision may cost, 0-1."
        ),
    ] = DEFAULT_MAX_DROP,
    validation: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Verify on these pictures, one subfolder per class.",
            show_default="what the training validated on",
        ),
    ] = None,
    license: Annotated[
        str | None, typer.Option(help="Licence of the weights.", show_default="the checkpoint's")
    ] = None,
    inspect: Annotated[
        bool,
        typer.Option("--inspect", help="Print what is in CHECKPOINT, an exported .onnx file."),
    ] = False,
    triton: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also add it to this Triton model repository."),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
) -> None:
    """Export a checkpoint to one self-describing .onnx file, and prove that nothing changed.

    Every validation picture, and some thirty awkward ones, go file → pixels → torch and file →
    pixels → onnxruntime. Unless no probability differs by 0.0001, nothing is written and the exit
    code is 1. int8, fp16 and bf16 are written when the accuracy stays within --max-drop and they
    are faster than fp32 where they are meant to run; what is refused is said, and the exit code
    is 1.
    """
    if inspect:
        _inspect(checkpoint)
        return
    from rich.console import Console

    wanted = dict.fromkeys(precision or [PrecisionOption.FP32])
    choices: list[Choice] = [option.value for option in wanted]
    output = output or checkpoint.with_suffix(".onnx")
    # onnxruntime and torch print, too.
    quiet = contextlib.redirect_stdout(io.StringIO())
    with Console(stderr=True).status("exporting and verifying"), quiet:
        from gclf_export.exporter import export_all

        if triton:
            _require_place(triton, checkpoint, network, output, choices)
        done = export_all(
            checkpoint,
            output,
            network=network,
            precisions=choices,
            max_drop=max_drop,
            validation=validation,
            license=license,
        )
    _report(done)
    if triton:
        _serve(triton, done)
    for name, reason in done.refused.items():
        _say(f"error: {name} is not written: {reason}", err=True)
    if done.refused:
        raise typer.Exit(1)


def _require_place(
    repository: Path, source: Path, network: str, output: Path, choices: list[Choice]
) -> None:
    """Refuse a name that another model has in the repository, before anything is made."""
    from gclf_export.production import possible_files
    from gclf_export.triton import require_place
    from gclf_trainer import checkpoint

    spec = checkpoint.load(source, network=network).spec
    for path in possible_files(output, choices):
        require_place(repository, path, spec)


def _serve(repository: Path, done: "Export") -> None:
    from gclf_export.triton import write_repository

    for file in done.written:
        added = write_repository(repository, file.path, file.spec)
        typer.echo(f"added {added.parent.name}, version {added.name}")
    typer.echo(f"serve: tritonserver --model-repository {shlex.quote(str(repository))}")


def _report(done: "Export") -> None:
    from gclf_export import tables

    spec = done.written[0].spec
    _print(tables.facts({"classes": ", ".join(spec.label_names)}))
    _print(tables.rungs(done.certificate["rungs"]))
    for name, reason in done.certificate["refused"].items():
        if name not in done.refused:
            _say(f"{name} is not written: {reason}")
    for file in done.written:
        weights = f"{file.parameters:,} weights in {file.spec.precision}"
        _say(f"wrote {file.path} and {file.card.name} ({file.size_bytes / 1e6:.2f} MB, {weights})")
    _warn(done.certificate)
    _say(f"next: gclf-infer --batch DIR --model {shlex.quote(str(done.written[0].path))}")


def _inspect(path: Path) -> None:
    from gclf_export import tables
    from gclf_export.inspection import inspect

    found = inspect(path)
    _print(tables.inspected(found))
    if found.certificate:
        _print(tables.rungs(found.certificate["rungs"]))
        _warn(found.certificate)
    else:
        typer.echo("it carries no certificate: an older gclf exported it")


def _warn(certificate: Mapping[str, Any]) -> None:
    warned = certificate.get("warnings")
    for warning in warned if isinstance(warned, list) else ():
        _say(f"warning: {warning}", err=True)


def _say(line: str, *, err: bool = False) -> None:
    """Print one line; a terminal obeys no name in it."""
    from gclf_runtime.screen import printable

    typer.echo(printable(line), err=err)


def _print(table: "Table") -> None:
    from rich.console import Console

    width = None if sys.stdout.isatty() else _NO_LIMIT
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False, width=width)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())
