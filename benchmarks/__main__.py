"""`python -m benchmarks run`: ask; `python -m benchmarks publish`: write down what was answered."""

import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from benchmarks import results
from benchmarks.conditions import conditions
from benchmarks.environments import PeerError
from benchmarks.measuring import QUICK, Rule
from benchmarks.pictures import SEED
from benchmarks.processes import ProcessError
from benchmarks.results import Result
from benchmarks.turns.worker import WorkerError
from benchmarks.workplace import NETWORKS, Workplace
from gclf_runtime.session import has_driver

# In the order in which they are asked and written down.
QUESTIONS = (
    "network",
    "decoding",
    "files_to_rows",
    "startup",
    "memory",
    "training",
    "callers",
    "gpu",
)
_QUICK = ("network", "decoding", "files_to_rows", "startup")
_ON_DEVICE = ("training", "gpu")

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


@app.command()
def run(
    questions: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(QUESTIONS)}; all but gpu when none.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="The first four, small, once, without peers.")
    ] = False,
    peers: Annotated[bool, typer.Option(help="Make the peers' environments and run them.")] = True,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Has faces/train and faces/val; without it the examples' twelve faces are used.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    scratch: Annotated[
        Path | None, typer.Option(help="Keep the pictures here, to use them again.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the results; benchmarks/results/DATE-HARDWARE[-quick]."),
    ] = None,
    device: Annotated[
        Literal["cpu", "cuda"], typer.Option(help=f"cuda is for {' and '.join(_ON_DEVICE)}.")
    ] = "cpu",
    checkpoint: Annotated[
        list[str] | None, typer.Option(help="cnn=RUN/model.pt: weights in place of drawn ones.")
    ] = None,
    bound: Annotated[
        float, typer.Option(min=0, max=1, help="How well a median must be known.")
    ] = 0.03,
    most: Annotated[int, typer.Option(min=1, help="Rounds at most.")] = 15,
) -> None:
    """Measure, and write one JSON file per question."""
    asked = questions or (_QUICK if quick else [name for name in QUESTIONS if name != "gpu"])
    _check(asked, device, data)
    if output and output.exists() and not output.is_dir():
        raise typer.BadParameter(f"{output} is a file. Name a folder", param_hint="--output")
    name = results.folder_name(conditions(SEED)) + ("-quick" if quick else "")
    folder = output or results.FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise typer.BadParameter(f"{folder} cannot be written to", param_hint="--output")
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="gclf-bench-") as temporary:
        place = Workplace(
            scratch=(scratch or Path(temporary)).absolute(),
            temporary=Path(temporary),
            data=data.absolute() if data else Path(temporary) / "no-data",
            quick=quick,
            rule=QUICK if quick else Rule(bound=bound, most=most),
            device=device,
            checkpoints=_checkpoints(checkpoint or []),
            with_peers=peers and not quick,
        )
        for name in asked:
            typer.echo(f"{name} ...", err=True)
            try:
                _ask(name, place, folder)
            except (PeerError, ProcessError, WorkerError, ValueError, OSError) as error:
                failed.append(name)
                typer.echo(results.clean(f"error: {name} was not answered: {error}"), err=True)
    if failed:
        raise typer.Exit(1)


@app.command()
def publish(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Of results.")],
) -> None:
    """Make docs/benchmarks.md, its plots and the README's table of result files."""
    from benchmarks.publishing import publish_folder  # matplotlib takes a second

    try:
        written = publish_folder(folder)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        typer.echo(f"error: {folder} cannot be published ({error!r}). Measure it again", err=True)
        raise typer.Exit(1) from error
    for path in written:
        typer.echo(f"wrote {path}")


def _check(asked: Sequence[str], device: str, data: Path | None) -> None:
    for name in asked:
        if name not in QUESTIONS:
            raise typer.BadParameter(f"no question {name!r}. There are {', '.join(QUESTIONS)}")
        if device != "cpu" and name not in _ON_DEVICE:
            raise typer.BadParameter(
                f"{name} is asked of the CPU alone. Name those for {device}: {' '.join(_ON_DEVICE)}"
            )
    if device == "cuda" and not has_driver():
        raise typer.BadParameter("there is no NVIDIA driver here. Leave --device out")
    if data and not (data / "faces" / "val").is_dir():
        raise typer.BadParameter(f"no faces/val in {data}. Leave --data out to use the examples")


def _ask(name: str, place: Workplace, folder: Path) -> None:
    """Measure, write and show; where a question has one budget for all it compares, it counts."""
    question: Any = import_module(f"benchmarks.{name}")
    found = conditions(SEED) | place.record()
    if budget_s := getattr(question, "BUDGET_S", None):
        found["rule"]["budget_s"] = budget_s
    rows, notes = question.measure(place)
    if not rows:
        typer.echo(f"{name} was not measured: {'; '.join(notes)}", err=True)
        return
    result = Result(name, found, rows, notes)
    path = results.save(result, folder)
    typer.echo(question.tables(result))
    typer.echo(f"wrote {path}", err=True)


def _checkpoints(named: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for words in named:
        network, separator, path = words.partition("=")
        if not separator or network not in NETWORKS or not Path(path).is_file():
            known = " or ".join(NETWORKS)
            raise typer.BadParameter(f"{words!r} is not NETWORK=FILE, of {known} and a checkpoint")
        found[network] = Path(path).absolute()
    return found


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # and clean up
    app()
