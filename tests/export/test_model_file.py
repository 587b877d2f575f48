import warnings
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
import torchvision  # pyright: ignore[reportMissingTypeStubs]

from gclf_runtime.model_file import read_model


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_the_check_lets_networks_of_torchvision_pass(name: str):
    """More of them, and which do not pass, are named in gclf_runtime.model_file.graph."""
    network = torchvision.models.get_model(name, weights=None, num_classes=2).eval()
    with warnings.catch_warnings(action="ignore"):
        program: Any = torch.onnx.export(
            network,
            (torch.zeros(2, 3, 64, 64),),
            dynamo=True,
            external_data=False,
            dynamic_shapes={"x": {0: torch.export.Dim("batch")}},
            opset_version=18,
            verbose=False,
        )
    found = read_model(program.model_proto.SerializeToString(), f"{name}.onnx")

    assert found.opset == 18
    assert {"Conv", "Relu", "MaxPool"} <= set(found.operators)
    assert found.parameters > 500_000
