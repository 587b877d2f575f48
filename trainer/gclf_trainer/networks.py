"""The networks that can be trained by name.

Each takes normalised float pixels, NCHW with 3 channels, and returns logits (N, K). Means over
height and width are written `mean((2, 3))`: pooling modules with an adaptive size leave shape
arithmetic in the exported graph.
"""

from collections.abc import Callable
from itertools import pairwise

from gclf_runtime import InputSpec
from torch import Tensor, nn

Builder = Callable[[int, InputSpec], nn.Module]


def build(name: str, classes: int, spec: InputSpec) -> nn.Module:
    """Build a network with fresh weights.

    Args:
        name: A key of `NETWORKS`.
        classes: How many logits it returns.
        spec: The size of its input.
    """
    return NETWORKS[name](classes, spec)


class Cnn(nn.Module):
    """The tutorials' network: 3×3 convolution, ReLU and pooling four times, then two dense layers.

    131 MFLOP and 1.3 million parameters at 64×64.
    """

    def __init__(self, classes: int, spec: InputSpec) -> None:
        super().__init__()
        widths = (3, 64, 64, 128, 128)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
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


NETWORKS: dict[str, Builder] = {
    "cnn": Cnn,
    "resnet9": lambda classes, spec: ResNet9(classes),
}
