"""Check the graph of a model file: known operators, whole tensors, a bounded load.

Nothing stops onnxruntime while it loads, so what that may cost is bounded here. What a run costs
is not: Concat and MatMul multiply sizes in honest graphs too.
"""

import math
from collections import Counter
from collections.abc import Iterable

from gclf_runtime.model_file.protobuf import NOTHING, FormatError, Walk, first, schema

DOMAINS = ("", "ai.onnx")  # two names of the standard's own operators

_MAX_NODES = 10_000  # torchvision's maxvit_t has 1,142
_MAX_TENSORS = 20_000
_MAX_RANK = 8
_MAX_SIDE = 2**31
_MAX_PADDING = 256  # half of the largest kernels in use is 25
# onnxruntime computes what depends on no picture while it loads: 1.7 KB of Concat and Exp took it
# ten seconds and 2.8 GB. An honest file makes shapes so, and floats of its int8 weights.
_MAX_CONSTANTS, _MAX_CONSTANTS_PER_WEIGHT = 2**27, 16
_WITHOUT_END = 2**63

# What image classifiers and their static quantisation need. Tried with torchvision 0.29 (random
# weights, opset 18, torch 2.15). These pass: vgg11_bn, resnet18, densenet121, googlenet,
# squeezenet1_1, mobilenet_v2, mobilenet_v3_small, mnasnet0_5, shufflenet_v2_x1_0,
# efficientnet_b0, efficientnet_v2_s, regnet_y_400mf, maxvit_t, convnext_tiny. These do not, for
# what they need makes large tensors out of a few numbers: vit_b_16 (Expand), swin_t
# (ConstantOfShape, Pad, Range, ScatterND), swin_v2_t (those, Expand, GatherND).
# Loops, random numbers, strings and sequences are left out for good.
OPERATORS = frozenset(
    {
        *("Abs", "Add", "And", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Clip"),
        *("Concat", "Constant", "Conv", "DequantizeLinear", "Div", "Dropout", "Einsum", "Elu"),
        *("Equal", "Erf", "Exp", "Flatten", "Floor", "Gather", "Gelu", "Gemm"),
        *("GlobalAveragePool", "GlobalMaxPool", "Greater", "GroupNormalization", "HardSigmoid"),
        *("HardSwish", "Identity", "InstanceNormalization", "LRN", "LayerNormalization"),
        *("LeakyRelu", "Less", "Log", "LogSoftmax", "MatMul", "Max", "MaxPool", "Min", "Mish"),
        *("Mul", "Neg", "Not", "Or", "PRelu", "Pow", "QuantizeLinear", "Reciprocal"),
        *("ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Relu", "Reshape"),
        *("Round", "Selu", "Shape", "Sigmoid", "Sign", "Slice", "Softmax", "Softplus", "Softsign"),
        *("Split", "Sqrt", "Squeeze", "Sub", "Swish", "Tanh", "Transpose", "Unsqueeze", "Where"),
    }
)

# What they give is no larger than the first thing they take.
_KEEPING = frozenset(
    {
        *("Clip", "DequantizeLinear", "QuantizeLinear", "ReduceL2", "ReduceMax", "ReduceMean"),
        *("ReduceMin", "ReduceSum", "Reshape", "Slice", "Split", "Squeeze", "Unsqueeze"),
    }
)
_PADDING = frozenset({"AveragePool", "Conv", "MaxPool"})

# TensorProto.DataType: bytes of one number, and the field that holds them where they are not raw.
_NUMBERS = {
    **{1: (4, "floats"), 11: (8, "doubles"), 7: (8, "int64s")},  # float, double, int64
    **{2: (1, "int32s"), 3: (1, "int32s"), 9: (1, "int32s")},  # uint8, int8, bool
    **{4: (2, "int32s"), 5: (2, "int32s"), 6: (4, "int32s")},  # uint16, int16, int32
    **{10: (2, "int32s"), 16: (2, "int32s")},  # float16, bfloat16
    **{12: (4, "uint64s"), 13: (8, "uint64s")},  # uint32, uint64
}
_DATA = ("raw", "floats", "doubles", "int32s", "int64s", "uint64s")

# The messages of onnx.proto within a graph, as far as they are allowed.
_GRAPH = schema(
    "1:nodes:bytes+ 2:name:text 5:tensors:bytes+ 10:doc_string:bytes 11:inputs:bytes+"
    " 12:outputs:bytes+ 13:values:bytes+ 15:sparse_tensors:no 16:metadata:bytes+"
)
_NODE = schema(
    "1:inputs:text+ 2:outputs:text+ 3:name:text 4:operator:text 5:attributes:bytes+"
    " 6:doc_string:bytes 7:domain:text 9:metadata:bytes+"
)
_ATTRIBUTE = schema(
    "1:name:text 2:float:float 3:int:int 4:string:text 5:tensor:bytes 6:a_subgraph:no"
    " 7:floats:float+ 8:ints:int+ 11:subgraphs:no 13:doc_string:bytes 20:type:int"
    " 22:a_sparse_tensor:no 23:sparse_tensors:no"
)
_TENSOR = schema(
    "1:dims:int+ 2:type:int 4:floats:float+ 5:int32s:count+ 7:int64s:count+ 8:name:text"
    " 9:raw:bytes 10:doubles:double+ 11:uint64s:count+ 12:doc_string:bytes"
    " 13:weights_in_another_file:no 14:location:int 16:metadata:bytes+"
)
_VALUE = schema("1:name:text 2:type:bytes 3:doc_string:bytes 4:metadata:bytes+")
_TYPE = schema(
    "1:tensor:bytes 4:a_sequence:no 5:a_map:no 6:denotation:text 7:an_opaque_type:no"
    " 8:a_sparse_tensor:no 9:an_optional_type:no"
)
_TENSOR_TYPE = schema("1:number:int 2:shape:bytes")
_SHAPE = schema("1:dims:bytes+")
_DIM = schema("1:side:int 2:name:text 3:denotation:text")


def check_graph(walk: Walk, part: memoryview) -> tuple[Counter[str], int]:
    """Return how often each operator occurs, and how many numbers are stored.

    Args:
        walk: The reading of the file it is part of.
        part: Its bytes.

    Raises:
        FormatError: It is damaged, or no image classifier is made so.
    """
    graph = walk.read(part, _GRAPH, "the graph")
    for key, limit in (("nodes", _MAX_NODES), ("tensors", _MAX_TENSORS)):
        if len(graph[key]) > limit:
            raise FormatError(f"it has {len(graph[key])} {key}, the limit is {limit}")
    stored = [_tensor(walk, part) for part in graph["tensors"]]
    inputs, outputs, _ = (
        [_value(walk, part) for part in graph[key]] for key in ("inputs", "outputs", "values")
    )
    known: dict[str, int | None] = dict.fromkeys(_distinct(inputs))
    _distinct(name for name, _ in stored)
    known |= dict(stored)
    operators, parameters, constants = Counter[str](), sum(count for _, count in stored), 0
    for part in graph["nodes"]:
        operator, count, made = _node(walk, part, known)
        operators[operator] += 1
        parameters += count
        constants += made
        if constants > _MAX_CONSTANTS + _MAX_CONSTANTS_PER_WEIGHT * parameters:
            raise FormatError(f"it makes {constants:.3g} numbers before it has seen a picture")
    if not outputs or not _distinct(outputs) <= set(known):
        raise FormatError(f"its outputs are {outputs[:20]}, which its nodes do not give")
    return operators, parameters


def _distinct(names: Iterable[str]) -> set[str]:
    counts = Counter(names)
    for name, count in counts.items():
        if count > 1 or not name:
            raise FormatError(f"{count} of its tensors have the name {name!r}")
    return set(counts)


def _node(walk: Walk, part: memoryview, known: dict[str, int | None]) -> tuple[str, int, int]:
    """Check a node against what is known before it, and add what it gives.

    Args:
        walk: The reading it is part of.
        part: Its bytes.
        known: How many numbers each tensor so far may have; None where it depends on pictures.

    Returns:
        Its operator, how many numbers it stores, and how many it makes at most in loading.
    """
    node = walk.read(part, _NODE, "a node")
    operator, domain = first(node, "operator", ""), first(node, "domain", "")
    if operator not in OPERATORS or domain not in DOMAINS:
        operator = f"{domain}.{operator}" if domain else operator
        raise FormatError(f"the operator {operator!r} is none that image classifiers need")
    taken: list[str] = [name for name in node["inputs"] if name]
    for name in taken:
        if name not in known:
            raise FormatError(f"a {operator} takes {name!r}, which nothing before it gives")
    stored = sum(_attribute(walk, part, operator) for part in node["attributes"])
    size = stored if operator == "Constant" else _size(operator, [known[name] for name in taken])
    for name in filter(None, node["outputs"]):
        if name in known:
            raise FormatError(f"a {operator} gives {name!r}, which is there already")
        known[name] = size
    return operator, stored, size or 0


def _size(operator: str, taken: list[int | None]) -> int | None:
    """Bound how many numbers a node makes of constants; None where it waits for pictures."""
    if operator == "Shape":
        return _MAX_RANK
    sizes = [max(size, 1) for size in taken if size is not None]
    if len(sizes) < len(taken):
        return None
    if operator == "Concat":
        return sum(sizes)
    if operator in _KEEPING:
        return sizes[0] if sizes else 0
    product = _WITHOUT_END if operator in _PADDING else 1
    for size in sizes:
        product = min(product * size, _WITHOUT_END)
    return product


def _attribute(walk: Walk, part: memoryview, operator: str) -> int:
    """Return how many numbers an attribute stores for the graph to use."""
    attribute = walk.read(part, _ATTRIBUTE, f"a {operator}")
    if first(attribute, "name", "") == "pads" and max(attribute["ints"], default=0) > _MAX_PADDING:
        raise FormatError(f"a {operator} pads by {max(attribute['ints'])}")
    listed = len(attribute["ints"]) + sum(attribute["floats"]) if operator == "Constant" else 0
    return listed + sum(_tensor(walk, tensor)[1] for tensor in attribute["tensor"])


def _tensor(walk: Walk, part: memoryview) -> tuple[str, int]:
    """Return a tensor's name and how many numbers it holds, which must be what it states."""
    tensor = walk.read(part, _TENSOR, "a tensor")
    name, dims, number = first(tensor, "name", ""), tensor["dims"], first(tensor, "type", 0)
    what = f"the tensor {name!r}"
    if first(tensor, "location", 0) != 0:
        raise FormatError(f"{what} has weights in another file")
    if number not in _NUMBERS:
        raise FormatError(f"{what} is of type {number}, which weights never are")
    _check_dims(dims, what)
    size, field = _NUMBERS[number]
    filled = [key for key in _DATA if tensor[key]]
    held = len(tensor["raw"][0]) / size if tensor["raw"] else sum(tensor[field])
    if held != math.prod(dims) or len(filled) > 1:
        raise FormatError(f"{what} states the shape {dims}, but holds {held:.10g} numbers")
    return name, int(held)


def _value(walk: Walk, part: memoryview) -> str:
    """Return the name of an input, an output or what is between; it must be a tensor."""
    value = walk.read(part, _VALUE, "a value")
    name: str = first(value, "name", "")
    what = f"the value {name!r}"
    kind = walk.read(first(value, "type", NOTHING), _TYPE, what)
    tensor = walk.read(first(kind, "tensor", NOTHING), _TENSOR_TYPE, what)
    if first(tensor, "number", 0) not in _NUMBERS:
        raise FormatError(f"{what} is no tensor of numbers")
    shape = walk.read(first(tensor, "shape", NOTHING), _SHAPE, what)
    dims = [first(walk.read(dim, _DIM, what), "side", 0) for dim in shape["dims"]]
    _check_dims(dims, what)
    return name


def _check_dims(dims: list[int], what: str) -> None:
    if len(dims) > _MAX_RANK or not all(0 <= dim <= _MAX_SIDE for dim in dims):
        raise FormatError(f"{what} has the shape {dims[:20]}")
