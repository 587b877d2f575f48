from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
import pytest
import torch
from torch import Tensor, nn

from gclf_export.graph import Deployable, to_onnx
from gclf_export.int8 import best_int8
from gclf_runtime import InputSpec, ModelSpec
from gclf_trainer.checkpoint import Checkpoint
from gclf_trainer.networks import build

SPEC = ModelSpec(label_names=("a", "b"), input=InputSpec(height=16, width=16))


class Twice(nn.Module):
    """What is pooled is taken by ReLU and by something else: the two cannot change places."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.last = nn.Conv2d(3, 8, 3), nn.Linear(8, 2)

    def forward(self, x_nchw: Tensor) -> Tensor:
        pooled = torch.max_pool2d(self.convolution(x_nchw), 2)
        return self.last((torch.relu(pooled) + pooled).mean((2, 3)))


def cnn() -> nn.Module:
    return build("cnn", 2, SPEC.input)


def exported(make: Callable[[], nn.Module]) -> tuple[nn.Module, onnx.ModelProto]:
    torch.manual_seed(0)
    network = make().eval()
    return network, to_onnx(Deployable(Checkpoint("", network, SPEC, "")).eval(), SPEC.input)


@pytest.mark.parametrize("make", [cnn, Twice])
def test_pooling_and_relu_change_places_and_no_answer_does(make: Callable[[], nn.Module]):
    network, model = exported(make)
    pixels_nhwc = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    deployable = Deployable(Checkpoint("", network, SPEC, "")).eval()
    with torch.inference_mode():
        expected = deployable(torch.from_numpy(pixels_nhwc))[1].numpy()

    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = np.asarray(session.run(["logits"], {"images": pixels_nhwc})[0])

    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)  # sums in another order


def test_pooling_comes_after_relu_in_the_graph():
    _, model = exported(cnn)

    order = [node.op_type for node in model.graph.node if node.op_type in ("MaxPool", "Relu")]
    assert order == ["Relu", "MaxPool"] * 4 + ["Relu"]


def test_pooling_stays_in_int8():
    _, model = exported(cnn)
    pixels_nhwc = np.random.default_rng(0).integers(0, 256, (32, 16, 16, 3), np.uint8)
    graph = best_int8(model, SPEC, pixels_nhwc, np.zeros(32, np.int64), max_drop=1.0).model.graph
    makers = {name: node for node in graph.node for name in node.output}
    takers = {name: node for node in graph.node for name in node.input}
    pools = [node for node in graph.node if node.op_type == "MaxPool"]

    assert len(pools) == 4
    for pool in pools:
        before, after = makers[pool.input[0]], takers[pool.output[0]]
        assert (before.op_type, after.op_type) == ("DequantizeLinear", "QuantizeLinear")
        assert list(before.input[1:]) == list(after.input[1:])  # one scale: no pass through floats
