"""Checkpoint to verified file: written beside its name, checked, and only then given it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import onnx

from gclf_export import golden
from gclf_export.errors import ExportError
from gclf_export.graph import Deployable, to_onnx
from gclf_export.precision import Precision
from gclf_export.quantize import to_int8
from gclf_export.verify import Verdict, compare, load_all, read_listing
from gclf_runtime import Classifier, ModelError, ModelSpec
from gclf_runtime.model_file import seal
from gclf_runtime.spec import SPEC_KEY
from gclf_trainer import checkpoint
from gclf_trainer.folders import read_labelled

_VALIDATION_REMEDY = (
    "Name a folder of validation pictures, one subfolder per class: --validation DIR"
)
_CALIBRATION_REMEDY = "int8 is calibrated on training pictures: train again, or export fp32"


@dataclass(frozen=True)
class Exported:
    """A verified file.

    Attributes:
        path: Where it is.
        size_bytes: How large.
        parameters: Weights in its graph.
        spec: What it promises.
        verdict: How it compares with the checkpoint.
    """

    path: Path
    size_bytes: int
    parameters: int
    spec: ModelSpec
    verdict: Verdict


def export(
    source: Path,
    output: Path | None = None,
    *,
    network: str = "",
    precision: Precision = "fp32",
    max_drop: float = 0.005,
    validation: Path | None = None,
    license: str | None = None,
) -> Exported:
    """Export a checkpoint of gclf-train to one self-describing .onnx file, and prove it equal.

    Args:
        source: The checkpoint, for instance RUN/model.pt.
        output: The file to write; the checkpoint's name with .onnx when None.
        network: The user's own network, package.module:function, that the checkpoint is of. It
            is imported; so only ever pass what a user typed.
        precision: `fp32`, or `int8` calibrated on RUN/calibration.csv.
        max_drop: How much validation accuracy int8 may cost, 0-1; fp32 may cost nothing.
        validation: Pictures to verify on, one subfolder per class; those that the training
            validated on (RUN/validation.csv) when None.
        license: Licence of the weights; the checkpoint's when None.

    Raises:
        CheckpointError: The checkpoint is missing, foreign, damaged, or of another network.
        ExportError: The file does not answer as the checkpoint does, or there is nothing to
            verify on, or it cannot be written. Then an older file of that name is as it was.
    """
    trained = checkpoint.load(source, network=network)
    output = output or source.with_suffix(".onnx")
    if output.resolve() == source.resolve():
        raise ExportError(f"{output} is the checkpoint itself. Name another --output")
    if not output.parent.is_dir():
        raise ExportError(f"no folder at {output.parent}. Make it, or name another --output")
    names = trained.spec.label_names
    if validation:
        files = read_labelled(validation, names)
        if not files.paths:
            raise ExportError(f"{validation} holds no picture. {_VALIDATION_REMEDY}")
    else:
        files = read_listing(source.parent / "validation.csv", names, remedy=_VALIDATION_REMEDY)
    deployable = Deployable(trained).eval()
    model = to_onnx(deployable, trained.spec.input)
    if precision == "int8":
        listing = source.parent / "calibration.csv"
        calibration = read_listing(listing, names, remedy=_CALIBRATION_REMEDY)
        model = to_int8(model, trained.spec, load_all(calibration.paths, trained.spec.input))
    license = trained.spec.license if license is None else license
    versions = {**trained.spec.versions, **_versions()}
    spec = replace(
        trained.spec,
        precision=precision,
        checkpoint_sha256=trained.sha256,
        versions=versions,
        license=license,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        _write(partial, model, {SPEC_KEY: spec.to_json()})
        verdict = compare(deployable, Classifier(partial, device="cpu"), files)
        verdict.require(precision, max_drop=max_drop)
        measured = {"val_accuracy": verdict.accuracy, "val_count": verdict.count}
        metrics = {**spec.metrics, **measured}
        spec = replace(spec, metrics=metrics)
        _write(partial, model, _metadata(Classifier(partial, device="cpu"), spec))
        Classifier(partial, device="cpu")  # it opens under its final metadata
        partial.replace(output)
        _sync(output.parent)
    except ModelError as error:
        raise ExportError(str(error).replace(str(partial), str(source))) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise ExportError(
            f"{output} cannot be written ({reason}). Name another --output"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    parameters = sum(p.numel() for p in deployable.network.parameters())
    return Exported(output, output.stat().st_size, parameters, spec, verdict)


def _metadata(verified: Classifier, spec: ModelSpec) -> dict[str, str]:
    pictures = golden.pictures()
    answers = [a.probabilities_k for a in verified.predict_images(pictures.values())]
    return {
        SPEC_KEY: spec.to_json(),
        golden.GOLDEN_KEY: golden.to_json(pictures, answers, golden.TOLERANCE[spec.precision]),
        "names": str(dict(enumerate(spec.label_names))),  # as Ultralytics writes and reads it
    }


def _versions() -> dict[str, str]:
    packages = ("gclf-export", "onnx", "onnxscript")
    return {package: version(package) for package in packages}


def _write(path: Path, model: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(metadata))
    with path.open("wb") as file:
        file.write(seal(model.SerializeToString()))
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make a rename last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
