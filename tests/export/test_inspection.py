import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gclf_export.inspection import count_multiply_adds
from gclf_runtime import Classifier
from gclf_runtime.model_file import seal


def run_inspect(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gclf_export", "--inspect", path]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8")


def test_inspect_prints_what_is_in_the_file(exported: Path):
    shown = run_inspect(exported)
    record = json.loads(exported_metadata(exported)["gclf.certificate"])

    assert shown.returncode == 0, shown.stderr
    for pattern in (
        r"classes +blue, green, red",
        r"input +32×32 RGB, stretch, bilinear, JPEG scaled to 3×",
        r"operators +Conv 12, Relu 9",
        r"parameters +9\d\d,\d{3} numbers",
        r"compute +\d\d\.\d MFLOP per picture \(2 × multiply-adds\)",
        rf"size +{exported.stat().st_size:,} bytes",
        r"opset +18, IR 8",
        r"digest +[0-9a-f]{64}",
        r"license +CC BY 4\.0",
        r"fp32 +CPU +\d\.\d{4} \(\d\.\d{4}-\d\.\d{4}\)",
        re.escape(record["rungs"][0]["verdict"]),
    ):
        assert re.search(pattern, shown.stdout), (pattern, shown.stdout)


def resealed(path: Path, to: Path, **metadata: str) -> Path:
    model = onnx.load(path)
    onnx.helper.set_model_props(model, exported_metadata(path) | metadata)
    to.write_bytes(seal(model.SerializeToString()))
    return to


def test_what_is_piped_has_one_line_a_fact_and_no_padding(exported: Path, tmp_path: Path):
    names = tuple(f"a class of a long name, number {number}" for number in range(100))
    spec = replace(Classifier(exported).spec, label_names=names).to_json()
    path = resealed(exported, tmp_path / "m.onnx", **{"gclf.spec": spec})

    lines = run_inspect(path).stdout.splitlines()

    (classes,) = (line for line in lines if line.startswith("classes"))
    assert classes.endswith(", ".join(names))
    assert [line for line in lines if line != line.rstrip()] == []


def test_no_name_in_a_file_commands_the_terminal(exported: Path, tmp_path: Path):
    odd = replace(
        Classifier(exported).spec,
        label_names=("a\x1b[31m", "b\nsize  1 byte", "c"),
        license="\x1b]0;mine\x07",
    )
    record = json.loads(exported_metadata(exported)["gclf.certificate"])
    record["rungs"][0]["verdict"] = "fine\x1b[2J"
    record["warnings"] = ["look\x1bout"]
    path = resealed(
        exported,
        tmp_path / "m.onnx",
        **{"gclf.spec": odd.to_json(), "gclf.certificate": json.dumps(record)},
    )

    shown = run_inspect(path)

    assert re.search(r"classes +a�\[31m, b�size  1 byte, c\n", shown.stdout)
    assert "warning: look�out" in shown.stderr
    assert not [c for c in shown.stdout + shown.stderr if c != "\n" and not c.isprintable()]


def exported_metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


@pytest.mark.parametrize("content", [None, b"a text", b""], ids=["absent", "text", "empty"])
def test_inspect_of_what_is_no_model_is_one_line(tmp_path: Path, content: bytes | None):
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    shown = run_inspect(path)

    assert shown.returncode == 1
    assert shown.stderr.startswith("error: ")
    assert shown.stderr.count("\n") == 1


def test_multiply_adds_are_those_of_convolutions_and_matrices():
    weights = [
        numpy_helper.from_array(np.zeros(shape, np.float32), name)
        for name, shape in (("c", (8, 3, 3, 3)), ("g", (10, 8)), ("m", (10, 5)))
    ]
    nodes = [
        helper.make_node("Conv", ["x", "c"], ["y"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["y"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "g"], ["z"], transB=1),
        helper.make_node("MatMul", ["z", "m"], ["out"]),
    ]
    batch = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 16, 16])
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 5])
    graph = helper.make_graph(nodes, "g", [batch], [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])

    assert count_multiply_adds(model) == 16 * 16 * 8 * 27 + 8 * 10 + 10 * 5
