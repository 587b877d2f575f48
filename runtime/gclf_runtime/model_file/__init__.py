"""Check the bytes of a model file before onnxruntime sees them, and that nobody changed them.

A file of kilobytes can hang onnxruntime for ever, or make it read other files. So all of a file
must be known here, and harmless: an unknown field is refused, not skipped.
"""

import contextlib
import hashlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass

from gclf_runtime.errors import ModelError
from gclf_runtime.model_file.graph import DOMAINS, check_graph
from gclf_runtime.model_file.protobuf import (
    NOTHING,
    FormatError,
    Message,
    Walk,
    decode,
    first,
    schema,
)
from gclf_runtime.spec import SPEC_KEY

DIGEST_KEY = "gclf.digest"

# onnxruntime 1.31 reads IR up to 13 and opset up to 26, 1.20 up to 10 and 21; both from opset 7.
_IR_VERSIONS = range(3, 14)
_OPSETS = range(7, 27)
# The outermost messages of onnx.proto, as far as they are allowed.
_MODEL = schema(
    "1:ir_version:int 2:producer_name:bytes 3:producer_version:bytes 4:domain:bytes"
    " 5:model_version:int 6:doc_string:bytes 7:graph:bytes 8:opsets:bytes+ 14:metadata:bytes+"
    " 20:training_steps:no 25:functions:no"
)
_METADATA = 14
_OPSET = schema("1:domain:text 2:version:int")
_ENTRY = schema("1:key:bytes 2:value:bytes")


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """What a checked file says of itself.

    Attributes:
        metadata: Its texts by key, `gclf.spec` among them.
        ir_version: Version of the format.
        opset: Version of the operators.
        operators: How often each operator occurs, the most frequent first.
        parameters: Numbers stored in its graph: weights, and scales where it is quantised.
        digest: The sha256 that it records of itself, and has; None where it records none.
    """

    metadata: Mapping[str, str]
    ir_version: int
    opset: int
    operators: Mapping[str, int]
    parameters: int
    digest: str | None


def read_model(data: bytes, name: str) -> ModelFile:
    """Check a model file and say what is in it.

    Args:
        data: The whole file.
        name: What to call it in an error.

    Raises:
        ModelError: It is no model, was changed after its export, or holds what no classifier needs.
    """
    with _refusals(name):
        walk = Walk()
        model = walk.read(memoryview(data), _MODEL, "the model")
        ir_version, opset = _versions(walk, model)
        metadata = _metadata(walk, model)
        operators, parameters = check_graph(walk, first(model, "graph", NOTHING))
    recorded = metadata.get(DIGEST_KEY)
    if recorded is not None or SPEC_KEY in metadata:
        _check_digest(data, name, recorded)
    return ModelFile(
        metadata=metadata,
        ir_version=ir_version,
        opset=opset,
        operators=dict(operators.most_common()),
        parameters=parameters,
        digest=recorded,
    )


def digest(data: bytes, name: str = "the model") -> str:
    """Compute the sha256 of a model file without its own `gclf.digest` entry.

    That entry is one field of the outermost message, number 14 (`metadata_props`). Its tag, length
    and content are left out; all other bytes count, in their order. Of a file that `seal` has
    written it is the sha256 of what was there before.

    Args:
        data: The whole file, sealed or not.
        name: What to call it in an error.

    Raises:
        ModelError: It is no protobuf message.
    """
    sha256 = hashlib.sha256()
    for part in _without_digest(data, name):
        sha256.update(part)
    return sha256.hexdigest()


def seal(data: bytes, name: str = "the model") -> bytes:
    """Append the `gclf.digest` entry to a model file, in place of an older one.

    Raises:
        ModelError: It is no protobuf message.
    """
    key, value = DIGEST_KEY.encode(), digest(data, name).encode()
    entry = bytes([0x0A, len(key), *key, 0x12, len(value), *value])
    return b"".join([*_without_digest(data, name), bytes([0x72, len(entry)]), entry])


def _without_digest(data: bytes, name: str) -> list[memoryview]:
    """Cut the digest's entry out of a file."""
    parts: list[memoryview] = []
    view, start = memoryview(data), 0
    with _refusals(name):
        walk = Walk()
        for number, _, value, begin, end in walk.fields(view, "the model"):
            if number == _METADATA:
                entry = walk.read(value, _ENTRY, "the metadata")
                if entry["key"] == [DIGEST_KEY.encode()]:
                    parts.append(view[start:begin])
                    start = end
    return [*parts, view[start:]]


def _check_digest(data: bytes, name: str, recorded: str | None) -> None:
    if recorded is None:
        raise ModelError(
            f"{name} carries no digest of itself: an older gclf exported it, or another program "
            "has written it since. Export it again: gclf-export RUN/model.pt"
        )
    found = digest(data, name)
    if recorded != found:
        raise ModelError(
            f"{name} was changed after it was exported: its digest is {recorded[:64]!r}, its bytes "
            f"give {found}. Copy it again, or export it again: gclf-export RUN/model.pt"
        )


@contextlib.contextmanager
def _refusals(name: str) -> Generator[None]:
    try:
        yield
    except FormatError as error:
        raise ModelError(
            f"{name} is not a model that gclf opens: {error}. "
            "Copy it again, or export it again: gclf-export RUN/model.pt"
        ) from error


def _versions(walk: Walk, model: Message) -> tuple[int, int]:
    """Return the versions of the format and of the only operators it may ask for."""
    ir_version = first(model, "ir_version", 0)
    if ir_version not in _IR_VERSIONS:
        raise FormatError(f"its IR version is {ir_version}, known are 3 to {_IR_VERSIONS[-1]}")
    opsets: list[int] = []
    for part in model["opsets"]:
        opset = walk.read(part, _OPSET, "an opset")
        domain = first(opset, "domain", "")
        if domain not in DOMAINS:
            raise FormatError(f"it asks for the operators of {domain!r}")
        opsets.append(first(opset, "version", 0))
    if len(opsets) != 1 or opsets[0] not in _OPSETS:
        raise FormatError(f"its opset is {opsets[:3]}, known are 7 to {_OPSETS[-1]}")
    return ir_version, opsets[0]


def _metadata(walk: Walk, model: Message) -> dict[str, str]:
    what = "the metadata"
    metadata: dict[str, str] = {}
    for part in model["metadata"]:
        entry = walk.read(part, _ENTRY, what)
        key = decode(first(entry, "key", NOTHING), what)
        if key in metadata:
            raise FormatError(f"{what} has {key[:99]!r} twice")
        metadata[key] = decode(first(entry, "value", NOTHING), what)
    return metadata
