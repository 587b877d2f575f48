"""Checkpoints: the weights, the network's name and the ModelSpec, as data and never as code."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from gclf_runtime import ModelSpec
from gclf_trainer.errors import CheckpointError
from gclf_trainer.networks import NETWORKS, build

_FORMAT = "gclf-checkpoint-1"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network with everything needed to export it.

    Attributes:
        network_name: Its key in `gclf_trainer.networks.NETWORKS`.
        network: In evaluation mode, on the CPU.
        spec: What it promises.
        sha256: Digest of the file it was read from.
    """

    network_name: str
    network: nn.Module
    spec: ModelSpec
    sha256: str


def save(path: Path, network_name: str, network: nn.Module, spec: ModelSpec) -> None:
    """Write a checkpoint, whole or not at all."""
    weights = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    record = {
        "format": _FORMAT,
        "network": network_name,
        "weights": weights,
        "spec": spec.to_json(),
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        torch.save(record, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing in the file is executed.

    Raises:
        CheckpointError: No such file, not a checkpoint of gclf-train, or damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}. Train one: gclf-train DATA --output RUN")
    try:
        record: object = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and struct errors, a dozen kinds
        raise _foreign(path, "it cannot be read as tensors and plain data") from error
    if not isinstance(record, dict):
        raise _foreign(path, "it holds no record")
    fields = cast(dict[str, Any], record)
    if fields.get("format") != _FORMAT:
        raise _foreign(path, f"its format is {fields.get('format')!r}, not {_FORMAT!r}")
    name, weights = fields.get("network"), fields.get("weights")
    if not isinstance(name, str) or name not in NETWORKS or not isinstance(weights, dict):
        raise _foreign(path, f"its network {name!r} is not one of {', '.join(NETWORKS)}")
    try:
        spec = ModelSpec.from_json(str(fields.get("spec")))
        network = build(name, len(spec.label_names), spec.input)
        network.load_state_dict(cast(dict[str, Tensor], weights))
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise _foreign(path, " ".join(str(error).split())[:200]) from error
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Checkpoint(name, network.eval(), spec, sha256)


def _foreign(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a checkpoint of gclf-train: {reason}. "
        "Train one: gclf-train DATA --output RUN"
    )
