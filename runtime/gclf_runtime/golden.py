"""Golden vectors: the pictures and answers a model carries, replayed on this machine.

gclf-export writes them; this module only reads and replays. It does not know where the text comes
from: the file's metadata under `GOLDEN_KEY`.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from gclf_runtime.classifier import Classifier
from gclf_runtime.errors import ImageError, ModelError
from gclf_runtime.spec import SPEC_KEY

GOLDEN_KEY = "gclf.golden"
_MAX_JSON_CHARS = 16_000_000  # ten pictures with 10,000 probabilities each need a fifteenth
_MAX_PICTURES = 64
_MAX_PICTURE_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class GoldenPicture:
    """One picture, still encoded, and its expected probabilities, 0-1 in the model's order."""

    name: str
    image: bytes
    probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Golden:
    """At least one picture, all named differently, and how far an answer may be off, above 0.

    `spec_sha256` is of the spec's JSON as it was exported; "" in files of an older export.
    """

    tolerance: float
    pictures: tuple[GoldenPicture, ...]
    spec_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Replay:
    """What this machine answered: the largest difference of a probability, by picture's name."""

    tolerance: float
    differences: Mapping[str, float]

    @property
    def passed(self) -> bool:
        """Whether every answer is within the tolerance."""
        # Written so that a difference that is not a number fails too, and nothing is no proof.
        within = [difference <= self.tolerance for difference in self.differences.values()]
        return bool(within) and all(within)

    @property
    def worst(self) -> tuple[str, float]:
        """The picture that is furthest off, and by how much, 0-1."""
        names, values = list(self.differences), list(self.differences.values())
        at = int(np.argmax(values))  # the first that is not a number, where there is one
        return names[at], values[at]


def read_golden(text: str) -> Golden:
    """Read and validate the golden vectors.

    Args:
        text: The JSON that gclf-export wrote. Fields this version does not know are ignored.

    Raises:
        ModelError: The text is not JSON, too large, or breaks the contract.
    """
    if len(text) > _MAX_JSON_CHARS:
        raise _broken(f"{len(text)} characters, the limit is {_MAX_JSON_CHARS}")
    try:
        record: object = json.loads(text)
        if not isinstance(record, dict):
            raise TypeError(f"a JSON object is needed, got {type(record).__name__}")
        return _golden(cast(dict[str, Any], record))
    except KeyError as error:
        raise _broken(f"{error.args[0]} is missing") from error
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _broken(str(error)[:300]) from error


def replay(classifier: Classifier, golden: Golden) -> Replay:
    """Answer the golden pictures on this machine and compare.

    Raises:
        ImageError: This build of Pillow cannot decode a picture; it is named.
        ModelError: The graph fails, has another number of classes than the vectors, or its
            spec is another one than at its export.
    """
    stated = classifier.metadata.get(SPEC_KEY, "")
    if golden.spec_sha256 and golden.spec_sha256 != sha256_of(stated):
        raise ModelError(
            f"the model's promises ({SPEC_KEY}) were changed after the export proved them. "
            "Export it again: gclf-export RUN/model.pt"
        )
    differences: dict[str, float] = {}
    for picture in golden.pictures:
        try:
            (prediction,) = classifier.predict_images([picture.image])
        except ImageError as error:
            name = f"golden picture {picture.name}"
            raise ImageError(error.kind, error.reason, name=name) from error
        expected_k = np.array(picture.probabilities)
        if expected_k.shape != prediction.probabilities_k.shape:
            raise _broken(
                f"{picture.name} has {len(expected_k)} probabilities, "
                f"the model {len(prediction.probabilities_k)} classes"
            )
        differences[picture.name] = float(np.abs(prediction.probabilities_k - expected_k).max())
    return Replay(golden.tolerance, differences)


def sha256_of(spec_json: str) -> str:
    """Compute what `Golden.spec_sha256` holds."""
    return hashlib.sha256(spec_json.encode()).hexdigest()


def _golden(record: Mapping[str, Any]) -> Golden:
    tolerance, listed = record["tolerance"], record["pictures"]
    if not _is_fraction(tolerance) or not tolerance:
        raise ValueError(f"tolerance must be a number above 0, at most 1, got {tolerance!r}")
    if not isinstance(listed, list) or not 1 <= len(cast(list[Any], listed)) <= _MAX_PICTURES:
        raise ValueError(f"pictures must be a list of 1 to {_MAX_PICTURES}")
    pictures = tuple(_picture(picture) for picture in cast(list[Any], listed))
    if len({picture.name for picture in pictures}) != len(pictures):
        raise ValueError("the names of the pictures must differ from each other")
    spec_sha256 = record.get("spec_sha256", "")
    if type(spec_sha256) is not str:
        raise ValueError(f"spec_sha256 must be a string, got {spec_sha256!r}")
    return Golden(float(tolerance), pictures, spec_sha256)


def _picture(record: object) -> GoldenPicture:
    if not isinstance(record, dict):
        raise TypeError(f"a picture must be a JSON object, got {type(record).__name__}")
    fields = cast(dict[str, Any], record)
    name, encoded, probabilities = fields["name"], fields["image"], fields["probabilities"]
    if type(name) is not str or not name:
        raise ValueError(f"the name of a picture must be a non-empty string, got {name!r}")
    if type(encoded) is not str or not 1 <= len(encoded) <= _MAX_PICTURE_BYTES * 4 // 3:
        raise ValueError(f"{name}'s image must be 1 to {_MAX_PICTURE_BYTES} bytes in base64")
    numbers = cast(list[object], probabilities) if isinstance(probabilities, list) else []
    if not numbers or not all(_is_fraction(number) for number in numbers):
        raise ValueError(f"{name}'s probabilities must be a list of numbers from 0 to 1")
    try:
        image = base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise ValueError(f"{name}'s image is not base64 ({error})") from error
    return GoldenPicture(name, image, tuple(cast(list[float], numbers)))


def _is_fraction(value: object) -> bool:
    # A softmax in float32 may round to a hair above 1; NaN is outside every range.
    return type(value) in (int, float) and 0 <= cast(float, value) <= 1 + 1e-6


def _broken(reason: str) -> ModelError:
    return ModelError(
        f"the model's {GOLDEN_KEY} breaks the contract: {reason}. "
        "Export it again: gclf-export RUN/model.pt"
    )
