"""Make colours.onnx, the tests' tiny model: it answers with the strongest colour of a picture.

Regenerate with: uv run python tests/data/make_colours.py
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gclf_runtime import InputSpec, ModelSpec
from gclf_runtime.model_file import seal

SIDE = 16


def main() -> None:
    """Write the file beside this script: logits are the mean of each channel over 25.5."""
    label_names = ("red", "green", "blue")
    weights = numpy_helper.from_array(np.eye(3, dtype=np.float32) / 25.5, "weights")
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["floats"], ["means"], axes=[1, 2], keepdims=0),
            helper.make_node("Gemm", ["means", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "colours",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3])
            for name in ("probabilities", "logits")
        ],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    spec = ModelSpec(label_names=label_names, input=InputSpec(height=SIDE, width=SIDE))
    helper.set_model_props(model, {"gclf.spec": spec.to_json()})
    onnx.checker.check_model(model, full_check=True)
    Path(__file__).with_name("colours.onnx").write_bytes(seal(model.SerializeToString()))


if __name__ == "__main__":
    main()
