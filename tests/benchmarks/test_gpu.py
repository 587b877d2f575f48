"""The question to a GPU, tiny; the same code runs on the CPU where there is none."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks import gpu
from benchmarks.measuring import QUICK
from benchmarks.results import Result
from benchmarks.roofline import Ceilings, Cost, cost_of
from benchmarks.workplace import Workplace


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "precisions"),
    [
        pytest.param("cpu", {"fp32"}, id="cpu"),
        pytest.param("cuda", {"fp32", "tf32", "fp16"}, id="cuda", marks=pytest.mark.gpu),
    ],
)
def test_a_device_answers_every_part_of_the_question(
    device: str, precisions: set[str], tmp_path: Path
):
    place = Workplace(
        tmp_path, tmp_path, tmp_path / "no-data", quick=True, rule=QUICK, device=device
    )
    rows, notes = gpu.measure(place)
    result = Result("gpu", {}, rows, notes)
    network: list[dict[str, Any]] = [row for row in rows if row["part"] == "network"]
    assert {row["part"] for row in rows} == {"ceiling", "network", "files", "training"}
    computed = [row for row in network if row["step"] == "compute"]
    assert {row["precision"] for row in computed} == precisions
    assert {row["step"] for row in network} == {"compute", "transfer", "gclf"}
    assert all(row["max_dp"] < 0.01 for row in network)
    assert all(row["least_s"] > 0 for row in computed)
    assert any("tf32 and fp16 were left out" in note for note in notes) == (device == "cpu")
    assert "Training to an accuracy" in gpu.tables(result)
    gpu.plot(result, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"


def test_a_network_costs_its_multiply_adds_twice_and_what_it_moves(tmp_path: Path):
    weights = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "weights")
    nodes = [
        helper.make_node("Conv", ["images", "weights"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["maps"], ["answers"]),
    ]
    shape, made = ["batch", 3, 8, 8], ["batch", 4, 8, 8]
    graph = helper.make_graph(
        nodes,
        "one convolution",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("answers", TensorProto.FLOAT, made)],
        [weights],
    )
    onnx.save(helper.make_model(graph), tmp_path / "one.onnx")

    # 64 places × 4 maps × 27 weights each; 3 maps are read and 4 written, the relu rides along.
    assert cost_of(tmp_path / "one.onnx") == Cost(
        flops=2 * 64 * 4 * 27, activations=64 * 7, weights=108
    )


@pytest.mark.parametrize(
    ("ceilings", "seconds"),
    [
        pytest.param(Ceilings(flops=10.0, bytes=1e9), 20.0, id="bound by multiplying"),
        pytest.param(Ceilings(flops=1e9, bytes=10.0), 44.0, id="bound by memory"),
    ],
)
def test_the_least_time_is_that_of_the_lower_ceiling(ceilings: Ceilings, seconds: float):
    cost = Cost(flops=100, activations=50, weights=10)

    assert cost.seconds(batch=2, width=4, ceilings=ceilings) == seconds
