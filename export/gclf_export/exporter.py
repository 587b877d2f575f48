"""Checkpoint to verified file: written beside its name, checked, and only then given it."""

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import onnx
from gclf_runtime import Classifier, ModelSpec
from gclf_runtime.spec import SPEC_KEY
from gclf_trainer import checkpoint
from gclf_trainer.folders import read_labelled

from gclf_export import golden
from gclf_export.errors import ExportError
from gclf_export.graph import Deployable, describe, to_onnx
from gclf_export.verify import Verdict, compare, read_validation, torch_probabilities


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
    validation: Path | None = None,
    license: str | None = None,
) -> Exported:
    """Export a checkpoint of gclf-train to one self-describing .onnx file, and prove it equal.

    Args:
        source: The checkpoint, for instance RUN/model.pt.
        output: The file to write; the checkpoint's name with .onnx when None.
        validation: Pictures to verify on, one subfolder per class; those that the training
            validated on (RUN/validation.csv) when None.
        license: Licence of the weights; the checkpoint's when None.

    Raises:
        CheckpointError: The checkpoint is missing, foreign or damaged.
        ExportError: The file does not answer as the checkpoint does, or there is nothing to
            verify on, or it cannot be written. Then an older file of that name is as it was.
    """
    trained = checkpoint.load(source)
    output = output or source.with_suffix(".onnx")
    if validation:
        files = read_labelled(validation, trained.spec.label_names)
    else:
        files = read_validation(source.parent / "validation.csv", trained.spec.label_names)
    deployable = Deployable(trained).eval()
    size = trained.spec.input
    model = to_onnx(deployable, size.height, size.width)
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        describe(model, _metadata(deployable, trained.spec))
        _write(partial, model)
        verdict = compare(deployable, Classifier(partial, device="cpu"), files)
        verdict.require()
        spec = replace(
            trained.spec,
            metrics={"val_accuracy": verdict.accuracy, "val_count": verdict.count},
            checkpoint_sha256=trained.sha256,
            versions={**trained.spec.versions, **_versions()},
            license=trained.spec.license if license is None else license,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        describe(model, _metadata(deployable, spec))
        _write(partial, model)
        Classifier(partial, device="cpu")  # the file under its final metadata opens
        partial.replace(output)
        _sync(output.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ExportError(
            f"{output} cannot be written ({reason}). Name another --output"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    parameters = sum(p.numel() for p in deployable.network.parameters())
    return Exported(output, output.stat().st_size, parameters, spec, verdict)


def _metadata(deployable: Deployable, spec: ModelSpec) -> dict[str, str]:
    pictures = golden.pictures()
    expected_nk = torch_probabilities(deployable, list(pictures.values()), spec.input)
    return {
        SPEC_KEY: spec.to_json(),
        golden.GOLDEN_KEY: golden.to_json(list(pictures), expected_nk),
        "names": str(dict(enumerate(spec.label_names))),  # as Ultralytics writes and reads it
    }


def _versions() -> dict[str, str]:
    packages = ("gclf-export", "onnx", "onnxscript")
    return {package: version(package) for package in packages}


def _write(path: Path, model: onnx.ModelProto) -> None:
    with path.open("wb") as file:
        file.write(model.SerializeToString())
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make a rename last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
