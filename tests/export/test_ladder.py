from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")

from gclf_export import ExportError
from gclf_export.calibrate import find_ranges
from gclf_export.certificate import Rung
from gclf_export.int8 import best_int8
from gclf_export.ladder import Step, decide, pick, pictures_needed, time_in_turns
from gclf_export.listing import load_all, read_listing
from gclf_export.quantize import quantised_tensors, to_int8
from gclf_runtime import Classifier

FIGURES = dict.fromkeys(Rung.__dataclass_fields__, 0.0)
RUNG = Rung(
    **(FIGURES | {"precision": "int8", "provider": "CPUExecutionProvider", "verdict": ""})  # pyright: ignore[reportArgumentType]
)


def step(speedup: float, precision: str = "int8", provider: str = "CPU") -> Step:
    rung = replace(RUNG, speedup=speedup, provider=f"{provider}ExecutionProvider")
    return Step(precision, (replace(rung, precision=precision),))  # pyright: ignore[reportArgumentType]


def test_a_rung_must_be_faster_where_it_is_meant_to_run():
    assert decide(step(1.8), ["cpu"]).refusal == ""
    assert "it is not faster than fp32: 1.04 on CPU" in decide(step(1.04), ["cpu"]).refusal
    assert "not faster" in decide(step(float("nan")), ["cpu"]).refusal
    assert decide(step(2.0, "fp16", "CUDA"), ["cpu", "cuda"]).refusal == ""


def test_auto_picks_the_fastest_admitted_for_each_device():
    fp32, int8 = step(1.0, "fp32"), step(2.0)
    both = Step("fp32", (*fp32.rungs, *step(1.0, "fp32", "CUDA").rungs))
    fp16 = step(1.5, "fp16", "CUDA")

    assert pick([fp32, int8], ["cpu"]) == {"cpu": "int8"}
    assert pick([fp32, replace(int8, refusal="slow")], ["cpu"]) == {"cpu": "fp32"}
    assert pick([both, int8, fp16], ["cpu", "cuda"]) == {"cpu": "int8", "cuda": "fp16"}


@pytest.mark.parametrize(
    ("max_drop", "count"), [(0.005, 200), (0.1, 10), (0.3, 4), (1, 1), (0, 200), (1e-6, 10**6)]
)
def test_one_picture_is_never_above_the_limit_already(max_drop: float, count: int):
    assert pictures_needed(max_drop) == count
    assert not max_drop or 1 / count <= max_drop


def test_files_are_timed_in_turns(exported: Path):
    milliseconds = time_in_turns([exported, exported], "cpu")

    assert len(milliseconds) == 2
    assert all(value > 0 for value in milliseconds)


def test_ranges_hold_the_values_and_clip_the_rare_ones(run: Path, exported: Path):
    model, spec = onnx.load(exported), Classifier(exported).spec
    files = read_listing(run / "calibration.csv", spec.label_names, remedy="")
    names = quantised_tensors(model)
    ranges = find_ranges(model, names, load_all(files.paths, spec.input))

    assert set(ranges) == {"minmax", "entropy", "percentile"}
    for name in names:
        low, high = ranges["minmax"][name]
        for method in ("entropy", "percentile"):
            inner_low, inner_high = ranges[method][name]
            assert low <= inner_low <= inner_high <= high
    assert ranges["percentile"] != ranges["minmax"]


def test_a_mean_that_no_level_is_can_be_quantised(exported: Path):
    model, spec = onnx.load(exported), Classifier(exported).spec
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    ranges = find_ranges(model, quantised_tensors(model), pixels)["minmax"]

    made = to_int8(model, replace(spec, mean=(1.2, 1.2, 1.2)), ranges)

    assert "Sub" in {node.op_type for node in made.graph.node}


def test_one_training_picture_is_too_few_for_int8(exported: Path):
    pixels = np.zeros((1, 32, 32, 3), np.uint8)

    with pytest.raises(ExportError, match=r"got 1\. Give at least 2"):
        best_int8(
            onnx.load(exported), Classifier(exported).spec, pixels, np.zeros(1, int), max_drop=1
        )


def test_the_best_int8_is_the_nearest_on_pictures_that_calibrated_nothing(
    run: Path, exported: Path
):
    model, spec = onnx.load(exported), Classifier(exported).spec
    files = read_listing(run / "calibration.csv", spec.label_names, remedy="")
    pixels, labels = load_all(files.paths, spec.input), np.asarray(files.labels)
    before = model.SerializeToString()

    best = best_int8(model, spec, pixels, labels, max_drop=0.2)
    strict = best_int8(model, spec, pixels, labels, max_drop=-1)

    assert best.kept == "last"
    assert best.method in ("minmax", "percentile")
    assert 0 < best.mean_difference < 0.05
    assert strict.mean_difference <= best.mean_difference
    assert model.SerializeToString() == before
