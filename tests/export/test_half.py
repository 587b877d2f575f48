from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

pytest.importorskip("torch")

import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]

from gclf_export.half import to_half

FLOAT, HALF, BFLOAT = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
)


def weights(model: onnx.ModelProto, operator: str) -> set[int]:
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == operator]
    return {types[name] for node in nodes for name in node.input if name in types}


@pytest.mark.parametrize(("half", "kind"), [("fp16", HALF), ("bf16", BFLOAT)])
def test_convolutions_are_halved_and_the_ends_are_not(exported: Path, half: Any, kind: int):
    model = onnx.load(exported)
    halved = to_half(model, half)
    operators = [node.op_type for node in halved.graph.node]

    assert weights(halved, "Conv") == {kind}
    assert weights(halved, "Gemm") == weights(halved, "Sub") == {FLOAT}
    assert {o.type.tensor_type.elem_type for o in halved.graph.output} == {FLOAT}
    # To float for the normalisation, to 16 bits behind it, and back before the logits.
    assert operators.count("Cast") == 3
    assert halved.ByteSize() < model.ByteSize() * 0.7
    assert weights(model, "Conv") == {FLOAT}


def test_the_temperature_divides_in_float(exported: Path):
    model = onnx.load(exported)
    last = next(node for node in model.graph.node if node.op_type == "Softmax")
    logits, last.input[0] = last.input[0], "cooled"
    model.graph.initializer.append(numpy_helper.from_array(np.array(1.3, np.float32), "t"))
    position = [*model.graph.node].index(last)
    model.graph.node.insert(position, onnx.helper.make_node("Div", [logits, "t"], ["cooled"]))

    halved = to_half(model, "fp16")
    divided = [node for node in halved.graph.node if "cooled" in node.output]

    assert [*divided[0].input] == ["logits", "t"]
    assert weights(halved, "Div") == {FLOAT}
    assert [node.op_type for node in halved.graph.node].count("Cast") == 3


def test_fp16_answers_as_fp32_within_its_tolerance(exported: Path):
    model = onnx.load(exported)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    answers_nk: list[Any] = []
    for each in (model, to_half(model, "fp16")):
        session: Any = ort.InferenceSession(
            each.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        answers_nk += session.run(["probabilities"], {"images": pixels})

    assert 0 < np.abs(answers_nk[0] - answers_nk[1]).max() < 0.01
