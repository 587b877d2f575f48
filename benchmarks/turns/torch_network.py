"""PyTorch on the network as it was trained, from float NCHW pixels already normalised.

Variants: `eager`, `channels_last`, `bf16` (autocast, channels last) and `compile`.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.turns.serving import per_picture, serve
from gclf_trainer import checkpoint
from gclf_trainer.checkpoint import Checkpoint


class _Whole(nn.Module):
    """The trained network, and its softmax."""

    def __init__(self, trained: Checkpoint) -> None:
        super().__init__()
        self.network, self.temperature = trained.network, trained.spec.temperature

    def forward(self, pixels_nchw: Tensor) -> Tensor:
        return torch.softmax(self.network(pixels_nchw).float() / self.temperature, 1)


@cache
def _trained(folder: str) -> Checkpoint:
    return checkpoint.load(Path(folder) / "model.pt")


@cache
def _network(folder: str, variant: str) -> nn.Module:
    network = _Whole(_trained(folder)).eval()
    if variant in ("channels_last", "bf16"):
        network.to(memory_format=torch.channels_last)
    if variant == "compile":
        network.compile(dynamic=False)
    return network


@cache
def _pixels(path: str, folder: str, variant: str) -> Tensor:
    spec = _trained(folder).spec
    unit_nhwc = np.load(path).astype(np.float32) / 255
    scaled_nhwc = (unit_nhwc - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)
    pixels_nchw = torch.from_numpy(scaled_nhwc).permute(0, 3, 1, 2)
    is_last = variant in ("channels_last", "bf16")
    return pixels_nchw.contiguous(
        memory_format=torch.channels_last if is_last else torch.contiguous_format
    )


@torch.inference_mode()
def _run(network: nn.Module, pixels_nchw: Tensor, variant: str) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=variant == "bf16"):
        return network(pixels_nchw)


def _answer(request: dict[str, Any]) -> float | list[list[float]]:
    torch.set_num_threads(request["threads"])
    folder, variant = request["model"], request["variant"]
    network = _network(folder, variant)
    batch_nchw = _pixels(request["pixels"], folder, variant)[: request["batch"]]
    if request["do"] == "answer":
        return _run(network, batch_nchw, variant).tolist()
    return per_picture(
        [lambda: _run(network, batch_nchw, variant)],
        pictures=len(batch_nchw),
        at_least_s=request["at_least_s"],
    )


if __name__ == "__main__":
    serve(_answer)
