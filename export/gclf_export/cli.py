"""gclf-export: a checkpoint of gclf-train to one verified .onnx file.

torch takes seconds to import, so it is imported once the arguments are known to be right.
"""

import logging
import sys
import warnings
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gclf_export.precision import Precision
from gclf_runtime import GclfError

if TYPE_CHECKING:
    from gclf_export.exporter import Exported

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """Run the command; a GclfError is one line on stderr and exit code 1."""
    # torch's exporter and onnxruntime's quantiser talk of their own internals.
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    for stream in (sys.stdout, sys.stderr):  # a name that this terminal cannot show
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except GclfError as error:
        sys.exit(f"error: {error}")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gclf-export {version('gclf-export')}")
        raise typer.Exit


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
        Precision, typer.Option(help="int8 is calibrated on RUN/calibration.csv.")
    ] = "fp32",
    max_drop: Annotated[
        float, typer.Option(min=0, max=1, help="How much accuracy int8 may cost, 0-1.")
    ] = 0.005,
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

    Every validation picture goes file → pixels → torch and file → pixels → onnxruntime. Unless
    all top-1 answers agree and no probability differs by 0.0001 (in int8: unless the accuracy
    stays within --max-drop), nothing is written and the exit code is 1.
    """
    from rich.console import Console

    with Console(stderr=True).status("exporting and verifying"):
        from gclf_export.exporter import export

        exported = export(
            checkpoint,
            output,
            network=network,
            precision=precision,
            max_drop=max_drop,
            validation=validation,
            license=license,
        )
    if triton:
        from gclf_export.triton import write_repository

        write_repository(triton, exported.path, exported.spec)
    _report(exported)
    if triton:
        typer.echo(f"serve: tritonserver --model-repository {triton}")


def _report(exported: "Exported") -> None:
    from rich.console import Console
    from rich.table import Table

    verdict = exported.verdict
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("classes", ", ".join(exported.spec.label_names))
    weights = f"{exported.parameters:,} weights in {exported.spec.precision}"
    size = f"{exported.size_bytes / 1e6:.2f} MB, {weights}"
    table.add_row("size", size)
    table.add_row("verified on", f"{verdict.count} validation pictures, onnxruntime against torch")
    table.add_row(
        "accuracy", f"{verdict.accuracy:.4f} (checkpoint {verdict.checkpoint_accuracy:.4f})"
    )
    table.add_row("top-1 agreement", f"{verdict.agreement:.2%}")
    difference = f"largest {verdict.max_difference:.1e}, mean {verdict.mean_difference:.1e}"
    table.add_row("probabilities", f"differ by: {difference}")
    Console(highlight=False, soft_wrap=True, markup=False, emoji=False).print(table)
    typer.echo(f"wrote {exported.path}")
    typer.echo(f"next: gclf-infer --batch DIR --model {exported.path}")
