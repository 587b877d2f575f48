"""Checkpoints: the weights, the network's name and the ModelSpec, as data and never as code."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from gclf_runtime import ModelError, ModelSpec
from gclf_trainer import torch_file
from gclf_trainer.atomic_file import write_whole
from gclf_trainer.errors import CheckpointError
from gclf_trainer.networks import NETWORKS, PREFIX, admit, build

_FORMAT = "gclf-checkpoint-1"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network with everything needed to export it.

    Attributes:
        network_name: Its name in `gclf_trainer.networks.NETWORKS`, torchvision:NAME, or
            package.module:function.
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


def load(path: Path, *, network: str = "", option: str = "--network") -> Checkpoint:
    """Read a checkpoint; nothing in the file is executed or imported because the file says so.

    Args:
        path: The file.
        network: The network that it must be of, as a user typed it: package.module:function is
            imported. Any that is known already when "".
        option: What lets in a network that is the user's own code, to name it where that lacks.

    Raises:
        CheckpointError: No such file, not a checkpoint of gclf-train, damaged, or of another
            network or one that is not known.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}. Train one: gclf-train DATA --output RUN")
    try:
        record = torch_file.read(path)
    except (OSError, ValueError) as error:
        reason = f"it cannot be read as tensors and plain data ({torch_file.reason_of(error)})"
        raise _foreign(path, reason) from error
    return from_record(path, record, network=network, option=option)


def from_record(
    path: Path, record: object, *, network: str = "", option: str = "--network"
) -> Checkpoint:
    """Make a checkpoint of what was read from a file as data already; otherwise as `load`."""
    if not isinstance(record, dict):
        raise _foreign(path, "it holds no record")
    fields = cast(dict[str, Any], record)
    if fields.get("format") != _FORMAT:
        raise _foreign(path, f"its format is {fields.get('format')!r}, not {_FORMAT!r}")
    name, weights = fields.get("network"), fields.get("weights")
    if not isinstance(name, str) or not isinstance(weights, dict):
        raise _foreign(path, "it names no network, or holds no weights")
    _admit(path, name, network, option)
    try:
        spec = ModelSpec.from_json(str(fields.get("spec")))
        tensors = cast(dict[str, object], weights)
        if not _is_users(name):
            _compare(name, _outline(name, spec), tensors)
        built = build(name, len(spec.label_names), spec.input)
        own = built.state_dict()  # with the versions of its modules, which a plain dict loses
        _compare(name, own, tensors)
        own.update(cast(dict[str, Tensor], weights))
        built.load_state_dict(own)
    except ModelError as error:  # its remedy is of an exported file
        raise _foreign(path, str(error).rpartition(". ")[0]) from error
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise _foreign(path, " ".join(str(error).split())[:200]) from error
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Checkpoint(name, built.eval(), spec, sha256)


def _is_users(name: str) -> bool:
    return ":" in name and not name.startswith(PREFIX)


def _outline(name: str, spec: ModelSpec) -> dict[str, Tensor]:
    """Return a network's tensors without their memory: a small file may claim a huge input."""
    try:
        with torch.device("meta"):
            return build(name, len(spec.label_names), spec.input).state_dict()
    except NotImplementedError:  # torchvision's regnets read numbers while they are built
        return build(name, len(spec.label_names), spec.input).state_dict()


def _compare(name: str, own: Mapping[str, Tensor], weights: Mapping[str, object]) -> None:
    """See that weights are a network's: plain tensors of its names, shapes and kinds of number."""
    if own.keys() != weights.keys():
        raise ValueError(f"its weights are not those of {name}")
    for key, wanted in own.items():
        given = weights[key]
        if not isinstance(given, Tensor) or given.device.type != "cpu" or _is_sparse(given):
            raise ValueError(f"its {key} is no plain tensor")
        if given.shape != wanted.shape:
            shapes = f"{tuple(given.shape)}, {name} of its spec has {tuple(wanted.shape)}"
            raise ValueError(f"its {key} is of shape {shapes}")
        if _kind(given) != _kind(wanted):  # a copy would cut what is complex, without an error
            raise ValueError(f"its {key} is {given.dtype}, {name} has {wanted.dtype}")
        if given.numel() * given.element_size() > given.untyped_storage().nbytes():
            raise ValueError(f"its {key} repeats fewer numbers than it has")


def _is_sparse(tensor: Tensor) -> bool:
    return tensor.layout != torch.strided


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex()


def _admit(path: Path, name: str, typed: str, option: str) -> None:
    """Import the user's own network, if it is the one that the user typed."""
    if typed and typed != name:
        raise CheckpointError(f"{path} is of {name}, not of {typed}. Pass {option} {name}")
    if typed:
        try:
            admit(typed)
        except ValueError as error:
            raise CheckpointError(str(error)) from error
    elif _is_users(name) and name not in NETWORKS:
        raise CheckpointError(
            f"{path} is of {name}, your own code, which no file may have imported. "
            f"Pass {option} {name}"
        )


def _foreign(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a checkpoint of gclf-train: {reason}. "
        "Train one: gclf-train DATA --output RUN"
    )
