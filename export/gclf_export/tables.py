"""What the command shows, as tables; it prints nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from gclf_export.inspection import Inspection
from gclf_runtime.screen import printable

_COLUMNS: tuple[tuple[str, str], ...] = (
    ("precision", "{}"),
    ("provider", "{}"),
    ("accuracy (95 %)", "{accuracy:.4f} ({accuracy_low:.4f}-{accuracy_high:.4f})"),
    (
        "checkpoint",
        "{checkpoint_accuracy:.4f} ({checkpoint_accuracy_low:.4f}-{checkpoint_accuracy_high:.4f})",
    ),
    ("pictures", "{count}"),
    ("same answer", "{agreement:.2%}"),
    ("mean Δ", "{mean_difference:.1e}"),
    ("max |Δp|", "{max_difference:.1e}"),
    ("awkward", "{awkward_agreement:.0%} of {awkward_count}, {awkward_max_difference:.1e}"),
    ("ms/batch", "{milliseconds:.1f}/{batch_size}"),
    ("verdict", "{verdict}"),
)


def rungs(records: Sequence[Mapping[str, Any]]) -> Table:
    """Show a certificate, one row for each precision and provider; figures it lacks as -."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="")
    for title, _ in _COLUMNS:
        table.add_column(title, overflow="fold")
    for record in records:
        known = {
            **record,
            "provider": str(record.get("provider")).removesuffix("ExecutionProvider"),
        }
        if not record.get("batch_size"):
            known.pop("milliseconds", None)  # it was not timed
        cells: list[str] = []
        for title, form in _COLUMNS:
            try:
                cells.append(form.format(known[title]) if form == "{}" else form.format(**known))
            except (KeyError, ValueError, TypeError):
                cells.append("-")
        table.add_row(*map(printable, cells))
    return table


def facts(pairs: Mapping[str, str]) -> Table:
    """Show names and values."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in pairs.items():
        table.add_row(name, printable(value))
    return table


def inspected(found: Inspection) -> Table:
    """Show all of a file but its certificate."""
    file, spec = found.file, found.spec
    pairs: dict[str, str] = {}
    if spec:
        fit = spec.input
        margin = f", JPEG scaled to {fit.jpeg_scale_margin}×" if fit.jpeg_scale_margin else ""
        metrics = ", ".join(f"{name} {value:.6g}" for name, value in spec.metrics.items())
        versions = ", ".join(f"{name} {value}" for name, value in spec.versions.items())
        pairs |= {
            "classes": ", ".join(spec.label_names),
            "input": f"{fit.width}×{fit.height} RGB, {fit.fit}, {fit.interpolation}{margin}",
            "mean, std": f"{_numbers(spec.mean)}; {_numbers(spec.std)}",
            "temperature": f"{spec.temperature:.6g}",
            "precision": spec.precision,
            "metrics": metrics or "none",
            "checkpoint": spec.checkpoint_sha256 or "not recorded",
            "training set": spec.dataset_sha256 or "not recorded",
            "made with": versions or "not recorded",
            "license": spec.license or "not recorded",
            "created": spec.created or "not recorded",
        }
    operators = ", ".join(f"{name} {count}" for name, count in file.operators.items())
    pairs |= {
        "operators": operators,
        "parameters": f"{file.parameters:,} numbers in the graph",
        "compute": f"{2 * found.multiply_adds / 1e6:,.1f} MFLOP per picture (2 × multiply-adds)",
        "size": f"{found.size_bytes:,} bytes",
        "opset": f"{file.opset}, IR {file.ir_version}",
        "digest": file.digest or "none",
    }
    return facts(pairs)


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
