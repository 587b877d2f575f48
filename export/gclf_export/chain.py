"""The beginning of a graph of the contract: from the pixels to the first convolution."""

import onnx

# What graph.Deployable begins with.
NORMALISATION = ["Transpose", "Cast", "Sub", "Div"]


def from_images(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """List the nodes from the input on, as far as each has one reader only."""
    chain: list[onnx.NodeProto] = []
    name = "images"
    while len(readers := [node for node in graph.node if name in node.input]) == 1:
        chain.append(readers[0])
        name = readers[0].output[0]
    return chain
