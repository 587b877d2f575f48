"""A checkpoint of gclf-train to certified files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gclf_export.card import read_groups
from gclf_export.listing import CALIBRATION_REMEDY, read_listing, read_validation
from gclf_export.precision import DEFAULT_MAX_DROP, Choice
from gclf_export.production import Export, Exported, Order, produce
from gclf_trainer import checkpoint


def export(
    source: Path,
    output: Path | None = None,
    *,
    network: str = "",
    precision: Choice = "fp32",
    max_drop: float = DEFAULT_MAX_DROP,
    validation: Path | None = None,
    license: str | None = None,
) -> Exported:
    """Export a checkpoint of gclf-train to one self-describing .onnx file, and prove it equal.

    Args:
        source: The checkpoint, for instance RUN/model.pt.
        output: The file to write; the checkpoint's name with .onnx when None.
        network: The user's own network, package.module:function, that the checkpoint is of. It
            is imported; so only ever pass what a user typed.
        precision: One of those of `export_all`; `auto` is what is fastest on the CPU.
        max_drop: How much validation accuracy a reduced precision may cost, 0-1.
        validation: Pictures to verify on, one subfolder per class; those that the training
            validated on (RUN/validation.csv) when None.
        license: Licence of the weights; the checkpoint's when None.

    Raises:
        CheckpointError: The checkpoint is missing, foreign, damaged, or of another network.
        ExportError: The file does not answer as the checkpoint does, its precision is not
            admitted, there is nothing to verify on, or it cannot be written. Then an older file
            of that name is as it was.
    """
    done = export_all(
        source,
        output,
        network=network,
        precisions=[precision],
        max_drop=max_drop,
        validation=validation,
        license=license,
    )
    return done.written[0]


def export_all(
    source: Path,
    output: Path | None = None,
    *,
    network: str = "",
    precisions: Sequence[Choice],
    max_drop: float = DEFAULT_MAX_DROP,
    validation: Path | None = None,
    license: str | None = None,
) -> Export:
    """Export a checkpoint in several precisions, each certified; see `export` for the rest.

    Args:
        source: The checkpoint.
        output: The file; where several are asked for, `m.onnx` becomes `m.fp32.onnx` and so on.
        network: As of `export`.
        precisions: `fp32`; `int8` calibrated on RUN/calibration.csv, for the CPU; `fp16` for
            CUDA; `bf16` where onnxruntime has it; `auto`, the fastest admitted of all on each
            provider of this machine. One that costs more accuracy than `max_drop`, or is not
            faster than fp32 on the provider it is meant for, is refused and not written.
        max_drop: As of `export`.
        validation: As of `export`.
        license: As of `export`.

    Raises:
        CheckpointError: As of `export`.
        ExportError: As of `export`, when no precision was admitted.
    """
    trained = checkpoint.load(source, network=network)
    output = output or source.with_suffix(".onnx")
    names = trained.spec.label_names
    pictures = read_validation(validation, source.parent / "validation.csv", names)
    if license is not None:
        trained = replace(trained, spec=replace(trained.spec, license=license))
    listing = source.parent / "calibration.csv"
    return produce(
        Order(
            trained=trained,
            output=output,
            pictures=pictures,
            calibration=lambda: read_listing(listing, names, remedy=CALIBRATION_REMEDY),
            precisions=precisions,
            max_drop=max_drop,
            is_own_split=validation is None,
            groups=read_groups(source.parent / "result.json"),
            source=source,
        )
    )
