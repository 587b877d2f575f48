"""Float graph to int8: static quantisation, calibrated on training pictures.

Unsigned activations and signed weights per channel are the fast form on x86 (signed activations
are 3-5 times slower in onnxruntime). The last matrix, the mean and softmax stay in float32.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (  # pyright: ignore[reportMissingTypeStubs]
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from gclf_runtime import ModelSpec

_QUANTISED = ["Conv", "Relu", "Add", "MaxPool", "Gemm"]
_NORMALISATION = ["Transpose", "Cast", "Sub", "Div"]  # what graph.Deployable begins with
_BATCH = 32


def to_int8(
    model: onnx.ModelProto, spec: ModelSpec, pixels_nhwc: NDArray[np.uint8]
) -> onnx.ModelProto:
    """Quantise a graph of the contract, with ranges from the smallest and largest activations.

    Args:
        model: What `to_onnx` returned; it is left as it is.
        spec: Its mean and std.
        pixels_nhwc: Training pictures to calibrate on, uint8 0-255, shape (N, H, W, 3), a few
            hundred.
    """
    start = _from_images(model.graph)
    overrides: dict[str, Any] = {}
    if [node.op_type for node in start[:4]] == _NORMALISATION and _is_one_level(spec):
        scale, level = 1 / (spec.std[0] * 255), round(spec.mean[0] * 255)
        exact = {"scale": np.array(scale, np.float32), "zero_point": np.array(level, np.uint8)}
        overrides[start[3].output[0]] = [exact | {"quant_type": QuantType.QUInt8}]
    last = [node.name for node in model.graph.node if "logits" in node.output]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            path,
            _Batches(pixels_nhwc),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_QUANTISED,
            nodes_to_exclude=last,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"TensorQuantOverrides": overrides},
        )
        quantised = onnx.load(path)
    if overrides:
        _take_pixels_as_they_are(quantised.graph)
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


def _is_one_level(spec: ModelSpec) -> bool:
    """Tell whether one whole level is every channel's mean, and one number its deviation."""
    level = spec.mean[0] * 255
    return len({*spec.mean}) == len({*spec.std}) == 1 and abs(level - round(level)) < 1e-4


def _take_pixels_as_they_are(graph: onnx.GraphProto) -> None:
    """Remove normalisation and quantisation of the input, which undo each other exactly.

    A pixel p becomes (p - mean) / std, quantised with scale 1/std and zero point mean: p again.
    """
    start = _from_images(graph)
    if [node.op_type for node in start[:5]] != [*_NORMALISATION, "QuantizeLinear"]:
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


def _from_images(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """List the nodes from the input on, as far as each has one reader only."""
    chain: list[onnx.NodeProto] = []
    name = "images"
    while len(readers := [node for node in graph.node if name in node.input]) == 1:
        chain.append(readers[0])
        name = readers[0].output[0]
    return chain


class _Batches(CalibrationDataReader):
    def __init__(self, pixels_nhwc: NDArray[np.uint8]) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = iter(
            [pixels_nhwc[start : start + _BATCH] for start in range(0, len(pixels_nhwc), _BATCH)]
        )

    def get_next(self) -> Any:  # the base class forgets that the end is None
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}
