"""How to train: every number of it, and the defaults."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Optimizer = Literal["sgd", "adam", "adamw"]
Schedule = Literal["one-cycle", "constant"]
Precision = Literal["auto", "fp32", "bf16"]
Balance = Literal["none", "sampler", "loss"]

# AdamW's decay does not pass through the gradient, so it is a hundred times another's.
DEFAULT_RATE: dict[Optimizer, float] = {"sgd": 0.05, "adam": 3e-3, "adamw": 3e-3}
DEFAULT_DECAY: dict[Optimizer, float] = {"sgd": 5e-4, "adam": 1e-4, "adamw": 5e-2}

MOST_SEED = 2**63 - 1  # of torch's generators


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far a training picture may be changed; every default but the first two is off.

    Attributes:
        pad: Shift by up to this many pixels each way, edges repeated (pad + random crop); with
            crop_scale below 1 nothing, as a crop is shifted already and stays within its picture.
        flip: Mirror half of the pictures.
        rotate: Turn by up to this many degrees each way.
        zoom: Scale by up to a factor e**zoom each way, width and height apart by as much again.
        crop_scale: Cut out a part of at least this share of the area, its shape up to 4/3 times
            as wide or high as the picture's, and stretch it over the picture (random resized
            crop); above 0, and 1 is off.
        brightness: Multiply by 1 ± up to this (black stays black, as in torchvision).
        contrast: Multiply the distance to the picture's mean by 1 ± up to this.
        saturation: Multiply the distance to grey by 1 ± up to this.
        hue: Turn the colours by up to this share of the full circle each way, at most 0.5.
        erase: Fraction of pictures that lose a rectangle (sides 15-40 % of the picture's).
        mixup: Beta parameter of mixup (Zhang et al. 2018); 0 is off.
        cutmix: Beta parameter of CutMix (Yun et al. 2019); 0 is off. With mixup, each picture is
            changed by one of the two.

    Raises:
        ValueError: A number is not finite, or `crop_scale` not a share.
    """

    pad: int = 4
    flip: bool = True
    rotate: float = 0.0
    zoom: float = 0.0
    crop_scale: float = 1.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        _check_finite(vars(self))
        if not 0 < self.crop_scale <= 1:
            raise ValueError(f"crop_scale must be above 0 and at most 1, got {self.crop_scale}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: Passes over the training pictures, at least 1.
        batch_size: Pictures per step, of all processes together, at least 1; the last, short
            batch of an epoch is left out, and the order changes every epoch.
        optimizer: `sgd` is with Nesterov momentum.
        schedule: `one-cycle` rises for 30 % of the steps and falls to nothing, while momentum
            falls from 0.95 to 0.85 and rises again (Smith 2018); `constant` keeps 0.9.
        learning_rate: Its peak, above 0; the optimiser's default when None.
        weight_decay: On the weights of convolutions and matrices, not on biases and norms; the
            optimiser's default when None.
        clip_norm: Longest gradient, as a vector; 0 is off.
        label_smoothing: Share of the target spread over all classes, 0-1.
        distill: Share of the loss, 0-1, that is the distance to a teacher's answers, if there is
            a teacher; the rest is the distance to the labels.
        temperature: What softens the answers of both for that, above 0.
        balance: What is done for rare classes: `sampler` draws pictures with replacement, each
            class as often as the others; `loss` weighs a picture by its class's rarity.
        ema: Decay per step of the moving average of the weights, 0-1, less in the first steps;
            what is measured and saved is then the average. 0 is off.
        patience: Stop after so many epochs without a better one; 0 is off. `one-cycle` is planned
            over all `epochs`: stopped early, its rate has not come down. `constant` suits better.
        freeze: Train the head alone, of a network that came with weights.
        unfreeze_at: Epochs, 1 to `epochs`, at each of which another part of the frozen layers is
            trained too, from the head back; the last opens all.
        precision: Of the training steps; `auto` times both and takes the faster.
            Evaluation is always in fp32.
        compile: Whether to compile the network (torch.compile).
        seed: Of the weights, the order and the augmentation.
        augmentation: How far training pictures are changed.

    Raises:
        ValueError: A number is not one that can be trained with.
    """

    epochs: int = 25
    batch_size: int = 128
    optimizer: Optimizer = "adamw"
    schedule: Schedule = "one-cycle"
    learning_rate: float | None = None
    weight_decay: float | None = None
    clip_norm: float = 1.0
    label_smoothing: float = 0.0
    distill: float = 0.7
    temperature: float = 2.0
    balance: Balance = "none"
    ema: float = 0.0
    patience: int = 0
    freeze: bool = False
    unfreeze_at: tuple[int, ...] = ()
    precision: Precision = "auto"
    compile: bool = False
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        _check_finite(vars(self))
        if not 0 <= self.seed <= MOST_SEED:
            raise ValueError(f"seed must be from 0 to {MOST_SEED}, got {self.seed}")
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if beyond := [epoch for epoch in self.unfreeze_at if not 1 <= epoch <= self.epochs]:
            raise ValueError(
                f"no layer opens at epoch {beyond[0]} of {self.epochs}. Pass --unfreeze-at between "
                f"1 and {self.epochs}, or more --epochs"
            )

    @property
    def peak_rate(self) -> float:
        """The learning rate, or the optimiser's default."""
        return DEFAULT_RATE[self.optimizer] if self.learning_rate is None else self.learning_rate

    @property
    def decay(self) -> float:
        """The weight decay, or the optimiser's default."""
        return DEFAULT_DECAY[self.optimizer] if self.weight_decay is None else self.weight_decay


@dataclass(frozen=True)
class Epoch:
    """What one epoch did; `train_loss` is on augmented pictures, with label smoothing."""

    number: int
    learning_rate: float
    train_loss: float
    val_loss: float
    val_accuracy: float
    images_per_second: float
    seconds: float

    @property
    def rank(self) -> tuple[bool, float, float]:
        """Lower is better: a loss that is a number, validation accuracy, validation loss."""
        return not math.isfinite(self.val_loss), -self.val_accuracy, self.val_loss


def _check_finite(numbers: Mapping[str, object]) -> None:
    for name, value in numbers.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value}")
