import json
from typing import Any

import pytest

from gclf_runtime import InputSpec, ModelError, ModelSpec


def a_spec() -> ModelSpec:
    return ModelSpec(
        label_names=("cat", "dog"),
        input=InputSpec(height=48, width=64, fit="crop"),
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
        temperature=1.5,
        metrics={"val_accuracy": 0.9},
        checkpoint_sha256="ab",
        versions={"torch": "2.15.0"},
        license="CC BY 4.0",
        created="2026-11-22T00:00:00+00:00",
    )


def edited(**changes: Any) -> str:
    return json.dumps(json.loads(a_spec().to_json()) | changes)


def test_a_spec_survives_the_way_through_json():
    assert ModelSpec.from_json(a_spec().to_json()) == a_spec()


def test_the_json_uses_the_names_that_timm_uses():
    record = json.loads(a_spec().to_json())

    assert record["input_size"] == [3, 48, 64]
    assert record["label_names"] == ["cat", "dog"]
    assert record["interpolation"] == "bilinear"
    assert record["input_layout"] == "NHWC"


def test_unknown_fields_are_ignored():
    assert ModelSpec.from_json(edited(colour_of_the_cat="black")) == a_spec()


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_schema_says_to_upgrade(version: Any):
    with pytest.raises(ModelError, match="pip install --upgrade gclf-runtime"):
        ModelSpec.from_json(edited(schema_version=version))


@pytest.mark.parametrize("name", json.loads(a_spec().to_json()))
def test_a_missing_field_is_an_error_that_names_it(name: str):
    record = json.loads(a_spec().to_json())
    del record[name]

    with pytest.raises(ModelError, match=name.replace("schema_version", "schema")):
        ModelSpec.from_json(json.dumps(record))


@pytest.mark.parametrize(
    "changes",
    [
        {"label_names": []},
        {"label_names": ["a", "a"]},
        {"label_names": ["a", 1]},
        {"label_names": "ab"},
        {"label_names": {"x": 1}},
        {"mean": "abc"},
        {"temperature": 10**400},
        {"label_names": None},
        {"input_size": [1, 64, 64]},
        {"input_size": [3, 64]},
        {"input_size": [3, 0, 64]},
        {"input_size": [3, 64.0, 64]},
        {"input_size": [3, 64, 10**9]},
        {"input_size": [3, True, 64]},
        {"fit": "squeeze"},
        {"fit": ["crop"]},
        {"interpolation": "sinc"},
        {"jpeg_scale_margin": -1},
        {"mean": [0.1, 0.2]},
        {"mean": [0.1, 0.2, "0.3"]},
        {"std": [0.1, 0.2, 0]},
        {"temperature": 0},
        {"temperature": "1"},
        {"metrics": {"accuracy": "high"}},
        {"metrics": [1]},
        {"versions": {"torch": 2}},
        {"license": 4},
        {"input_layout": "NCHW"},
        {"input_dtype": "float32"},
    ],
    ids=str,
)
def test_a_broken_field_says_to_export_again(changes: dict[str, Any]):
    with pytest.raises(ModelError, match="gclf-export"):
        ModelSpec.from_json(edited(**changes))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "__import__('os')", "[" * 100_000, '{"a": NaN', " " * 5_000_000],
    ids=["empty", "cut", "list", "null", "code", "deep", "nan", "huge"],
)
def test_what_is_no_json_record_is_refused(text: str):
    with pytest.raises(ModelError, match="gclf-export"):
        ModelSpec.from_json(text)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_not_finite_are_refused(value: str):
    text = a_spec().to_json().replace('"temperature": 1.5', f'"temperature": {value}')

    with pytest.raises(ModelError, match="temperature"):
        ModelSpec.from_json(text)


def test_wrong_arguments_are_value_errors():
    with pytest.raises(ValueError, match="height must be an integer from 1 to 4096, got 0"):
        InputSpec(height=0)
    with pytest.raises(ValueError, match="label_names must differ"):
        ModelSpec(label_names=("a", "a"))
