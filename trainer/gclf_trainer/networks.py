"""The networks that can be trained by name, and how others join them.

Each takes normalised float pixels, NCHW with 3 channels (equal ones where pictures are grey), and
returns logits (N, K). Means over height and width are written `mean((2, 3))`: pooling modules
with an adaptive size leave shape arithmetic in the exported graph.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from gclf_runtime import InputSpec
from gclf_trainer import backbones

Builder = Callable[[int, InputSpec], nn.Module]


def build(name: str, classes: int, spec: InputSpec) -> nn.Module:
    """Build a network with fresh weights; nothing is downloaded and no new code is imported.

    Args:
        name: A key of `NETWORKS`, or torchvision:NAME.
        classes: How many logits it returns.
        spec: The size of its input.

    Raises:
        ValueError: No such network, or it cannot take pictures of this size.
    """
    if name.startswith(backbones.PREFIX):
        network = backbones.build(name, classes, spec)
    elif name in NETWORKS:
        network = NETWORKS[name](classes, spec)
    elif ":" in name:
        raise ValueError(f"{name} is your own code and was not asked for. Pass --network {name}")
    else:
        raise _unknown(name)
    if ":" in name:
        _try(name, network, classes, spec)
    return network


def admit(name: str) -> None:
    """Check that a network is known; import package.module:function and add it to `NETWORKS`.

    Only ever call it with what a user typed: a checkpoint may name a network, not import it.

    Raises:
        ValueError: There is no such network.
    """
    if name.startswith(backbones.PREFIX):
        backbones.check(name)
    elif ":" in name and name not in NETWORKS:
        NETWORKS[name] = _imported(name)
    elif name not in NETWORKS:
        raise _unknown(name)


def _imported(name: str) -> Builder:
    module_name, _, function_name = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # an installed command lacks the folder it was called in
        sys.path.insert(0, here)
    try:
        found: object = getattr(import_module(module_name), function_name)
    except Exception as error:  # whatever the user's module raises as it is imported
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ValueError(
            f"{name} cannot be imported ({reason}). Name package.module:function, as Python "
            "imports it from this folder"
        ) from error
    if not callable(found):
        raise ValueError(f"{name} is no function. Name one of (classes, spec) -> torch.nn.Module")
    return cast(Builder, found)


def _unknown(name: str) -> ValueError:
    known = [*NETWORKS, f"{backbones.PREFIX}NAME", "package.module:function"]
    return ValueError(f"{name} is not one of {', '.join(known)}")


@torch.inference_mode()
def _try(name: str, network: object, classes: int, spec: InputSpec) -> None:
    """Let a network that is not ours answer two black pictures."""
    if not isinstance(network, nn.Module):
        raise ValueError(f"{name} returned {type(network).__name__}. Return a torch.nn.Module")
    try:
        answer: object = network.eval()(torch.zeros(2, 3, spec.height, spec.width))
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        size = f"{spec.width}×{spec.height}"
        raise ValueError(f"{name} cannot take {size} pixels ({reason}). Try another --size") from (
            error
        )
    network.train()
    if not isinstance(answer, Tensor) or answer.shape != (2, classes):
        got = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise ValueError(f"{name} answers two pictures by {got}. Return logits (2, {classes})")


class Mlp(nn.Module):
    """The Fashion-MNIST tutorials' network: every pixel to 128 hidden units to the classes."""

    def __init__(self, classes: int, spec: InputSpec) -> None:
        super().__init__()
        self.hidden = nn.Sequential(
            nn.Flatten(), nn.Linear(3 * spec.height * spec.width, 128), nn.ReLU()
        )
        self.classifier = nn.Linear(128, classes)

    def forward(self, pixels_nchw: Tensor) -> Tensor:
        """Return logits."""
        return self.classifier(self.hidden(pixels_nchw))


class Cnn(nn.Module):
    """The tutorials' network: 3×3 convolution, ReLU and pooling four times, then two dense layers.

    125 MFLOP and 2.5 million parameters at 64×64. Pooling comes before ReLU, which changes no
    answer (both keep the order of numbers) and trains 1.4 times as fast.
    """

    def __init__(self, classes: int, spec: InputSpec) -> None:
        super().__init__()
        widths = (3, 32, 64, 128, 256)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
        flat = widths[-1] * (spec.height // 16) * (spec.width // 16)
        if not flat:
            raise ValueError(f"cnn needs at least 16×16 pixels, got {spec.width}×{spec.height}")
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(flat, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, classes)
        )

    def forward(self, pixels_nchw: Tensor) -> Tensor:
        """Return logits."""
        return self.classifier(self.features(pixels_nchw))


def _conv(before: int, after: int, *, pool: bool = False) -> nn.Sequential:
    layers = [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))


class ResNet9(nn.Module):
    """Eight convolutions with batch norm, two skips, one dense layer (the DAWNBench network).

    3 GFLOP and 6.6 million parameters at 64×64.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(3, 64), _conv(64, 128, pool=True))
        self.residual1 = nn.Sequential(_conv(128, 128), _conv(128, 128))
        self.middle = nn.Sequential(_conv(128, 256, pool=True), _conv(256, 512, pool=True))
        self.residual2 = nn.Sequential(_conv(512, 512), _conv(512, 512))
        self.classifier = nn.Linear(512, classes)

    def forward(self, pixels_nchw: Tensor) -> Tensor:
        """Return logits."""
        x = self.stem(pixels_nchw)
        x = self.middle(x + self.residual1(x))
        x = x + self.residual2(x)
        return self.classifier(x.amax((2, 3)))


def _conv_norm(before: int, after: int, stride: int = 1, size: int = 3) -> nn.Sequential:
    conv = nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after))


class _Block(nn.Module):
    """Two 3×3 convolutions and a skip (He et al. 2016, the basic block)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv_norm(before, after, stride), nn.ReLU(), _conv_norm(after, after)
        )
        same = before == after and stride == 1
        self.skip = nn.Identity() if same else _conv_norm(before, after, stride, size=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.skip(x))


class ResNet10(nn.Module):
    """A thin residual network, the most accurate here per microsecond of CPU in int8.

    It halves the picture at once and ends at a sixteenth, so that every convolution is a dense
    one large enough to run near the processor's int8 speed (docs/decisions.md). 117 MFLOP and
    0.94 million parameters at 64×64: 1 MB and about 180 µs per picture on one core in int8.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _conv_norm(3, 32, stride=2),
            nn.ReLU(),
            _Block(32, 64, stride=2),
            _Block(64, 64, stride=1),
            _Block(64, 128, stride=2),
            _Block(128, 192, stride=2),
        )
        self.classifier = nn.Linear(192, classes)

    def forward(self, pixels_nchw: Tensor) -> Tensor:
        """Return logits."""
        return self.classifier(self.features(pixels_nchw).mean((2, 3)))


NETWORKS: dict[str, Builder] = {
    "resnet10": lambda classes, spec: ResNet10(classes),
    "cnn": Cnn,
    "resnet9": lambda classes, spec: ResNet9(classes),
    "mlp": Mlp,
}
