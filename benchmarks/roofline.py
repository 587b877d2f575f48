"""How fast a device could be: what a network asks of it, against what it was measured to give.

The bytes are what a graph moves if nothing stays in a cache between two layers: each convolution,
pool and matrix reads what it is given and writes what it makes, once; a sum reads one operand more;
all else rides along.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import shape_inference
from torch import Tensor

from benchmarks.measuring import Rule, Timing, in_turns
from benchmarks.turns.serving import per_picture
from gclf_export.inspection import count_multiply_adds

_MOVING = ("Conv", "Gemm", "MatMul", "MaxPool", "AveragePool", "ReduceMean")
_TURN_S = 0.2


@dataclass(frozen=True)
class Cost:
    """What a network asks.

    Attributes:
        flops: Of one picture; a multiply-add is two.
        activations: Numbers read and written for one picture.
        weights: Numbers read for a batch.
    """

    flops: int
    activations: int
    weights: int

    def seconds(self, batch: int, width: int, ceilings: "Ceilings") -> float:
        """Return the least time of a batch, of numbers that are `width` bytes wide."""
        moved = (self.activations * batch + self.weights) * width
        return max(self.flops * batch / ceilings.flops, moved / ceilings.bytes)


@dataclass(frozen=True)
class Ceilings:
    """What a device was measured to give, per second."""

    flops: float
    bytes: float


def cost_of(path: Path) -> Cost:
    """Count what a file of the contract asks."""
    model = onnx.load(path)
    flops = 2 * count_multiply_adds(model)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del model.graph.value_info[:]
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    sizes = {
        value.name: math.prod(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    activations = 0
    for node in graph.node:
        if node.op_type in _MOVING:
            activations += sizes.get(node.input[0], 0) + sizes.get(node.output[0], 0)
        elif node.op_type == "Add" and all(name in sizes for name in node.input):
            activations += sizes[node.output[0]]
    weights = sum(math.prod(tensor.dims) for tensor in graph.initializer)
    return Cost(flops, activations, weights)


def measure_ceilings(device: str, rule: Rule) -> list[dict[str, Any]]:
    """Return a row for each ceiling; on the CPU, of one thread, as a session computes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        works = _works(device)
        turns = {
            name: partial(
                per_picture, [partial(_finished, device, work)], pictures=1, at_least_s=_TURN_S
            )
            for name, (work, _) in works.items()
        }
        timings = in_turns(turns, rule)
    finally:
        torch.set_num_threads(threads)
    return [_row(name, timing, works[name][1]) for name, timing in timings.items()]


def ceilings_of(rows: list[dict[str, Any]], precision: str) -> Ceilings:
    """Find those of a precision among the rows."""
    found = {row["ceiling"]: row["per_second"] for row in rows if row["part"] == "ceiling"}
    return Ceilings(found[f"multiply {precision}"], found["copy"])


def _row(name: str, timing: Timing, amount: int) -> dict[str, Any]:
    unit = "FLOP" if name.startswith("multiply") else "byte"
    row = {"part": "ceiling", "ceiling": name, "unit": unit, "amount": amount}
    return {**row, "per_second": amount / timing.median, "seconds": timing.record()}


def _works(device: str) -> dict[str, tuple[Callable[[], object], int]]:
    """Return what is done and how much of it, by name."""
    is_cuda = device == "cuda"
    side, count = (8192, 2**29) if is_cuda else (1024, 2**28)
    source = torch.ones(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    works: dict[str, tuple[Callable[[], object], int]] = {
        "multiply fp32": (partial(_multiply, _square(side, device), is_tf32=False), 2 * side**3),
        "copy": (partial(target.copy_, source), 2 * count),  # it is read, and written
    }
    if is_cuda:
        half = _square(side, device).half()
        here = torch.ones(count, dtype=torch.uint8)
        works |= {
            "multiply tf32": (partial(_multiply, _square(side, device), is_tf32=True), 2 * side**3),
            "multiply fp16": (partial(_multiply, half, is_tf32=False), 2 * side**3),
            "upload": (partial(target.copy_, here), count),
            "upload, pinned": (partial(target.copy_, here.pin_memory()), count),
        }
    return works


def _square(side: int, device: str) -> Tensor:
    return torch.rand(side, side, device=device)


def _multiply(square: Tensor, *, is_tf32: bool) -> Tensor:
    torch.backends.cuda.matmul.allow_tf32 = is_tf32
    return square @ square


def _finished(device: str, work: Callable[[], object]) -> None:
    work()
    if device == "cuda":
        torch.cuda.synchronize()
