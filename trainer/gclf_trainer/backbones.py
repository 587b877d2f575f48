"""torchvision's classification networks by name, their last layer made for the classes at hand."""

import torch
from torch import nn
from torchvision import models  # pyright: ignore[reportMissingTypeStubs]
from torchvision.models.alexnet import AlexNet  # pyright: ignore[reportMissingTypeStubs]
from torchvision.models.vgg import VGG  # pyright: ignore[reportMissingTypeStubs]

from gclf_runtime import InputSpec
from gclf_trainer.networks import PREFIX

# Their exported graphs make large tensors out of a few numbers, which the runtime refuses
# (gclf_runtime.model_file.graph). Better to say so before the training than after.
_NOT_EXPORTED = ("swin", "vit")
_HIDDEN = 512
_MAP = 7  # side of VGG's feature map at 224 pixels


def check(name: str) -> None:
    """Raise a ValueError unless torchvision has this network and the runtime can open it."""
    short = name.removeprefix(PREFIX)
    if short.startswith(_NOT_EXPORTED):
        raise ValueError(
            f"{name} needs operators that no exported file may have. "
            f"Try {PREFIX}efficientnet_b0 or {PREFIX}resnet18"
        )
    if short not in models.list_models(module=models):
        raise ValueError(
            f"torchvision has no classification network {short!r}. "
            f"Try {PREFIX}resnet18, mobilenet_v3_small, efficientnet_b0, vgg16, ..."
        )


def build(name: str, classes: int, spec: InputSpec) -> nn.Module:
    """Build one with random weights.

    VGG and AlexNet get a new classifier: their feature map, flattened, to 512 units, dropout, and
    the classes (VGG at 224×224: 25088→512→N). All others differ in their last layer only.

    Args:
        name: torchvision:NAME.
        classes: How many logits it returns.
        spec: The size of its input.

    Raises:
        ValueError: There is no such network, or the input is too small for it.
    """
    check(name)
    short = name.removeprefix(PREFIX)
    options = {"num_classes": classes}
    if short in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    network = models.get_model(short, weights=None, **options)
    if isinstance(network, VGG | AlexNet):
        _replace_classifier(network, classes, spec)
    return network


def _replace_classifier(network: VGG | AlexNet, classes: int, spec: InputSpec) -> None:
    with torch.inference_mode():
        pixels_nchw = torch.zeros(1, 3, spec.height, spec.width)
        try:
            map_nchw = network.features(pixels_nchw)
        except RuntimeError as error:
            size = f"{spec.width}×{spec.height} pixels"
            name = type(network).__name__
            raise ValueError(f"{name} cannot take {size}. Try --size 64") from error
    _, channels, height, width = map_nchw.shape
    # Theirs would stretch a smaller map to 7×7 by repeating it; windows of 1×1 change nothing.
    window = (-(-height // _MAP), -(-width // _MAP))
    setattr(network, "avgpool", nn.AvgPool2d(window))  # noqa: B010 - annotated as theirs alone
    height, width = height // window[0], width // window[1]
    network.classifier = nn.Sequential(
        nn.Linear(channels * height * width, _HIDDEN),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(_HIDDEN, classes),
    )
