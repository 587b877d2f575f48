"""The training loop: one dataset, one network, one epoch at a time.

It knows nothing of folders, files or terminals. Every random number of an epoch follows from the
seed and the epoch's number alone, so that a training goes on from any epoch as if it had never
stopped.
Axes: n pictures or batch, h height, w width, c channels (RGB), k classes.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name every PyTorch reader knows

from gclf_trainer.augment import Augmenter
from gclf_trainer.batches import Pixels
from gclf_trainer.distillation import Teacher, distillation_loss
from gclf_trainer.errors import TrainingError
from gclf_trainer.evaluation import EVALUATED, Evaluation, Normalise, evaluate, logits, to_nchw
from gclf_trainer.memory import HELD_SHARE, free_bytes
from gclf_trainer.optimizers import faster_precision, move_average, optimizer_of, scheduler_of
from gclf_trainer.parallel import Ranks, check_batch, synchronised
from gclf_trainer.pixels import Split
from gclf_trainer.recipe import Epoch, Recipe
from gclf_trainer.transfer import set_trainable, train_mode, trainable_share

# On a GPU, steps between two that wait for their loss to be shown: it works on while Python does.
_SHOWN = 20


class Training:
    """A network in training.

    Args:
        network: Takes normalised float NCHW pixels, returns logits (N, K).
        normalise: Its normalisation.
        train: Pictures to learn from; kept on the device as uint8 where they fit, see `held_share`.
        val: Pictures to measure on, likewise.
        recipe: How to train.
        device: Where.
        ranks: Which of several processes this is; alone when None.
        teacher: Whose answers are followed too, as far as the recipe says.
        held_share: Pictures are kept on the device if they take up no more than this share (0-1)
            of its free memory; otherwise they are read as they are needed, to the same weights.

    Raises:
        ValueError: The batch is too small for the processes or the network.

    Attributes:
        evaluated: The network that is measured and worth saving: the average of the weights where
            the recipe asks for one, else the network itself.
        epoch: Epochs done.
        measured: What the last epoch was measured to be; there after `run_epoch`.
    """

    def __init__(
        self,
        network: nn.Module,
        normalise: Normalise,
        train: Split,
        val: Split,
        recipe: Recipe,
        device: torch.device,
        ranks: Ranks | None = None,
        teacher: Teacher | None = None,
        *,
        held_share: float = HELD_SHARE,
    ) -> None:
        self.recipe = recipe
        self.device = device
        self.epoch = 0
        self.measured: Evaluation
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self._ranks = ranks or Ranks()
        self._normalise = normalise.to(device)
        self._teacher = teacher.to(device) if teacher else None
        size = train.pixels_nhwc.nbytes + val.pixels_nhwc.nbytes
        sharing = 1 if device.type == "cuda" else self._ranks.count  # each has a GPU of its own
        is_held = size <= held_share * free_bytes(device) / sharing
        self._pixels = Pixels(train.pixels_nhwc, device, is_held=is_held)
        self._labels_n = torch.from_numpy(train.labels_n).to(device)
        self._rarity_k = _rarity(torch.from_numpy(train.labels_n))
        weight_k = self._rarity_k if recipe.balance == "loss" else torch.ones_like(self._rarity_k)
        self._weight_k = weight_k.to(device)
        self._val_pixels = Pixels(val.pixels_nhwc, device, is_held=is_held)
        self._val_labels_n = torch.from_numpy(val.labels_n)
        self._batch = min(recipe.batch_size, len(train.paths))
        self._ranks.from_first(lambda: check_batch(network, self._batch, self._ranks))
        self.steps_per_epoch: int = len(train.paths) // self._batch
        self.precision: Literal["fp32", "bf16"] = self._ranks.from_first(self._chosen_precision)
        if self._ranks.count > 1:
            self.network = synchronised(self.network, device)
        self.evaluated = copy.deepcopy(self.network) if recipe.ema else self.network
        self._optimizer = optimizer_of(self.network, recipe)
        self._scheduler = scheduler_of(self._optimizer, recipe, self.steps_per_epoch)
        self._forward = torch.compile(self.network) if recipe.compile else self.network

    def run_epoch(self, on_step: Callable[[float], None] = lambda loss: None) -> Epoch:
        """Train on every picture once, then measure on the validation split.

        Not on those of the last, short batch; and with the sampler, on as many as there are.

        Args:
            on_step: Called after every step with its loss; on a GPU, with that of the last step
                of which it is known.

        Raises:
            TrainingError: The loss is no longer a number.
        """
        self.epoch += 1
        start = time.perf_counter()
        learning_rate = float(self._optimizer.param_groups[0]["lr"])
        mean_loss = self._learn(on_step)
        if not math.isfinite(mean_loss):
            self._ranks.from_first(lambda: self._diverged("loss", mean_loss))
        trained = time.perf_counter() - start
        val = self.measured = self.evaluate()
        if not math.isfinite(val.loss):
            self._ranks.from_first(lambda: self._diverged("validation loss", val.loss))
        return Epoch(
            number=self.epoch,
            learning_rate=learning_rate,
            train_loss=mean_loss,
            val_loss=val.loss,
            val_accuracy=val.accuracy,
            images_per_second=self.steps_per_epoch * self._batch / trained,
            seconds=time.perf_counter() - start,
        )

    def first_batch(self) -> tuple[Tensor, Tensor]:
        """Make the first batch of this epoch again, as the network saw it.

        Returns:
            Normalised pixels, float32 (B, 3, H, W), and targets, float32 (B, K).
        """
        augmenting = torch.Generator(self.device).manual_seed(self._seed(1))
        augmenter = Augmenter(self.recipe.augmentation, augmenting)
        pixels_nhwc, labels_n = next(self._batches(self._order()[: self._batch]))
        pixels_nchw, targets_nk = self._seen(pixels_nhwc, labels_n, augmenter)
        return self._normalise(pixels_nchw), targets_nk

    def evaluate(self) -> Evaluation:
        """Measure on the validation split, in fp32."""
        rows_n = torch.arange(len(self._val_pixels))
        mine = self._ranks.share(len(rows_n))
        logits_nk = torch.zeros((len(rows_n), len(self._rarity_k)), device=self.device)
        if len(rows_n[mine]):
            batches = self._val_pixels.batches(rows_n[mine], EVALUATED)
            part_nk = logits(self.evaluated, self._normalise, batches, len(rows_n[mine]))
            logits_nk[mine] = part_nk.to(self.device)
        self._ranks.add_up([logits_nk])
        return evaluate(logits_nk.cpu(), self._val_labels_n)

    def state(self) -> dict[str, Any]:
        """Return all that the next epoch depends on, as tensors and plain data."""
        average = self.evaluated.state_dict() if self.recipe.ema else None
        return {
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "average": average,
            "optimizer": self._optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to where `state()` was called, in a training of the same recipe and network."""
        self.epoch = state["epoch"]
        self.network.load_state_dict(state["network"])
        if self.recipe.ema:
            self.evaluated.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scheduler.load_state_dict(state["scheduler"])

    def _learn(self, on_step: Callable[[float], None]) -> float:
        """Take the steps of one epoch; return the mean loss."""
        order_n = self._order()[: self.steps_per_epoch * self._batch]
        augmenting = torch.Generator(self.device).manual_seed(self._seed(1))
        augmenter = Augmenter(self.recipe.augmentation, augmenting)
        torch.manual_seed(self._seed(2 + self._ranks.rank))  # dropout's
        recipe = self.recipe
        share = trainable_share(self.epoch, freeze=recipe.freeze, unfreeze_at=recipe.unfreeze_at)
        set_trainable(self.network, share)
        train_mode(self.network)
        total = torch.zeros((), device=self.device)
        shown, every = math.nan, _SHOWN if self.device.type == "cuda" else 1
        for step, (pixels_nhwc, labels_n) in enumerate(self._batches(order_n)):
            loss = self._step(pixels_nhwc, labels_n, augmenter)
            if recipe.ema:
                done = (self.epoch - 1) * self.steps_per_epoch + step
                move_average(self.evaluated, self.network, decay=recipe.ema, step=done)
            total += loss
            if step % every == 0:
                shown = float(loss) * self._ranks.count
            on_step(shown)
        self._ranks.add_up([total])
        return float(total) / self.steps_per_epoch

    def _step(self, pixels_nhwc: Tensor, labels_n: Tensor, augmenter: Augmenter) -> Tensor:
        """Take one step; return this process's part of the mean loss of the batch."""
        pixels_nchw, targets_nk = self._seen(pixels_nhwc, labels_n, augmenter)
        mine = self._ranks.share(len(labels_n))
        loss = self._loss(pixels_nchw[mine], targets_nk[mine])
        loss = loss * (len(targets_nk[mine]) / len(labels_n))
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = list(self.network.parameters())
        self._ranks.add_up(p.grad for p in parameters if p.grad is not None)
        if self.recipe.clip_norm:
            nn.utils.clip_grad_norm_(parameters, self.recipe.clip_norm)
        self._optimizer.step()
        self._scheduler.step()
        return loss.detach()

    def _loss(self, pixels_nchw: Tensor, targets_nk: Tensor) -> Tensor:
        recipe = self.recipe
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            predicted_nk = self._forward(self._normalise(pixels_nchw)).float()
            taught_nk = self._teacher.logits(pixels_nchw).float() if self._teacher else None
        smoothing = recipe.label_smoothing
        loss_n = F.cross_entropy(
            predicted_nk, targets_nk, label_smoothing=smoothing, reduction="none"
        )
        # Not cross_entropy's own weight, which would weigh the smoothing's share by class too.
        loss = (loss_n * (targets_nk @ self._weight_k)).mean()
        if taught_nk is None:
            return loss
        taught = distillation_loss(predicted_nk, taught_nk, temperature=recipe.temperature)
        return torch.lerp(loss, taught, recipe.distill)

    def _batches(self, order_n: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the pixels and the labels of these training pictures, on the device."""
        labels = self._labels_n[order_n.to(self.device)].split(self._batch)
        return zip(self._pixels.batches(order_n, self._batch), labels, strict=True)

    def _seen(
        self, pixels_nhwc: Tensor, labels_n: Tensor, augmenter: Augmenter
    ) -> tuple[Tensor, Tensor]:
        """Make float pixels, 0-255, and targets of a batch, as the network is to see them."""
        pixels_nchw = augmenter.pixels(pixels_nhwc)
        targets_nk = F.one_hot(labels_n, len(self._rarity_k)).float()
        return augmenter.mix(pixels_nchw, targets_nk)

    def _order(self) -> Tensor:
        """Draw the rows of an epoch; on the CPU, so that every device has the same."""
        generator = torch.Generator().manual_seed(self._seed(0))
        count = len(self._labels_n)
        if self.recipe.balance == "sampler":
            weights_n = self._rarity_k[self._labels_n.cpu()]
            return torch.multinomial(weights_n, count, replacement=True, generator=generator)
        return torch.randperm(count, generator=generator)

    def _seed(self, stream: int) -> int:
        """Derive the seed of one stream of random numbers of this epoch."""
        sequence = np.random.SeedSequence([self.recipe.seed, self.epoch, stream])
        return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))

    def _diverged(self, name: str, loss: float) -> None:
        raise TrainingError(
            f"the {name} became {loss} in epoch {self.epoch}, learning rate up to "
            f"{self.recipe.peak_rate:g}. Train with a lower --learning-rate"
        )

    def _chosen_precision(self) -> Literal["fp32", "bf16"]:
        if self.recipe.precision != "auto":
            return self.recipe.precision
        pixels_nhwc = next(self._pixels.batches(torch.arange(self._batch), self._batch))
        return faster_precision(self.network, to_nchw(pixels_nhwc))


def _rarity(labels_n: Tensor) -> Tensor:
    """Weigh each class by how rare it is, shape (K,); the mean over all pictures is 1."""
    counts_k = torch.bincount(labels_n)
    return len(labels_n) / (len(counts_k) * counts_k.float())
