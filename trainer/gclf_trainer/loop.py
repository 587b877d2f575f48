"""The training loop: one dataset on the device, one network, one epoch at a time.

It knows nothing of folders, files or terminals.
Axes: n pictures or batch, h height, w width, c channels (RGB), k classes.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name every PyTorch reader knows

from gclf_trainer.augment import Augmentation, Augmenter
from gclf_trainer.errors import TrainingError
from gclf_trainer.evaluation import Evaluation, Normalise, evaluate, logits, to_nchw
from gclf_trainer.pixels import Split

Optimizer = Literal["sgd", "adam", "adamw"]
Schedule = Literal["one-cycle", "constant"]
Precision = Literal["auto", "fp32", "bf16"]

# AdamW's decay does not pass through the gradient, so it is a hundred times another's.
DEFAULT_RATE: dict[Optimizer, float] = {"sgd": 0.05, "adam": 3e-3, "adamw": 3e-3}
DEFAULT_DECAY: dict[Optimizer, float] = {"sgd": 5e-4, "adam": 1e-4, "adamw": 5e-2}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: Passes over the training pictures.
        batch_size: Pictures per step; the last, short batch of an epoch is left out, and the
            order changes every epoch.
        optimizer: `sgd` is with Nesterov momentum.
        schedule: `one-cycle` rises for 30 % of the steps and falls to nothing, while momentum
            falls from 0.95 to 0.85 and rises again (Smith 2018); `constant` keeps 0.9.
        learning_rate: Its peak, above 0; the optimiser's default when None.
        weight_decay: On the weights of convolutions and matrices, not on biases and norms; the
            optimiser's default when None.
        clip_norm: Longest gradient, as a vector; 0 is off.
        label_smoothing: Share of the target spread over all classes, 0-1.
        precision: Of the training steps; `auto` times both and takes the faster.
            Evaluation is always in fp32.
        compile: Whether to compile the network (torch.compile).
        seed: Of the weights, the order and the augmentation.
        augmentation: How far training pictures are changed.
    """

    epochs: int = 25
    batch_size: int = 128
    optimizer: Optimizer = "adamw"
    schedule: Schedule = "one-cycle"
    learning_rate: float | None = None
    weight_decay: float | None = None
    clip_norm: float = 1.0
    label_smoothing: float = 0.0
    precision: Precision = "auto"
    compile: bool = False
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)

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


class Training:
    """A network in training.

    Args:
        network: Takes normalised float NCHW pixels, returns logits (N, K).
        normalise: Its normalisation.
        train: Pictures to learn from; held on the device as uint8.
        val: Pictures to measure on.
        recipe: How to train.
        device: Where.
    """

    def __init__(
        self,
        network: nn.Module,
        normalise: Normalise,
        train: Split,
        val: Split,
        recipe: Recipe,
        device: torch.device,
    ) -> None:
        self.recipe = recipe
        self.device = device
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self._normalise = normalise.to(device)
        self._pixels_nhwc = torch.from_numpy(train.pixels_nhwc).to(device)
        self._labels_n = torch.from_numpy(train.labels_n).to(device)
        self._classes = int(train.labels_n.max()) + 1
        self._val_pixels_nhwc = torch.from_numpy(val.pixels_nhwc).to(device)
        self._val_labels_n = torch.from_numpy(val.labels_n)
        self._batch = min(recipe.batch_size, len(train.paths))
        self.steps_per_epoch: int = len(train.paths) // self._batch
        self._order = torch.Generator().manual_seed(recipe.seed)
        augmenting = torch.Generator(device).manual_seed(recipe.seed)
        self._augmenter = Augmenter(recipe.augmentation, augmenting)
        self._optimizer = _optimizer(self.network, recipe)
        self._scheduler = _scheduler(self._optimizer, recipe, self.steps_per_epoch)
        self._forward = torch.compile(self.network) if recipe.compile else self.network
        if recipe.precision == "auto":
            rows = torch.zeros(self._batch, dtype=torch.int64, device=device)
            batch_nchw = to_nchw(self._pixels_nhwc[rows])
            self.precision: Literal["fp32", "bf16"] = _faster_precision(self.network, batch_nchw)
        else:
            self.precision = recipe.precision
        self._epoch = 0

    def run_epoch(self, on_step: Callable[[float], None] = lambda loss: None) -> Epoch:
        """Train on every picture once, then measure on the validation split.

        Args:
            on_step: Called after every step with its loss.

        Raises:
            TrainingError: The loss is no longer a number.
        """
        self._epoch += 1
        start = time.perf_counter()
        learning_rate = float(self._optimizer.param_groups[0]["lr"])
        order = torch.randperm(len(self._labels_n), generator=self._order).to(self.device)
        self.network.train()
        total = torch.zeros((), device=self.device)
        for step in range(self.steps_per_epoch):
            loss = self._step(order[step * self._batch : (step + 1) * self._batch])
            total += loss
            on_step(float(loss))
        mean_loss = float(total) / self.steps_per_epoch
        if not math.isfinite(mean_loss):
            raise TrainingError(
                f"the loss became {mean_loss} in epoch {self._epoch}, learning rate up to "
                f"{self.recipe.peak_rate:g}. Train with a lower --learning-rate"
            )
        trained = time.perf_counter() - start
        val = self.evaluate()
        return Epoch(
            number=self._epoch,
            learning_rate=learning_rate,
            train_loss=mean_loss,
            val_loss=val.loss,
            val_accuracy=val.accuracy,
            images_per_second=self.steps_per_epoch * self._batch / trained,
            seconds=time.perf_counter() - start,
        )

    def evaluate(self) -> Evaluation:
        """Measure on the validation split, in fp32."""
        logits_nk = logits(self.network, self._normalise, self._val_pixels_nhwc)
        return evaluate(logits_nk, self._val_labels_n)

    def _step(self, rows: Tensor) -> Tensor:
        pixels_nchw = self._normalise(self._augmenter.pixels(self._pixels_nhwc, rows))
        targets_nk = F.one_hot(self._labels_n[rows], self._classes).float()
        pixels_nchw, targets_nk = self._augmenter.mix(pixels_nchw, targets_nk)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            predicted_nk = self._forward(pixels_nchw)
        smoothing = self.recipe.label_smoothing
        loss = F.cross_entropy(predicted_nk.float(), targets_nk, label_smoothing=smoothing)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.recipe.clip_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
        self._optimizer.step()
        self._scheduler.step()
        return loss.detach()


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    rate = recipe.peak_rate
    match recipe.optimizer:
        case "sgd":
            return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)
        case "adam":
            return torch.optim.Adam(groups, lr=rate)
        case "adamw":
            return torch.optim.AdamW(groups, lr=rate)


def _scheduler(
    optimizer: torch.optim.Optimizer, recipe: Recipe, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if recipe.schedule == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    # One step more than will be taken: the scheduler refuses to be asked beyond its end.
    steps = recipe.epochs * steps_per_epoch + 1
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=recipe.peak_rate, total_steps=steps
    )


def _faster_precision(network: nn.Module, batch_nchw: Tensor) -> Literal["fp32", "bf16"]:
    """Time a few steps of each on a copy, so that nothing is learnt from them."""
    copied = copy.deepcopy(network).train()
    device = batch_nchw.device

    def seconds(enabled: bool) -> float:
        start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            predicted_nk = copied(batch_nchw)
        predicted_nk.float().sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    # The first step of each pays for what is set up once, so the best of four counts.
    pairs = [(seconds(False), seconds(True)) for _ in range(4)]
    fp32, bf16 = (min(times) for times in zip(*pairs, strict=True))
    return "bf16" if bf16 < fp32 else "fp32"
