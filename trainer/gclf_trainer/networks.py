"""The networks that can be trained by name, and how others join them.

Names are known and checked before torch is imported, which takes seconds.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from gclf_runtime import InputSpec

if TYPE_CHECKING:
    from torch import nn

PREFIX = "torchvision:"
# Where each is: package.module:function of (classes, spec). What a user names is added.
NETWORKS = {
    "resnet10": "gclf_trainer.architectures:ResNet10",
    "cnn": "gclf_trainer.architectures:Cnn",
    "resnet9": "gclf_trainer.architectures:ResNet9",
    "mlp": "gclf_trainer.architectures:Mlp",
}

_Builder: TypeAlias = Callable[[int, InputSpec], "nn.Module"]


def build(name: str, classes: int, spec: InputSpec) -> "nn.Module":
    """Build a network with fresh weights; nothing is downloaded and no new code is imported.

    Args:
        name: A key of `NETWORKS`, or torchvision:NAME.
        classes: How many logits it returns.
        spec: The size of its input.

    Raises:
        ValueError: No such network, or it cannot take pictures of this size.
    """
    if name.startswith(PREFIX):
        from gclf_trainer import backbones

        network = backbones.build(name, classes, spec)
        _try(name, network, classes, spec)
        return network
    if name in NETWORKS:
        return _own(name, classes, spec) if ":" in name else _imported(name)(classes, spec)
    if ":" in name:
        raise ValueError(f"{name} is your own code and was not asked for. Pass --network {name}")
    raise _unknown(name)


def admit(name: str) -> None:
    """Check that a network is known; import package.module:function and add it to `NETWORKS`.

    Only ever call it with what a user typed: a checkpoint may name a network, not import it.

    Raises:
        ValueError: There is no such network.
    """
    if name.startswith(PREFIX):
        from gclf_trainer import backbones  # torchvision takes seconds

        backbones.check(name)
    elif ":" in name:
        here = str(Path.cwd())
        if here not in sys.path:  # an installed command lacks the folder it was called in
            sys.path.insert(0, here)
        _imported(name)
        NETWORKS[name] = name
    elif name not in NETWORKS:
        raise _unknown(name)


def _own(name: str, classes: int, spec: InputSpec) -> "nn.Module":
    """Build a network of the user's code, and see that it answers and can learn."""
    import torch

    network = _called(name, classes, spec)
    _try(name, network, classes, spec)
    if next(network.parameters(), None) is None:
        raise ValueError(f"{name} returned a network without weights. Return one that can learn")
    # Another one, for learning changes a network; what chance it uses is given back.
    with torch.random.fork_rng(devices=[]):
        _try(name, _called(name, classes, spec), classes, spec, is_learning=True)
    return network


def _called(name: str, classes: int, spec: InputSpec) -> "nn.Module":
    try:
        return _imported(name)(classes, spec)
    except Exception as error:  # whatever the user's function raises
        raise ValueError(
            f"{name} failed for {classes} classes and {spec} ({_reason(error)}). Name a function "
            "of (classes, spec) -> torch.nn.Module"
        ) from error


def _imported(name: str) -> _Builder:
    module_name, _, function_name = NETWORKS.get(name, name).partition(":")
    try:
        found: object = getattr(import_module(module_name), function_name)
    except Exception as error:  # whatever the user's module raises as it is imported
        raise ValueError(
            f"{name} cannot be imported ({_reason(error)}). Name package.module:function, as "
            "Python imports it from this folder"
        ) from error
    if not callable(found):
        raise ValueError(f"{name} is no function. Name one of (classes, spec) -> torch.nn.Module")
    return cast(_Builder, found)


def _unknown(name: str) -> ValueError:
    known = [*NETWORKS, f"{PREFIX}NAME", "package.module:function"]
    return ValueError(f"{name} is not one of {', '.join(known)}")


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _try(
    name: str, network: object, classes: int, spec: InputSpec, *, is_learning: bool = False
) -> None:
    """Let a network that is not ours answer two black pictures, and leave it ready to learn."""
    import torch

    if not isinstance(network, torch.nn.Module):
        raise ValueError(f"{name} returned {type(network).__name__}. Return a torch.nn.Module")
    try:
        with torch.inference_mode():
            answer: object = network.train(is_learning)(torch.zeros(2, 3, spec.height, spec.width))
    except Exception as error:  # whatever the user's module raises
        size = f"{spec.width}×{spec.height}"
        raise ValueError(
            f"{name} cannot take {size} pixels ({_reason(error)}). Try another --size"
        ) from error
    network.train()
    if not isinstance(answer, torch.Tensor) or answer.shape != (2, classes):
        got = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        when = " in training" if is_learning else ""
        raise ValueError(
            f"{name} answers two pictures by {got}{when}. Return logits (2, {classes})"
        )
