"""Checkpoints: the weights, the network's name and the ModelSpec, as data and never as code."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from gclf_runtime import ModelSpec
from gclf_trainer.errors import CheckpointError
from gclf_trainer.networks import build
from gclf_trainer.whole import write_whole

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
    """Write a checkpoint, whole or not at all.

    Raises:
        OSError: It cannot be written; an earlier one is as it was.
    """
    weights = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    record = {
        "format": _FORMAT,
        "network": network_name,
        "weights": weights,
        "spec": spec.to_json(),
    }
    content = io.BytesIO()
    torch.save(record, content)
    write_whole(path, content.getbuffer())


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
    if not isinstance(name, str) or not isinstance(weights, dict):
        raise _foreign(path, "it names no network, or holds no weights")
    try:
        spec = ModelSpec.from_json(str(fields.get("spec")))
        network = build(name, len(spec.label_names), spec.input)
        own = network.state_dict()  # with the versions of its modules, which a plain dict loses
        if own.keys() != cast(dict[str, Tensor], weights).keys():
            raise ValueError(f"its weights are not those of {name}")
        own.update(cast(dict[str, Tensor], weights))
        network.load_state_dict(own)
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
