"""The options of gclf-infer: their types, names and help."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from gclf_runtime.session import Device as DeviceName
from gclf_runtime.sinks.rows import RowFormat

_ROWS = "Rows"
_INPUTS = "Inputs"
_SPEED = "Speed"
_CHECKS = "Checks"

Sources: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IMAGE...",
        help="Pictures; also folders, globs, .tar and .zip, .parquet, a .txt of paths, URLs, "
        "and - for paths on standard input.",
    ),
]
Batch: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Classify every picture below this folder, or in this source; links are followed.",
    ),
]
Model: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="An .onnx file of gclf-export.", show_default="embedded"),
]
ModelSha256: TypeAlias = Annotated[
    str | None, typer.Option(metavar="HEX", help="Refuse a model with another digest.")
]
Device: TypeAlias = Annotated[
    DeviceName, typer.Option(help="cuda: CUDA or an error; auto: CUDA when it starts.")
]

Output: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write one row per input: .csv, .jsonl or .parquet; - is standard output.",
        rich_help_panel=_ROWS,
    ),
]
Format: TypeAlias = Annotated[
    RowFormat | None,
    typer.Option(
        "--format", help="Form of the rows.", show_default="by suffix", rich_help_panel=_ROWS
    ),
]
Resume: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--resume", help="Go on where a stopped run left --output.", rich_help_panel=_ROWS
    ),
]
Probabilities: TypeAlias = Annotated[
    Literal["all", "top"],
    typer.Option(help="Of all classes, or of the --top-k best.", rich_help_panel=_ROWS),
]
TopK: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="How many classes to give, best first: on the terminal, and in rows with "
        "--probabilities top.",
        show_default="3",
        rich_help_panel=_ROWS,
    ),
]
Logits: TypeAlias = Annotated[
    bool, typer.Option("--logits", help="Give the logits too.", rich_help_panel=_ROWS)
]
Abstain: TypeAlias = Annotated[
    float,
    typer.Option(
        metavar="P",
        min=0,
        max=1,
        help='Label "unknown" what is less probable than this.',
        rich_help_panel=_ROWS,
    ),
]
SortInto: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Copy pictures into class folders.", rich_help_panel=_ROWS),
]
Link: TypeAlias = Annotated[
    bool, typer.Option("--link", help="With --sort-into: link, not copy.", rich_help_panel=_ROWS)
]
ReportFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="FILE.html", help="Write a page to look at.", rich_help_panel=_ROWS),
]

AllFiles: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--all-files",
        help="A row for hidden files too, and for those that are no pictures.",
        rich_help_panel=_INPUTS,
    ),
]
ImageColumn: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="Of a .parquet source.", rich_help_panel=_INPUTS)
]
MaxFailures: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="N|P%",
        help="Stop when more inputs fail.",
        show_default="any number",
        rich_help_panel=_INPUTS,
    ),
]
MaxPixels: TypeAlias = Annotated[
    int,
    typer.Option(
        min=1, help="Refuse a picture that holds more in memory.", rich_help_panel=_INPUTS
    ),
]

BatchSize: TypeAlias = Annotated[
    str,
    typer.Option(metavar="N|auto", help="Pictures per run of the model.", rich_help_panel=_SPEED),
]
Threads: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1, help="Workers.", show_default="the CPUs this process may use", rich_help_panel=_SPEED
    ),
]
Processes: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="N|auto",
        help="Worker processes on the CPU; auto: one per CPU, one less of three or four CPUs (this "
        "process works too), none of fewer CPUs and with --threads.",
        rich_help_panel=_SPEED,
    ),
]

Doctor: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--doctor", help="Say what a bug report needs, and stop.", rich_help_panel=_CHECKS
    ),
]
AsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="With --doctor: for machines.", rich_help_panel=_CHECKS)
]
SelfTest: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--self-test",
        help="Replay the pictures and answers that the model carries, and stop.",
        rich_help_panel=_CHECKS,
    ),
]
