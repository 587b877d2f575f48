"""What is in an exported file: its promise, its graph, what it costs, its certificate.

It needs no torch, and the file is checked as the runtime checks it before anything reads it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import onnx
from onnx import shape_inference

from gclf_export.errors import ExportError
from gclf_runtime import ModelSpec
from gclf_runtime.model_file import ModelFile, read_model
from gclf_runtime.spec import SPEC_KEY

CERTIFICATE_KEY = "gclf.certificate"


@dataclass(frozen=True)
class Inspection:
    """What an exported file says and holds.

    Attributes:
        size_bytes: Of the file.
        file: Its versions, operators, parameters and digest.
        spec: Its promise; None where it has none.
        multiply_adds: Of convolutions and matrices, for one picture.
        certificate: As it travels in the file; None where it has none.
    """

    size_bytes: int
    file: ModelFile
    spec: ModelSpec | None
    multiply_adds: int
    certificate: Mapping[str, Any] | None


def inspect(path: Path) -> Inspection:
    """Read an exported file.

    Raises:
        ExportError: There is none, or it cannot be read.
        ModelError: It is no model that gclf opens.
    """
    if not path.is_file():
        raise ExportError(f"no model at {path}. Export one: gclf-export RUN/model.pt")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ExportError(f"{path} cannot be read ({error.strerror}). Check its rights") from error
    file = read_model(data, str(path))
    spec = file.metadata.get(SPEC_KEY)
    return Inspection(
        size_bytes=len(data),
        file=file,
        spec=None if spec is None else ModelSpec.from_json(spec),
        multiply_adds=count_multiply_adds(onnx.load_from_string(data)),
        certificate=_certificate(file.metadata, path),
    )


def count_multiply_adds(model: onnx.ModelProto) -> int:
    """Count the multiply-adds of convolutions and matrices for one picture.

    One multiply-add is two floating-point operations; what others call FLOPs is often this.
    """
    single = onnx.ModelProto()
    single.CopyFrom(model)
    for value in single.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del single.graph.value_info[:]
    for output in single.graph.output:
        output.type.tensor_type.shape.dim[0].Clear()
    graph = shape_inference.infer_shapes(single, data_prop=True).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    return sum(_node(node, shapes) for node in graph.node)


def _node(node: onnx.NodeProto, shapes: Mapping[str, list[int]]) -> int:
    if node.op_type not in ("Conv", "Gemm", "MatMul"):
        return 0
    given, weights = shapes.get(node.output[0], []), shapes.get(node.input[1], [])
    if node.op_type == "Conv":
        return math.prod(given) * math.prod(weights[1:])
    if node.op_type == "Gemm":
        return math.prod(given) * (math.prod(weights) // max(1, given[-1]))
    return math.prod(given) * (weights[-2] if len(weights) > 1 else 1)


def _certificate(metadata: Mapping[str, str], path: Path) -> Mapping[str, Any] | None:
    text = metadata.get(CERTIFICATE_KEY)
    if text is None:
        return None
    try:
        record: object = json.loads(text)
    except (ValueError, RecursionError):
        record = None
    rungs = cast(dict[str, Any], record).get("rungs") if isinstance(record, dict) else None
    if not isinstance(rungs, list) or not all(isinstance(r, dict) for r in cast(list[Any], rungs)):
        raise ExportError(f"the certificate of {path} is broken. Export it again")
    return cast(dict[str, Any], record)
