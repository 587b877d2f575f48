import ast
import hashlib
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from gclf_export.card import card, read_groups
from gclf_runtime import Classifier, InputSpec, ModelError, ModelSpec
from gclf_trainer.scores import wilson

RUNG: dict[str, Any] = {
    "precision": "fp32",
    "provider": "CPUExecutionProvider",
    "count": 3000,
    "accuracy": 0.9,
    "accuracy_low": 0.8887,
    "accuracy_high": 0.9102,
    "checkpoint_accuracy": 0.9,
    "agreement": 1.0,
    "mean_difference": 1.2e-7,
    "max_difference": 1.1e-6,
    "awkward_count": 40,
    "awkward_agreement": 1.0,
    "awkward_mean_difference": 4e-7,
    "awkward_max_difference": 2e-6,
    "batch_size": 64,
    "milliseconds": 5.61,
    "verdict": "written",
}


@pytest.fixture
def data(colours: Path) -> bytes:
    return colours.read_bytes()


@pytest.fixture
def spec(colours: Path) -> ModelSpec:
    return Classifier(colours).spec


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_the_card_states_what_the_file_is(data: bytes, spec: ModelSpec):
    text = card("colours.onnx", data, replace(spec, license="CC BY 4.0", created="2026-11-22"))

    assert text.startswith("# Model card: colours.onnx\n\nSays which of 3 classes")
    assert "**red**, **green**, **blue**" in text
    for fact in (hashlib.sha256(data).hexdigest(), "CC BY 4.0", "2026-11-22", "opset 1"):
        assert fact in text
    assert "uint8 [batch, 16, 16, 3]" in text
    assert "float32 [batch, 3]" in text
    for language in ("python", "javascript", "csharp", "bash"):
        assert f"```{language}\n" in text
    assert text.count("```") % 2 == 0


def test_accuracy_has_its_count_and_its_interval(data: bytes, spec: ModelSpec):
    metrics = {"val_accuracy": 0.9, "val_count": 2000, "val_ece": 0.012, "val_ece_before": 0.034}
    low, high = wilson(1800, 2000)

    text = card("m.onnx", data, replace(spec, metrics=metrics, temperature=1.25))

    assert f"2,000 validation pictures: **90.00%** (95 % interval {low:.2%} to {high:.2%}" in text
    assert "temperature is 1.25" in text
    assert "0.0120 on validation" in text
    assert "0.0340 without the temperature" in text


def test_what_is_not_known_is_said_to_be_not_known(data: bytes, spec: ModelSpec):
    bare = replace(
        spec, metrics={}, license="", created="", dataset_sha256="", checkpoint_sha256=""
    )

    text = card("m.onnx", data, bare)

    for sentence in (
        "Its accuracy is not known",
        "were not calibrated",
        "There is none: the file was not compared",
        "| licence of the weights | not stated |",
    ):
        assert sentence in text
    assert not re.search(r"\b(None|nan)\b", text.split("## How to use it")[0])
    assert "groups" not in text.split("## How to use it")[0]


@pytest.mark.parametrize("absent", [None, *RUNG], ids=str)
def test_any_figure_of_the_certificate_may_be_missing(
    data: bytes, spec: ModelSpec, absent: str | None
):
    rungs = [{k: v for k, v in RUNG.items() if k != absent}, {"precision": "int8"}]

    section = card("m.onnx", data, spec, {"rungs": rungs}).split("## Certificate")[1]

    header, rule, first, second = section.split("## ")[0].strip().splitlines()[-4:]
    assert len(cells(header)) == len(cells(rule)) == len(cells(first)) == len(cells(second))
    shown = cells(first)
    for key, written in (("max_difference", "1.1e-06"), ("count", "3,000"), ("verdict", "written")):
        assert (written in shown) == (key != absent)
    has_interval = absent not in ("accuracy_low", "accuracy_high")
    assert ("88.87% to 91.02%" in shown) == has_interval


def test_groups_are_a_table_with_intervals(data: bytes, spec: ModelSpec):
    group = {"group": "age: 0-2", "count": 65, "accuracy": 0.646}

    text = card(
        "m.onnx", data, spec, None, [{**group, "accuracy_low": 0.525, "accuracy_high": 0.751}]
    )

    assert "| age: 0-2 | 65 | 64.6% | 52.5% to 75.1% |" in text


def test_names_cannot_break_the_page(data: bytes, spec: ModelSpec):
    odd = replace(spec, label_names=("a|b", "<b>*x*", "li\nne `q`"), license="x | y\n# z")

    text = card("a `b` | c.onnx", data, odd)

    assert "**a\\|b**, **\\<b\\>\\*x\\***, **li ne \\`q\\`**" in text
    assert "| licence of the weights | x \\| y \\# z |" in text
    assert not re.search(r"^# z", text, re.MULTILINE)
    assert text.count("```") % 2 == 0


def test_no_name_in_a_card_commands_a_terminal(data: bytes, spec: ModelSpec):
    odd = replace(spec, label_names=("a\x1b[31m", "b\x9b", "c"), license="\x1b]0;mine\x07")

    text = card("m\x1b\x7f.onnx", data, odd)

    assert "**a�\\[31m**, **b�**" in text
    assert 'Classifier("m\\u001b\\u007f.onnx")' in text
    assert not [c for c in text if c != "\n" and not c.isprintable()]


def test_a_warning_of_the_certificate_stands_on_the_card(data: bytes, spec: ModelSpec):
    text = card("m.onnx", data, spec, {"rungs": [RUNG], "warnings": ["worse than chance: 0.33%"]})

    assert "**Warning: worse than chance: 0.33%**" in text.split("## Certificate")[1]


@pytest.mark.parametrize("is_own_split", [True, False])
def test_groups_of_other_pictures_are_said_to_be_so(
    data: bytes, spec: ModelSpec, is_own_split: bool
):
    groups = [{"group": "age: 0-2", "count": 65, "accuracy": 0.646}]

    text = card("m.onnx", data, spec, None, groups, is_own_split=is_own_split)

    assert ("pictures of its own and not on those above" in text) != is_own_split


@pytest.mark.parametrize(
    ("fit", "said"), [("stretch", "stretched"), ("crop", "its centre"), ("pad", "black bars")]
)
def test_the_card_says_how_a_picture_is_fitted(data: bytes, spec: ModelSpec, fit: Any, said: str):
    fitted = InputSpec(height=20, width=30, fit=fit, interpolation="bicubic", jpeg_scale_margin=0)

    text = card("m.onnx", data, replace(spec, input=fitted))

    assert "Fitted to 30×20 (width × height)" in text
    assert said in text
    assert "bicubic resize, antialiased" in text
    assert "decoded at 1/2" not in text
    assert "Image.Resampling.BICUBIC" in text
    assert "draft" not in text


def test_a_card_is_of_models_only(spec: ModelSpec):
    with pytest.raises(ModelError, match="is not a model that gclf opens"):
        card("no.onnx", b"no model", spec)


def test_the_rows_of_the_file_are_marked_and_what_was_not_timed_has_no_time(
    data: bytes, spec: ModelSpec
):
    untimed = RUNG | {"precision": "int8", "batch_size": 0, "milliseconds": 0.0}

    section = card("m.onnx", data, spec, {"rungs": [RUNG, untimed]}).split("## Certificate")[1]

    header, _, own, other = (line for line in section.splitlines() if line.startswith("|"))
    time = cells(header).index("ms per batch")
    assert cells(own)[0] == "**fp32, this file**"
    assert cells(other)[0] == "int8"
    assert (cells(own)[time], cells(other)[time]) == ("5.61 of 64", "")


def test_what_was_refused_is_listed_with_its_reason(data: bytes, spec: ModelSpec):
    text = card("m.onnx", data, spec, {"rungs": [RUNG], "refused": {"bf16": "no | kernel"}})

    assert "- bf16 was refused: no \\| kernel\n" in text


@pytest.mark.parametrize("is_own_split", [True, False])
def test_the_best_epoch_is_spoken_of_only_for_pictures_that_chose_it(
    data: bytes, spec: ModelSpec, is_own_split: bool
):
    measured = replace(spec, metrics={"val_accuracy": 0.9, "val_count": 20})

    text = card("m.onnx", data, measured, is_own_split=is_own_split)

    assert ("best epoch was chosen" in text) == is_own_split


def test_a_temperature_without_a_measured_error_is_said_to_be_one(data: bytes, spec: ModelSpec):
    text = card("m.onnx", data, replace(spec, metrics={}, temperature=1.3))

    assert "were not calibrated" not in text
    assert "the temperature is 1.3; how near" in text


@pytest.mark.parametrize("name", ["it's $HOME.onnx", "für 😀.onnx", "a`b.onnx", "\udcff.onnx"])
def test_a_name_is_the_same_in_the_shell_and_in_python(data: bytes, spec: ModelSpec, name: str):
    text = card(name, data, spec)
    name = name.encode("utf-8", "replace").decode()
    blocks = dict(re.findall(r"```(bash|python)\n(.*?)```", text, re.DOTALL)[:2])
    words = shlex.split(blocks["bash"])

    assert words[words.index("--model") + 1] == name
    strings = [
        n.value for n in ast.walk(ast.parse(blocks["python"])) if isinstance(n, ast.Constant)
    ]
    assert name in strings


def test_groups_are_those_of_the_run(tmp_path: Path):
    score = {"count": 65, "right": 42, "accuracy": 0.646, "interval": [0.525, 0.751]}
    result = tmp_path / "result.json"
    result.write_text(json.dumps({"groups": {"columns": {"age": {"0-2": score}}}}))

    assert read_groups(result) == [
        {
            "group": "age: 0-2",
            "count": 65,
            "accuracy": 0.646,
            "accuracy_low": 0.525,
            "accuracy_high": 0.751,
        }
    ]
    for other in ("{}", "no JSON", '{"groups": {"columns": {"age": 3}}}', "[]"):
        result.write_text(other)
        assert read_groups(result) == []
    assert read_groups(tmp_path / "absent.json") == []
