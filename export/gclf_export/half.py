"""Float graph to fp16 or bf16: weights and convolutions in 16 bits, the ends in float32.

Pixels, their normalisation, the last matrix, the temperature and softmax stay as they are: 16 bits
would round the mean, and the outputs of the contract are float32. It is a pass of a hundred lines
of its own: the converters around onnx bring a cast and back around every operator they leave alone.
"""

from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference, version_converter

from gclf_export.chain import NORMALISATION, from_images

Half = Literal["fp16", "bf16"]

_TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
# Convolutions of bf16 are in the standard since opset 22, which needs this representation.
_BF16_OPSET, _BF16_IR_VERSION = 22, 10


def to_half(model: onnx.ModelProto, half: Half) -> onnx.ModelProto:
    """Convert a graph of the contract.

    Args:
        model: What `graph.to_onnx` returned; it is left as it is.
        half: The type to compute in.
    """
    if half == "bf16":
        converted = version_converter.convert_version(model, _BF16_OPSET)
        converted.ir_version = _BF16_IR_VERSION
    else:
        converted = onnx.ModelProto()
        converted.CopyFrom(model)
    _convert(converted, _TYPES[half])
    onnx.checker.check_model(converted, full_check=True)
    return converted


def _convert(model: onnx.ModelProto, half: int) -> None:
    graph = model.graph
    floats = _floats(model)
    inside = _inside(graph)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    halved: dict[str, str] = {}  # tensors by name, and the name of the same in 16 bits
    made = {n for node in graph.node if node.output[0] in inside for n in node.output} & floats
    nodes: list[onnx.NodeProto] = []
    back: dict[str, str] = {}  # 16-bit tensors, and the name of the same in float32
    for node in graph.node:
        is_inside = node.output[0] in inside
        for index, name in enumerate(node.input):
            if is_inside and name in floats and name not in made:
                if name not in halved and name in weights:
                    halved[name] = _halve_weights(graph, weights[name], half)
                elif name not in halved:
                    halved[name] = _cast(nodes, name, half, "half")
                node.input[index] = halved[name]
            elif not is_inside and name in made:
                if name not in back:
                    back[name] = _cast(nodes, name, TensorProto.FLOAT, "float")
                node.input[index] = back[name]
        if is_inside:
            _halve_attributes(node, half)
        nodes.append(node)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _floats(model: onnx.ModelProto) -> set[str]:
    """Name every float32 tensor of the graph."""
    graph = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    names = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    return names | {t.name for t in graph.initializer if t.data_type == TensorProto.FLOAT}


def _inside(graph: onnx.GraphProto) -> set[str]:
    """Name the first output of every node after the normalisation and before the logits."""
    start = from_images(graph)[: len(NORMALISATION)]
    is_normalised = [node.op_type for node in start] == NORMALISATION
    outside = {node.output[0] for node in start} if is_normalised else set[str]()
    after = {"logits"}
    for node in graph.node:  # each comes after those it takes from
        if after & {*node.input, *node.output}:
            after |= {*node.output}
            outside.add(node.output[0])
    return {node.output[0] for node in graph.node} - outside


def _halve_weights(graph: onnx.GraphProto, weights: onnx.TensorProto, half: int) -> str:
    name = f"{weights.name}.half"
    values = numpy_helper.to_array(weights).astype(helper.tensor_dtype_to_np_dtype(half))
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
    return name


def _halve_attributes(node: onnx.NodeProto, half: int) -> None:
    """Make what a node itself states 16 bits wide: casts to float32 and constants."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = half
        elif attribute.t.data_type == TensorProto.FLOAT and attribute.name == "value":
            dtype = helper.tensor_dtype_to_np_dtype(half)
            values = numpy_helper.to_array(attribute.t).astype(dtype)
            attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))


def _cast(nodes: list[onnx.NodeProto], name: str, to: int, suffix: str) -> str:
    output = f"{name}.{suffix}"
    nodes.append(helper.make_node("Cast", [name], [output], f"{output}.cast", to=to))
    return output
