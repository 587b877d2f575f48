"""Several processes that train one network, started by torchrun; alone, all of it does nothing.

Every process holds the whole dataset and draws the same random numbers, changes the whole batch,
and learns from its share of it. Gradients are added up before each step, so every process takes
the same step, which is the one that a single process would take but for the order of additions.
What differs: dropout is drawn by each process for its own pictures.
"""

import contextlib
import os
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gclf_trainer.errors import TrainingError
from gclf_trainer.torchrun import is_launched

# Longer than the first process may need to decode the pictures while the others wait.
_TIMEOUT = timedelta(hours=6)

_T = TypeVar("_T")


_HEARD_S = 10  # it is ended sooner, by torchrun


@dataclass(frozen=True)
class Ranks:
    """Which of the processes this is.

    Attributes:
        rank: 0 is the one that prints and writes.
        count: How many there are.
        local: Its number on this machine, which is that of its GPU.
    """

    rank: int = 0
    count: int = 1
    local: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return which of `count` rows are this process's; shares differ by at most one."""
        return slice(count * self.rank // self.count, count * (self.rank + 1) // self.count)

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their sums over all processes, in one exchange."""
        if self.count == 1:
            return
        parts = list(tensors)
        flat = torch.cat([part.flatten() for part in parts])
        dist.all_reduce(flat)
        for part, summed in zip(parts, flat.split([p.numel() for p in parts]), strict=True):
            part.copy_(summed.view_as(part))

    def from_first(self, make: Callable[[], _T]) -> _T:
        """Let the first process make something and give it to all; the others wait.

        Raises:
            SystemExit: In the others, when it failed; the first one says why.
        """
        if self.count == 1:
            return make()
        made: list[Any] = [None, False]
        try:
            if self.is_first:
                made = [make(), True]
        finally:  # also after an error, so that nobody waits
            dist.broadcast_object_list(made, src=0, device=torch.device("cpu"))
        if not made[1]:
            time.sleep(_HEARD_S)  # torchrun ends all as soon as one has, and the first has to speak
            raise SystemExit(1)
        return made[0]

    def first_then_others(self, make: Callable[[], _T]) -> _T:
        """Let every process make something, the others once the first has (and has cached it)."""
        made: list[_T] = []
        self.from_first(lambda: made.append(make()))
        return made[0] if made else make()


@contextlib.contextmanager
def joined() -> Generator[Ranks]:
    """Meet the other processes that torchrun has started, if it has.

    Raises:
        TrainingError: One of them is gone.
    """
    if not is_launched():
        yield Ranks()
        return
    dist.init_process_group(timeout=_TIMEOUT)  # gloo for the CPU, nccl for GPUs
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))
    except RuntimeError as error:
        if isinstance(error, dist.DistBackendError) or "gloo" in str(error):
            raise TrainingError(
                "another process of this training has ended. Mend what it says, then --resume"
            ) from error
        raise
    dist.destroy_process_group()  # not after an error: it could wait for the others


def check_batch(network: nn.Module, batch: int, ranks: Ranks) -> None:
    """Raise a ValueError for a batch that a process has none of, or that has no variance."""
    if batch < ranks.count:
        raise ValueError(
            f"a batch of {batch} cannot be shared by {ranks.count} processes. Pass --batch-size "
            f"{ranks.count} or more and as many training pictures, or start fewer processes"
        )
    norms = (nn.BatchNorm1d, nn.BatchNorm2d)
    if batch == 1 and any(isinstance(module, norms) for module in network.modules()):
        raise ValueError(
            "a batch of 1 picture is too small for a network with batch norm. Pass --batch-size 2 "
            "or more, or a network without: --network cnn"
        )


def synchronised(network: nn.Module, device: torch.device) -> nn.Module:
    """Let every batch norm see the whole batch; torch's own does so on GPUs only."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                setattr(module, name, _WholeBatchNorm(child))
    return network


class _WholeBatchNorm(nn.BatchNorm2d):
    """Batch norm over the shares of all processes, with the parameters and buffers of another."""

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(norm.__dict__)

    def _check_input_dim(self, input: Tensor) -> None:
        """Take what either kind takes."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise; shape (N, C) or (N, C, H, W)."""
        if not self.training:
            return super().forward(input)
        x = input.float()
        axes = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        local = x.new_full((1,), x.numel() / x.shape[1])
        *sums, count = _summed(torch.cat([x.sum(axes), local])).split([x.shape[1], 1])
        mean = sums[0] / count
        centred = x - mean.view(shape)
        variance = _summed(centred.square().sum(axes)) / count
        self._remember(mean.detach(), (variance * count / (count - 1)).detach())
        scale = (variance + self.eps).rsqrt()
        answer = centred * scale.view(shape)
        if self.affine:
            answer = answer * self.weight.view(shape) + self.bias.view(shape)
        return answer.to(input.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance, weight)


class _Sum(torch.autograd.Function):
    """Add up over all processes, and the gradients likewise."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        summed = tensor.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Sum.forward(ctx, gradient)


def _summed(tensor: Tensor) -> Tensor:
    return _Sum.apply(tensor)
