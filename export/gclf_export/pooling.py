"""Adaptive pooling, written in operators that the runtime admits.

torch writes it as an index of every pixel, which the runtime refuses: such a graph can make any
number of pixels out of few. Its windows are known once the size of the input is.
Axes: n batch, c channels, h height, w width; i rows and o rows: before and after pooling.
"""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name every PyTorch reader knows

_Module = TypeVar("_Module", bound=nn.Module)


def with_plain_pooling(module: _Module) -> _Module:
    """Return a module that answers as the one given, which is left as it is; weights are shared."""
    if not any(isinstance(each, nn.AdaptiveAvgPool2d) for each in module.modules()):
        return module
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    copied = copy.deepcopy(module, shared)
    for parent in list(copied.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d):
                setattr(parent, name, PlainPool(child.output_size))
    return copied


class PlainPool(nn.Module):
    """Means over windows that cover the picture, as AdaptiveAvgPool2d takes them.

    Args:
        output_size: Rows and columns after it; one number for both, None for as many as before.
    """

    def __init__(self, output_size: int | tuple[int | None, ...] | None) -> None:
        super().__init__()
        sides = output_size if isinstance(output_size, tuple) else (output_size, output_size)
        self._rows, self._columns = sides

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Pool; the size of the input is fixed."""
        before = x_nchw.shape[-2:]
        after = (self._rows or before[0], self._columns or before[1])
        if after == (1, 1):
            return x_nchw.mean((-2, -1), keepdim=True)
        if before[0] % after[0] == before[1] % after[1] == 0:
            windows = (before[0] // after[0], before[1] // after[1])
            return x_nchw if windows == (1, 1) else F.avg_pool2d(x_nchw, windows)
        rows_oi, columns_oi = (_shares(b, a) for b, a in zip(before, after, strict=True))
        return rows_oi @ x_nchw @ columns_oi.T


def _shares(before: int, after: int) -> Tensor:
    """Say which rows each row after pooling is the mean of: a matrix of their shares."""
    shares: list[list[float]] = []
    for row in range(after):
        start, end = row * before // after, -(-(row + 1) * before // after)
        shares.append([float(start <= i < end) / (end - start) for i in range(before)])
    return torch.tensor(shares)
