import base64
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from gclf_runtime.cpus import cpu_quota, worker_processes
from gclf_runtime.doctor import examine, find_problems, to_text
from gclf_runtime.golden import GOLDEN_KEY
from gclf_runtime.model_file import seal

SECTIONS = (
    "gclf cpu memory packages pillow onnxruntime cuda cuda_libraries model providers environment "
    "problems"
)
# What a fresh Python is asked: argv[1] is the model.
PROGRAM = """
import json, sys; from pathlib import Path; from gclf_runtime.doctor import examine
print(json.dumps(examine(Path(sys.argv[1]), "cpu")))
"""


def with_golden(model: Path, folder: Path, text: str) -> Path:
    """Copy a model with golden vectors added to its metadata: field 14 of the outermost message."""
    entry = field(1, GOLDEN_KEY.encode()) + field(2, text.encode())
    path = folder / "golden.onnx"
    path.write_bytes(seal(model.read_bytes() + field(14, entry)))
    return path


def field(number: int, content: bytes) -> bytes:
    """Write one field of protobuf."""
    length, rest = b"", len(content)
    while rest > 127:
        length, rest = length + bytes([rest & 127 | 128]), rest >> 7
    return bytes([number << 3 | 2]) + length + bytes([rest]) + content


def red_golden() -> str:
    """Golden vectors of colours.onnx: one red picture."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (51, 0, 0)).save(file, "PNG")
    exponentials = np.exp([2, 0, 0])
    picture = {
        "name": "red.png",
        "image": base64.b64encode(file.getvalue()).decode(),
        "probabilities": list(exponentials / exponentials.sum()),
    }
    return json.dumps({"tolerance": 1e-4, "pictures": [picture]})


def examined_elsewhere(model: Path, **environment: str) -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(model)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    )
    return json.loads(run.stdout)


def install(folder: Path, name: str, version: str) -> None:
    """Make importlib.metadata find a package, without its code."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def record_of(**parts: Any) -> dict[str, Any]:
    """A healthy record, as far as problems are looked for in it."""
    healthy: dict[str, Any] = {
        "cpu": {"used": 2, "quota": None},
        "onnxruntime": {"builds": {"onnxruntime": "1.31.1"}, "listed_providers": []},
        "cuda": {"driver": None},
        "model": {"path": "model.onnx"},
        "providers": {"cpu": {"started": "CPUExecutionProvider", "error": None}},
    }
    return healthy | parts


def leaves(value: object) -> list[object]:
    if isinstance(value, dict):
        return [
            leaf for inner in cast("dict[str, object]", value).values() for leaf in leaves(inner)
        ]
    if isinstance(value, list):
        return [leaf for inner in cast("list[object]", value) for leaf in leaves(inner)]
    return [value]


def test_the_embedded_model_is_well_here():
    record = examine(None, "cpu")

    assert " ".join(record) == SECTIONS
    assert json.loads(json.dumps(record)) == record
    assert record["providers"]["cpu"]["started"] == "CPUExecutionProvider"
    assert record["providers"]["cpu"]["golden"]["passed"] is True
    assert record["providers"]["cpu"]["golden"]["pictures"] == 5
    assert record["model"]["label_names"] == ["female", "male"]
    assert len(record["model"]["sha256"]) == 64
    assert "cuda" not in record["providers"]
    assert record["packages"]["numpy"]


def test_the_text_says_what_the_json_says():
    record = examine(None, "auto")
    text = to_text(record)

    for leaf in leaves(record):
        if isinstance(leaf, str | int) and not isinstance(leaf, bool):
            assert str(leaf) in text
    assert all(section in text.splitlines() for section in record)


def test_the_text_obeys_no_name_that_it_shows():
    record = {
        "model": {"label_names": ["\x1b[31mred", "two\nlines"]},
        "environment": {},
        "problems": ["a\nb"],
    }

    assert to_text(record).splitlines() == [
        "model",
        "  label_names  �[31mred, two�lines",
        "environment",
        "  none",
        "problems",
        "  - a�b",
    ]


def test_changed_weights_fail_by_how_much(colours: Path, tmp_path: Path):
    sound = with_golden(colours, tmp_path, red_golden())
    data = sound.read_bytes()
    weights = (np.eye(3, dtype=np.float32) / 25.5).tobytes()
    changed = tmp_path / "changed.onnx"
    changed.write_bytes(seal(data.replace(weights, bytes(len(weights)))))

    assert examine(sound, "cpu")["problems"] == []
    record = examine(changed, "cpu")
    # Without weights each class has 1/3; with them, red has e^2 / (e^2 + 2).
    off = np.exp(2) / (np.exp(2) + 2) - 1 / 3
    assert record["providers"]["cpu"]["golden"] == {
        "passed": False,
        "pictures": 1,
        "worst": "red.png",
        "max_difference": pytest.approx(off, abs=1e-6),
        "tolerance": 1e-4,
    }
    (problem,) = record["problems"]
    assert f"CPUExecutionProvider answers the golden picture red.png {off:.2g} off" in problem
    assert "0.0001 is allowed. " in problem
    assert problem.endswith("gclf-export RUN/model.pt")


def test_broken_golden_vectors_are_a_problem(colours: Path, tmp_path: Path):
    record = examine(with_golden(colours, tmp_path, "{}"), "cpu")

    assert record["providers"]["cpu"]["golden"]["passed"] is False
    assert "tolerance is missing" in record["problems"][0]


def test_a_spec_changed_after_the_export_is_a_problem(colours: Path, tmp_path: Path):
    golden = json.dumps(json.loads(red_golden()) | {"spec_sha256": "of another spec"})

    record = examine(with_golden(colours, tmp_path, golden), "cpu")

    assert record["providers"]["cpu"]["golden"]["passed"] is False
    assert "were changed after the export proved them" in record["problems"][0]


def test_absent_golden_vectors_are_said_and_not_passed(colours: Path):
    record = examine(colours, "cpu")

    assert record["providers"]["cpu"]["golden"]["passed"] is None
    assert "passed none, reason not checked: the model carries no golden" in to_text(record)


def test_an_absent_model_is_one_problem(tmp_path: Path):
    record = examine(tmp_path / "absent.onnx", "auto")

    assert record["providers"]["cpu"]["started"] is None
    assert len(record["problems"]) == 1
    assert "no model at" in record["problems"][0]


def test_a_file_that_is_no_model_is_one_problem(tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(b"text")

    record = examine(tmp_path / "model.onnx", "auto")

    assert record["problems"] == [record["model"]["error"]]
    assert "gclf-export" in record["problems"][0]


def test_two_builds_of_onnxruntime_are_named_with_the_repair(colours: Path, tmp_path: Path):
    install(tmp_path, "onnxruntime", "1.31.1")
    install(tmp_path, "onnxruntime-gpu", "1.30.0")

    record = examined_elsewhere(colours, PYTHONPATH=str(tmp_path))

    assert record["onnxruntime"]["builds"] == {"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.30.0"}
    assert "2 builds of onnxruntime" in record["problems"][0]
    assert (
        "onnxruntime 1.31.1, onnxruntime-gpu 1.30.0. Keep one: pip uninstall onnxruntime "
        in (record["problems"][0])
    )
    assert "pip install 'gclf-runtime[" in record["problems"][0]


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import os; os._exit(3)", "exit code 3 (no message). Install one build again"),
        ("raise ImportError('libfoo.so.1 is missing')", "libfoo.so.1 is missing"),
        ("", "onnxruntime is broken: both of its builds were installed"),
    ],
    ids=["crash", "missing library", "half removed"],
)
def test_a_broken_onnxruntime_is_a_problem_and_stops_nothing(
    colours: Path, tmp_path: Path, code: str, why: str
):
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").write_text(code)

    record = examined_elsewhere(colours, PYTHONPATH=str(tmp_path))

    assert why in record["providers"]["cpu"]["error"]
    assert any(why in problem for problem in record["problems"])


def test_neither_home_nor_user_nor_host_is_told(tmp_path: Path):
    home = tmp_path / "home" / "ada"
    model = home / "model.onnx"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"")

    record = examined_elsewhere(
        model,
        HOME=str(home),
        LOGNAME="ada",
        LD_LIBRARY_PATH=f"{home}/lib:/data/ada/lib:{home}lovelace",
    )

    assert str(home / "model.onnx") not in json.dumps(record)
    assert record["model"]["path"] == "~/model.onnx"
    assert record["environment"]["LD_LIBRARY_PATH"] == (
        f"~/lib:/data/<user>/lib:{tmp_path}/home/adalovelace"
    )


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
    ],
    ids=["no cgroup", "v2", "v2 unlimited", "v1", "v1 unlimited"],
)
def test_the_quota_of_a_container_is_read(
    tmp_path: Path, files: dict[str, str], cpus: float | None
):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)

    assert cpu_quota(tmp_path) == cpus


@pytest.mark.parametrize(
    ("cpus", "processes"), [(1, 0), (2, 0), (3, 2), (4, 3), (5, 5)], ids=lambda n: str(n)
)
def test_of_few_cpus_this_process_takes_one(cpus: int, processes: int):
    assert worker_processes(cpus) == processes


def test_a_healthy_record_has_no_problem():
    assert find_problems(record_of(), "auto") == []


@pytest.mark.parametrize(
    ("device", "listed", "is_problem"),
    [("auto", [], False), ("auto", ["CUDAExecutionProvider"], True), ("cuda", [], True)],
    ids=["cpu build", "cuda build", "asked for"],
)
def test_a_cuda_that_does_not_start_is_a_problem_where_it_should(
    device: Any, listed: list[str], is_problem: bool
):
    providers = {
        "cpu": {"started": "CPUExecutionProvider", "error": None},
        "cuda": {"started": None, "error": "no NVIDIA driver. Install it"},
    }
    record = record_of(providers=providers, onnxruntime={"builds": {}, "listed_providers": listed})

    assert find_problems(record, device) == ["no NVIDIA driver. Install it"] * is_problem


@pytest.mark.gpu
def test_the_embedded_model_is_well_on_cuda():
    record = examine(None, "cuda")

    assert record["providers"]["cuda"]["started"] == "CUDAExecutionProvider"
    assert record["providers"]["cuda"]["golden"]["passed"] is True
    assert record["cuda_libraries"]["libcuda"]
