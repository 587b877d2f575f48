"""Our own networks: each is made of how many classes it tells apart and the size of its input.

Each takes normalised float pixels, NCHW with 3 channels (equal ones where pictures are grey), and
returns logits (N, K). Means over height and width are written `mean((2, 3))`: pooling modules
with an adaptive size leave shape arithmetic in the exported graph.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from gclf_runtime import InputSpec


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

    def __init__(self, classes: int, spec: InputSpec) -> None:
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

    def __init__(self, classes: int, spec: InputSpec) -> None:
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
