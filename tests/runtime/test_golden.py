import base64
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gclf_runtime import Classifier, ImageError, InputSpec, ModelError
from gclf_runtime.golden import Replay, read_golden, replay, sha256_of
from gclf_runtime.model_file import seal
from gclf_runtime.spec import SPEC_KEY

RED, BLUE = (200, 20, 10), (5, 60, 250)


def encoded(color: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), color).save(file, "PNG")
    return file.getvalue()


def softmax(color: tuple[int, int, int]) -> list[float]:
    """What colours.onnx answers."""
    exponentials = np.exp(np.array(color) / 25.5)
    return [float(p) for p in exponentials / exponentials.sum()]


def picture(name: str, color: tuple[int, int, int]) -> dict[str, Any]:
    image = base64.b64encode(encoded(color)).decode("ascii")
    return {"name": name, "image": image, "probabilities": softmax(color)}


def vectors(**changes: Any) -> str:
    pictures = [picture("red.png", RED), picture("blue.png", BLUE)]
    return json.dumps({"tolerance": 1e-4, "pictures": pictures} | changes)


def with_picture(**changes: Any) -> str:
    return vectors(pictures=[picture("red.png", RED) | changes])


def test_golden_vectors_are_read():
    golden = read_golden(vectors(comment="a field of a later version"))

    assert golden.tolerance == 1e-4
    assert [p.name for p in golden.pictures] == ["red.png", "blue.png"]
    assert golden.pictures[0].image == encoded(RED)
    assert golden.pictures[0].probabilities == tuple(softmax(RED))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value"),
        ("[" * 100_000, "recursion|Expecting value"),
        ("[]", "a JSON object is needed, got list"),
        (" " * 16_000_001, "16000001 characters"),
        ("{}", "tolerance is missing"),
        (vectors(tolerance=0), "tolerance must be a number above 0"),
        (vectors(tolerance=True), "tolerance must be"),
        (vectors(tolerance=float("nan")), "tolerance must be"),
        (vectors(tolerance=2), "tolerance must be"),
        (vectors(spec_sha256=7), "spec_sha256 must be a string"),
        (vectors(pictures=[]), "a list of 1 to 64"),
        (vectors(pictures={"a": 1}), "a list of 1 to 64"),
        (vectors(pictures=[picture("a.png", RED)] * 65), "a list of 1 to 64"),
        (vectors(pictures=[picture("a.png", RED)] * 2), "must differ"),
        (vectors(pictures=["a.png"]), "a picture must be a JSON object, got str"),
        (vectors(pictures=[{"name": "a.png"}]), "image is missing"),
        (with_picture(name=""), "non-empty string"),
        (with_picture(name=7), "non-empty string"),
        (with_picture(image="*"), "red.png's image is not base64"),
        (with_picture(image=""), "1 to 1000000 bytes"),
        (with_picture(image="A" * 1_400_000), "1 to 1000000 bytes"),
        (with_picture(probabilities=[]), "numbers from 0 to 1"),
        (with_picture(probabilities="1"), "numbers from 0 to 1"),
        (with_picture(probabilities=[0.5, float("inf")]), "numbers from 0 to 1"),
        (with_picture(probabilities=[0.5, "0.5"]), "numbers from 0 to 1"),
        (with_picture(probabilities=[-0.1, 1]), "numbers from 0 to 1"),
        (with_picture(probabilities=[10**400]), "numbers from 0 to 1"),
    ],
)
def test_broken_vectors_say_what_is_wrong_and_what_to_do(text: str, why: str):
    with pytest.raises(ModelError, match=rf"(?s)gclf\.golden .*({why}).* gclf-export RUN/model"):
        read_golden(text)


@pytest.mark.parametrize(
    "change",
    [
        {"label_names": ("blue", "green", "red")},
        {"mean": (0.4, 0.5, 0.5)},
        {"input": InputSpec(height=16, width=16, jpeg_scale_margin=0)},
    ],
    ids=["classes", "mean", "margin"],
)
def test_a_spec_changed_after_the_export_fails(
    colours: Path, tmp_path: Path, change: dict[str, Any]
):
    sound = Classifier(colours)
    golden = read_golden(vectors(spec_sha256=sha256_of(sound.metadata[SPEC_KEY])))
    stated = sound.metadata[SPEC_KEY].encode()
    changed = replace(sound.spec, **change).to_json().encode()
    # As long as it was, so that the file needs no protobuf written anew.
    padded = changed.rstrip(b"}") + b" " * (len(stated) - len(changed)) + b"}"
    assert len(padded) == len(stated)
    other = tmp_path / "m.onnx"
    other.write_bytes(seal(colours.read_bytes().replace(stated, padded)))

    assert replay(sound, golden).passed
    with pytest.raises(ModelError, match=r"promises .* were changed after .* gclf-export RUN"):
        replay(Classifier(other), golden)


def test_a_sound_machine_passes(colours: Path):
    outcome = replay(Classifier(colours), read_golden(vectors()))

    assert outcome.passed
    assert set(outcome.differences) == {"red.png", "blue.png"}
    assert 0 <= outcome.worst[1] < 1e-6


def test_another_answer_fails_by_how_much(colours: Path):
    altered = picture("blue.png", BLUE)
    altered["probabilities"][0] += 0.25
    text = vectors(pictures=[picture("red.png", RED), altered])

    outcome = replay(Classifier(colours), read_golden(text))

    assert not outcome.passed
    assert outcome.worst == ("blue.png", pytest.approx(0.25, abs=1e-6))
    assert outcome.differences["red.png"] < 1e-6


@pytest.mark.parametrize(
    ("difference", "is_passed"), [(0.1, True), (0.11, False), (float("nan"), False)]
)
def test_it_passes_up_to_the_tolerance(difference: float, is_passed: bool):
    outcome = Replay(0.1, {"a": 0.0, "b": difference, "c": 0.05})

    assert outcome.passed is is_passed
    assert outcome.worst[0] == "b"


def test_nothing_replayed_is_not_passed():
    assert not Replay(0.1, {}).passed


def test_another_number_of_classes_is_the_models_fault(colours: Path):
    golden = read_golden(with_picture(probabilities=[0.5, 0.5]))

    with pytest.raises(ModelError, match=r"red\.png has 2 probabilities, the model 3 classes"):
        replay(Classifier(colours), golden)


def test_a_picture_that_cannot_be_decoded_is_named(colours: Path):
    golden = read_golden(with_picture(image=base64.b64encode(b"no picture").decode()))

    with pytest.raises(ImageError, match=r"golden picture red\.png: not an image"):
        replay(Classifier(colours), golden)
