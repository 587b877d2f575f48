"""`python -m benchmarks run`: ask; `python -m benchmarks publish`: write down what was answered."""

import tempfile
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import results
from benchmarks.conditions import conditions
from benchmarks.measuring import QUICK, Rule
from benchmarks.pictures import SEED
from benchmarks.results import Result
from benchmarks.workplace import Workplace

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
    data: Annotated[Path, typer.Option(help="Has faces/val.")] = Path("../shared/data"),
    scratch: Annotated[
        Path | None, typer.Option(help="Keep pictures and models here, to use them again.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the results; benchmarks/results/DATE-HARDWARE.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    checkpoint: Annotated[
        list[str] | None, typer.Option(help="cnn=RUN/model.pt: weights in place of drawn ones.")
    ] = None,
    bound: Annotated[float, typer.Option(help="How well a median must be known, 0-1.")] = 0.03,
    most: Annotated[int, typer.Option(help="Rounds at most.")] = 15,
) -> None:
    """Measure, and write one JSON file per question."""
    asked = questions or (_QUICK if quick else [name for name in QUESTIONS if name != "gpu"])
    for name in asked:
        if name not in QUESTIONS:
            raise typer.BadParameter(f"no question {name!r}. There are {', '.join(QUESTIONS)}")
    with tempfile.TemporaryDirectory(prefix="gclf-bench-") as temporary:
        place = Workplace(
            scratch=(scratch or Path(temporary)).absolute(),
            data=data.absolute(),
            quick=quick,
            rule=QUICK if quick else Rule(bound=bound, most=most),
            device=device,
            checkpoints=_checkpoints(checkpoint or []),
            with_peers=peers and not quick,
        )
        for name in asked:
            found = conditions(SEED)
            typer.echo(f"{name} ...", err=True)
            rows, notes = import_module(f"benchmarks.{name}").measure(place)
            result = Result(name, found, rows, notes)
            folder = output or results.FOLDER / results.folder_name(found)
            path = results.save(result, folder)
            typer.echo(import_module(f"benchmarks.{name}").tables(result))
            typer.echo(f"wrote {path}", err=True)


@app.command()
def publish(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Of results.")],
) -> None:
    """Make docs/benchmarks.md, its plots and the README's table of result files."""
    from benchmarks.publishing import publish_folder  # matplotlib takes a second

    for path in publish_folder(folder):
        typer.echo(f"wrote {path}")


def _checkpoints(named: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for words in named:
        network, separator, path = words.partition("=")
        if not separator or not Path(path).is_file():
            raise typer.BadParameter(f"{words!r} is not NETWORK=FILE of a checkpoint that is there")
        found[network] = Path(path).absolute()
    return found


if __name__ == "__main__":
    app()
