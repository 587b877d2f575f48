import hashlib
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from gclf_runtime import Classifier, ModelError
from gclf_runtime.model_file import digest, read_model, seal

FLOAT, STRING = 1, 8


def varint(number: int) -> bytes:
    number %= 2**64
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def field(number: int, value: int | str | bytes) -> bytes:
    """Write one field as protobuf does: an integer, or a text, or a message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(*extra: bytes, dims: tuple[int, ...] = (2,), raw: bytes = bytes(8)) -> bytes:
    shape = b"".join(field(1, dim) for dim in dims)
    return shape + field(2, FLOAT) + field(8, "w") + field(9, raw) + b"".join(extra)


def node(operator: str, takes: str, gives: str, *extra: bytes) -> bytes:
    return field(1, takes) + field(2, gives) + field(4, operator) + b"".join(extra)


def value(name: str, kind: int = FLOAT, side: int = 2) -> bytes:
    shape = field(1, field(1, side))
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, shape)))


def graph(
    *extra: bytes,
    nodes: tuple[bytes, ...] = (node("Relu", "x", "y"),),
    tensors: tuple[bytes, ...] = (tensor(),),
    inputs: tuple[bytes, ...] = (value("x"),),
    outputs: tuple[bytes, ...] = (value("y"),),
) -> bytes:
    parts = [field(1, each) for each in nodes] + [field(5, each) for each in tensors]
    parts += [field(11, each) for each in inputs] + [field(12, each) for each in outputs]
    return field(2, "g") + b"".join(parts) + b"".join(extra)


def opset(version: int = 17, domain: str = "") -> bytes:
    return field(8, field(1, domain) + field(2, version))


def model(
    *extra: bytes, graph: bytes = graph(), ir_version: int = 8, opsets: bytes = opset()
) -> bytes:
    return field(1, ir_version) + field(7, graph) + opsets + b"".join(extra)


def entry(key: str, text: str | bytes) -> bytes:
    return field(14, field(1, key) + field(2, text))


def attribute(name: str, *content: bytes) -> bytes:
    return field(5, field(1, name) + b"".join(content))


def with_node(*extra: bytes, operator: str = "Relu") -> bytes:
    return model(graph=graph(nodes=(node(operator, "x", "y", *extra),)))


def with_tensor(*extra: bytes, dims: tuple[int, ...] = (2,), raw: bytes = bytes(8)) -> bytes:
    return model(graph=graph(tensors=(tensor(*extra, dims=dims, raw=raw),)))


def doubling(start: str, times: int) -> tuple[bytes, ...]:
    """Concatenate a tensor with itself, and that with itself; the last is y."""
    names = [start, *(f"{start}_{step}" for step in range(1, times)), "y"]
    return tuple(node("Concat", takes, gives, field(1, takes)) for takes, gives in pairwise(names))


SMALL = field(1, 3) + field(8, "w")  # three numbers of no type yet
HONEST = {
    "operators by their full domain": model(opsets=opset(domain="ai.onnx")),
    "a float attribute": with_node(attribute("alpha", b"\x15\0\0\0\0"), operator="LeakyRelu"),
    "single integers": with_node(attribute("kernel_shape", field(8, 3), field(8, 3))),
    "packed integers": with_node(attribute("pads", field(8, bytes([1, 1, 1, 1])))),
    "a constant": with_node(attribute("value", field(5, tensor())), operator="Relu"),
    "weights in this file": with_tensor(field(14, 0)),
    "a scalar": with_tensor(dims=(), raw=bytes(4)),
    "an empty tensor": with_tensor(dims=(3, 0), raw=b""),
    "int64 in varints": model(
        graph=graph(tensors=(SMALL + field(2, 7) + field(7, b"\x01\xff\x01\x01"),))
    ),
    "int8 in varints": model(
        graph=graph(tensors=(SMALL + field(2, 3) + field(5, 1) + field(5, 2) + field(5, -1),))
    ),
    "floats": model(graph=graph(tensors=(SMALL + field(2, FLOAT) + field(4, bytes(12)),))),
    "pictures that double": model(graph=graph(nodes=doubling("x", 30))),
    "a shape of constants": model(
        graph=graph(nodes=(node("Shape", "x", "s"), *doubling("s", 5)), outputs=(value("y"),))
    ),
    "what is between": model(graph=graph(field(13, value("z")))),
}
HOSTILE = {
    "no graph": (field(1, 8) + opset(), "outputs are"),
    "no opset": (model(opsets=b""), r"opset is \[\]"),
    "two opsets": (model(opset()), r"opset is \[17, 17\]"),
    "an opset of the future": (model(opsets=opset(99)), r"opset is \[99\], known are 7 to"),
    "a negative opset": (model(opsets=opset(-1)), r"opset is \[-1\]"),
    "an IR version of the future": (model(ir_version=99), "IR version is 99"),
    "two graphs": (model(field(7, graph())), "has its graph twice"),
    "a foreign domain": (model(opset(1, "com.microsoft")), "operators of 'com.microsoft'"),
    "a node of a foreign domain": (with_node(field(7, "evil")), r"'evil\.Relu' is none that"),
    "functions": (model(field(25, b"")), "the model has functions"),
    "training steps": (model(field(20, b"")), "the model has training steps"),
    "an unknown field": (model(field(99, b"")), "unknown field 99"),
    "garbage behind it": (model(b"\0\0\0"), "unknown field 0"),
    "a loop": (with_node(operator="Loop"), "'Loop' is none that image classifiers need"),
    "a constant of any shape": (with_node(operator="ConstantOfShape"), "is none that"),
    "a subgraph": (with_node(attribute("body", field(6, graph()))), "a Relu has a subgraph"),
    "subgraphs": (with_node(attribute("body", field(11, graph()))), "has subgraphs"),
    "a sparse attribute": (with_node(attribute("value", field(22, b""))), "a sparse tensor"),
    "a type attribute": (with_node(attribute("value", field(14, b""))), "unknown field 14"),
    "padding without end": (with_node(attribute("pads", field(8, 2**40))), "pads by 1099511627776"),
    "sparse weights": (model(graph=graph(field(15, b""))), "the graph has sparse tensors"),
    "weights elsewhere": (with_tensor(field(14, 1)), "'w' has weights in another file"),
    "a path of weights": (with_tensor(field(13, b"")), "has weights in another file"),
    "a constant elsewhere": (
        with_node(attribute("value", field(5, tensor(field(14, 1)))), operator="Constant"),
        "has weights in another file",
    ),
    "texts as weights": (with_tensor(dims=(1,), raw=b"").replace(b"\x10\1", b"\x10\x08"), "type 8"),
    "a negative side": (with_tensor(dims=(-2, -1)), r"has the shape \[-2, -1\]"),
    "a side without end": (with_tensor(dims=(2**62, 2**62)), "has the shape"),
    "too many sides": (with_tensor(dims=(1,) * 9), "has the shape"),
    "too few weights": (with_tensor(raw=bytes(4)), r"shape \[2\], but holds 1 numbers"),
    "half a weight": (with_tensor(raw=bytes(7)), r"but holds 1\.75 numbers"),
    "weights twice": (with_tensor(field(4, bytes(8))), "but holds 2 numbers"),
    "weights of another type": (
        model(graph=graph(tensors=(SMALL + field(2, FLOAT) + field(7, bytes(3)),))),
        r"shape \[3\], but holds 0 numbers",
    ),
    "half a float": (
        model(graph=graph(tensors=(SMALL + field(2, FLOAT) + field(4, bytes(11)),))),
        "11 bytes of float numbers",
    ),
    "an input of texts": (model(graph=graph(inputs=(value("x", STRING),))), "is no tensor of num"),
    "an input of sequences": (
        model(graph=graph(inputs=(field(1, "x") + field(2, field(4, b"")),))),
        "'x' has a sequence",
    ),
    "an input of no type": (model(graph=graph(inputs=(field(1, "x"),))), "is no tensor of numbers"),
    "an input of negative size": (
        model(graph=graph(inputs=(value("x", side=-1),))),
        r"'x' has the shape \[-1\]",
    ),
    "a cycle": (
        model(graph=graph(nodes=(node("Add", "x", "y", field(1, "z")), node("Relu", "y", "z")))),
        "a Add takes 'z', which nothing before it gives",
    ),
    "a name given twice": (
        model(graph=graph(nodes=(node("Relu", "x", "y"), node("Relu", "x", "y")))),
        "gives 'y', which is there already",
    ),
    "an output named as an input": (
        model(graph=graph(nodes=(node("Relu", "x", "x"),))),
        "gives 'x', which is there already",
    ),
    "two tensors of one name": (
        model(graph=graph(tensors=(tensor(), tensor()))),
        "2 of its tensors have the name 'w'",
    ),
    "an output that nothing gives": (model(graph=graph(outputs=(value("q"),))), "outputs are"),
    "no output": (model(graph=graph(outputs=())), "outputs are"),
    "a NUL in a name": (model(graph=graph(field(10, "")).replace(b"g", b"\0", 1)), "is no name"),
    "a name without end": (with_node(field(3, "n" * 5000)), "5000 bytes that is no name"),
    "a name that is not UTF-8": (with_node(field(3, b"\xff")), "not UTF-8"),
    "metadata that is not UTF-8": (model(entry("author", b"\xff")), "not UTF-8"),
    "metadata twice": (model(entry("author", "a") + entry("author", "b")), "'author' twice"),
    "a length past the end": (model(b"\x72\x7f"), "cut or damaged"),
    "a length past 64 bits": (model(b"\x72" + b"\xff" * 9 + b"\1"), "cut or damaged"),
    "a number that never ends": (model(b"\x28" + b"\x80" * 20), "cut or damaged"),
    "a group": (model(b"\x73\x74"), "cut or damaged"),
    "an integer as a text": (model(field(2, 1)), "producer_name of wire type 0"),
    "constants that double": (
        model(graph=graph(nodes=doubling("w", 30))),
        "makes .* numbers before it has seen a picture",
    ),
    "constants listed and doubled": (
        model(
            graph=graph(
                nodes=(
                    field(2, "c0") + field(4, "Constant") + attribute("v", field(7, bytes(400))),
                    *doubling("c0", 25),
                )
            )
        ),
        "makes .* numbers before it has seen a picture",
    ),
    "constants padded": (
        model(graph=graph(nodes=(node("Conv", "w", "y", field(1, "w")),))),
        "makes .* numbers before it has seen a picture",
    ),
    "constants multiplied": (
        model(
            graph=graph(
                nodes=(node("Mul", "w", "y", field(1, "w")),),
                tensors=(tensor(dims=(50_000,), raw=bytes(200_000)),),
            )
        ),
        "makes .* numbers before it has seen a picture",
    ),
    "constants multiplied for ever": (
        with_node(field(1, "w") * 150_000, operator="Max").replace(b"\x0a\x01x", b"\x0a\x01w", 1),
        "makes .* numbers before it has seen a picture",
    ),
    "too many nodes": (
        model(graph=graph(nodes=(node("Relu", "x", "y"),) * 10_001)),
        "it has 10001 nodes, the limit is 10000",
    ),
    "too many weights": (model(graph=graph(tensors=(b"",) * 20_001)), "it has 20001 tensors"),
    "too many attributes": (with_node(attribute("") * 150_000), "more parts than an image"),
    "too many integers": (
        with_node(attribute("kernel_shape", field(8, bytes(500_000)))),
        "more parts than an image",
    ),
}


def test_an_honest_model_says_what_is_in_it():
    nodes = (node("Relu", "x", "a"), node("Relu", "a", "b"), node("Mul", "b", "y", field(1, "w")))
    data = model(entry("author", "Zoë"), graph=graph(nodes=nodes))

    found = read_model(data, "m.onnx")

    assert found.metadata == {"author": "Zoë"}
    assert (found.ir_version, found.opset, found.parameters) == (8, 17, 2)
    assert list(found.operators.items()) == [("Relu", 2), ("Mul", 1)]
    assert found.digest is None


@pytest.mark.parametrize("data", HONEST.values(), ids=HONEST)
def test_every_spelling_of_an_honest_model_is_read(data: bytes):
    assert read_model(data, "m.onnx").opset == 17


@pytest.mark.parametrize(("data", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_what_no_classifier_needs_is_refused_with_its_reason(data: bytes, reason: str):
    with pytest.raises(ModelError, match=rf"m\.onnx is not a model .*{reason}.* gclf-export RUN"):
        read_model(data, "m.onnx")


def is_honest(path: Path) -> bool:
    return path.name == "ok.onnx"


def test_every_file_that_hangs_or_tricks_onnxruntime_is_refused_before_it(shared: Path):
    """In a process of its own, for what a broken check lets through may never end."""
    program = (
        "import sys\n"
        "from gclf_runtime import Classifier, ModelError\n"
        "for path in sys.argv[1:]:\n"
        "    try: Classifier(path, device='cpu')\n"
        "    except ModelError as error: reason = str(error)\n"
        "    else: reason = 'opened'\n"
        "    print('onnxruntime' in sys.modules, reason, flush=True)\n"
    )
    *hostile, honest = sorted((shared / "hostile_models").glob("*.onnx"), key=is_honest)
    command = [sys.executable, "-c", program, *map(str, hostile), str(honest)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    *refused, opened = run.stdout.splitlines()

    assert len(hostile) >= 18
    for path, line in zip(hostile, refused, strict=True):
        assert line.startswith(f"False {path} is not a model that gclf opens: ")
    assert opened.startswith(f"True {honest} carries no gclf.spec")


def test_a_digest_is_that_of_the_file_before_it_was_sealed():
    data = model(entry("gclf.spec", "{}"))
    sealed = seal(data)

    assert sealed.startswith(data)
    assert digest(sealed) == digest(data) == hashlib.sha256(data).hexdigest()
    assert read_model(sealed, "m.onnx").digest == digest(data)
    assert seal(sealed) == sealed


def test_a_digest_may_stand_anywhere_among_the_metadata():
    before, after = model(entry("author", "a")), entry("gclf.spec", "{}")
    recorded = hashlib.sha256(before + after).hexdigest()
    moved = before + entry("gclf.digest", recorded) + after

    assert read_model(moved, "m.onnx").digest == recorded
    assert seal(moved) == seal(before + after)


@pytest.mark.parametrize(
    "data",
    [
        model(entry("gclf.spec", "{}"), entry("gclf.digest", "")),
        model(entry("gclf.digest", "0" * 64)),
        seal(model()) + entry("author", "a"),
        seal(model(entry("gclf.spec", "{}"))).replace(b"Relu", b"Tanh"),
    ],
    ids=["an empty one", "another one", "a key more", "another operator"],
)
def test_a_changed_file_says_to_copy_it_again(data: bytes):
    with pytest.raises(ModelError, match=r"m\.onnx was changed .*[0-9a-f]{64}\. Copy it again, or"):
        read_model(data, "m.onnx")


def test_a_file_with_a_spec_and_no_digest_says_to_export_it_again():
    with pytest.raises(ModelError, match=r"m\.onnx carries no digest of itself.* gclf-export"):
        read_model(model(entry("gclf.spec", "{}")), "m.onnx")


def test_every_flipped_bit_is_noticed(colours: Path):
    data = bytearray(colours.read_bytes())

    assert read_model(bytes(data), "m.onnx").digest
    for position in range(8 * len(data)):
        data[position // 8] ^= 1 << position % 8
        with pytest.raises(ModelError):
            read_model(bytes(data), "m.onnx")
        data[position // 8] ^= 1 << position % 8


def test_a_file_cut_at_any_byte_is_no_model_or_has_no_spec(colours: Path):
    data = colours.read_bytes()

    for size in range(len(data)):
        try:
            found = read_model(data[:size], "m.onnx")
        except ModelError:
            continue
        assert "gclf.spec" not in found.metadata


def test_a_model_may_be_pinned_by_its_sha256(colours: Path):
    pin = hashlib.sha256(colours.read_bytes()).hexdigest()

    assert Classifier(colours, device="cpu", sha256=pin.upper()).spec.label_names
    with pytest.raises(ModelError, match=rf"its sha256 is {pin}, '{'0' * 64}' was given\. Copy it"):
        Classifier(colours, sha256="0" * 64)
    with pytest.raises(ModelError, match="is not the file asked for"):
        Classifier.default(sha256=pin)
