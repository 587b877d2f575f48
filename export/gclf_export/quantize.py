"""Float graph to int8: static quantisation with given ranges.

Unsigned activations and signed weights per channel are the fast form on x86 (signed activations
are 3-5 times slower in onnxruntime). The mean, the last matrix and softmax stay in float32: they
cost some hundredths of a point of accuracy in int8, and saved no time that could be measured.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnxruntime.quantization import (  # pyright: ignore[reportMissingTypeStubs]
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from gclf_export.calibrate import Range
from gclf_export.chain import NORMALISATION, from_images
from gclf_runtime import ModelSpec

# Which matrices stay in float32.
Kept = Literal["last", "first and last"]

_QUANTISED = ["Conv", "Relu", "Add", "MaxPool", "Gemm"]


def quantised_tensors(model: onnx.ModelProto) -> list[str]:
    """Name what `to_int8` needs ranges of: all that a quantised operator takes or gives."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type in _QUANTISED]
    names = [name for node in nodes for name in (*node.input, *node.output) if name]
    return [name for name in dict.fromkeys(names) if name not in weights]


def to_int8(
    model: onnx.ModelProto, spec: ModelSpec, ranges: Mapping[str, Range], *, kept: Kept = "last"
) -> onnx.ModelProto:
    """Quantise a graph of the contract.

    Args:
        model: What `to_onnx` returned; it is left as it is.
        spec: Its input, mean and std.
        ranges: Lowest and highest value of each of its `quantised_tensors`.
        kept: What stays in float32.
    """
    start = from_images(model.graph)
    overrides: dict[str, Any] = {
        name: [{"rmin": np.float32(low), "rmax": np.float32(high)}]
        for name, (low, high) in ranges.items()
    }
    takes_pixels = (
        kept != "first and last"
        and _is_one_level(spec)
        and [node.op_type for node in start[:4]] == NORMALISATION
    )
    if takes_pixels:
        scale, level = 1 / (spec.std[0] * 255), round(spec.mean[0] * 255)
        exact = {"scale": np.array(scale, np.float32), "zero_point": np.array(level, np.uint8)}
        overrides[start[3].output[0]] = [exact | {"quant_type": QuantType.QUInt8}]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)  # it moves the weights out of what it is given
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            copy,
            path,
            _OnePicture(spec),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_QUANTISED,
            nodes_to_exclude=_float_nodes(model.graph, kept),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"TensorQuantOverrides": overrides},
        )
        quantised = onnx.load(path)
    if takes_pixels:
        _take_pixels_as_they_are(quantised.graph)
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


def _float_nodes(graph: onnx.GraphProto, kept: Kept) -> list[str]:
    nodes = [node.name for node in graph.node if "logits" in node.output]
    if kept == "first and last":
        nodes.append(next(node.name for node in graph.node if node.op_type in ("Conv", "Gemm")))
    return nodes


def _is_one_level(spec: ModelSpec) -> bool:
    """Tell whether one whole level is every channel's mean, and one number its deviation."""
    level = spec.mean[0] * 255
    is_level = 0 <= round(level) <= 255 and abs(level - round(level)) < 1e-4
    return is_level and len({*spec.mean}) == len({*spec.std}) == 1


def _take_pixels_as_they_are(graph: onnx.GraphProto) -> None:
    """Remove normalisation and quantisation of the input, which undo each other exactly.

    A pixel p becomes (p - mean) / std, quantised with scale 1/std and zero point mean: p again.
    """
    start = from_images(graph)
    if [node.op_type for node in start[:5]] != [*NORMALISATION, "QuantizeLinear"]:
        return
    transposed, quantised = start[0].output[0], start[4].output[0]
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == quantised:
                node.input[index] = transposed
    for node in start[1:5]:
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for weights in [weights for weights in graph.initializer if weights.name not in used]:
        graph.initializer.remove(weights)


class _OnePicture(CalibrationDataReader):
    """Makes the calibration that quantize_static insists on short; the ranges are given."""

    def __init__(self, spec: ModelSpec) -> None:
        self._left = [np.zeros((1, spec.input.height, spec.input.width, 3), np.uint8)]

    def get_next(self) -> Any:  # the base class forgets that the end is None
        return {"images": self._left.pop()} if self._left else None
