"""Network to graph: what the exported file computes, and how it is written down.

Axes: n batch, h height, w width, c channels (RGB), k classes.
"""

from collections import Counter
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from gclf_export.errors import ExportError
from gclf_export.pooling import with_plain_pooling
from gclf_runtime import InputSpec
from gclf_runtime.model_file.graph import OPERATORS
from gclf_trainer.checkpoint import Checkpoint
from gclf_trainer.evaluation import Normalise, to_nchw

# Opset 18 is the lowest that torch writes without a conversion afterwards; with the intermediate
# representation of its day, onnxruntime 1.14 and newer and onnxruntime-web read it.
OPSET, IR_VERSION = 18, 8


class Deployable(nn.Module):
    """The contract's graph: raw pixels in, probabilities and logits out."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        spec = checkpoint.spec
        self.normalise = Normalise(spec.mean, spec.std)
        self.network = checkpoint.network
        self.temperature = spec.temperature

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Classify uint8 RGB pixels of shape (N, H, W, 3).

        Returns:
            Probabilities and logits (before temperature), float32 (N, K).
        """
        logits_nk = self.network(self.normalise(to_nchw(images).contiguous()))
        return torch.softmax(logits_nk / self.temperature, dim=1), logits_nk


def to_onnx(deployable: Deployable, spec: InputSpec) -> onnx.ModelProto:
    """Write the graph as an ONNX model with its weights inside and a dynamic batch.

    Args:
        deployable: In evaluation mode, on the CPU.
        spec: The size of its input.

    Raises:
        ExportError: torch cannot write the network as a graph, or it needs an operator that the
            runtime does not admit.
    """
    try:
        program = _export(with_plain_pooling(deployable), spec)
    except Exception as error:  # torch raises its own, and whatever the network does
        reason = " ".join(str(error).partition("## ")[0].split())[:300]
        raise ExportError(
            f"torch cannot write the network as a graph ({type(error).__name__}: {reason}). "
            "No if or loop of its forward may depend on the pixels: use torch.where, and try "
            "torch.export.export on it alone"
        ) from error
    model: onnx.ModelProto = program.model_proto
    model.ir_version = IR_VERSION
    _forget_the_build(model)
    _require_operators(model)
    _relu_before_pooling(model.graph)
    onnx.checker.check_model(model, full_check=True)
    return model


def _require_operators(model: onnx.ModelProto) -> None:
    if strange := sorted({node.op_type for node in model.graph.node} - OPERATORS):
        raise ExportError(
            f"the network needs {', '.join(strange)}, and the runtime admits only operators that "
            "an image classifier needs. Write that part of its forward with fixed sizes (no "
            "expand, pad, sort or recurrence), or take a convolutional network: resnet, "
            "efficientnet, convnext"
        )


def _export(deployable: Deployable, spec: InputSpec) -> Any:
    example = torch.zeros(2, spec.height, spec.width, 3, dtype=torch.uint8)
    return torch.onnx.export(
        deployable,
        (example,),
        dynamo=True,
        external_data=False,
        input_names=["images"],
        output_names=["probabilities", "logits"],
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        opset_version=OPSET,
        verbose=False,
    )


def _forget_the_build(model: onnx.ModelProto) -> None:
    """Remove torch's stack traces and names of modules: they tell of this machine's folders."""
    graph = model.graph
    del graph.metadata_props[:], graph.value_info[:]
    for item in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""


def _relu_before_pooling(graph: onnx.GraphProto) -> None:
    """Move each Relu that follows a MaxPool before it: both keep the order of numbers.

    There it is a part of the convolution; and in int8 the pooling stays in int8, for what it
    takes and gives then has one scale. That is a third of the tutorials' network's time.
    """
    takers = Counter(name for node in graph.node for name in node.input)
    relus = {node.input[0]: node for node in graph.node if node.op_type == "Relu"}
    for pool in [node for node in graph.node if node.op_type == "MaxPool"]:
        pooled = pool.output[0]
        if len(pool.output) == 1 and takers[pooled] == 1 and pooled in relus:
            relu = relus[pooled]
            relu.input[0], pool.output[0] = pool.input[0], relu.output[0]
            relu.output[0] = pool.input[0] = pooled
            graph.node.remove(relu)
            graph.node.insert(list(graph.node).index(pool), relu)
