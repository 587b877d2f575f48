"""Read protobuf's wire format: bounded, strict, a limited number of parts; it knows no onnx."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_MAX_NUMBERS = 400_000  # tags, lengths and integers; torchvision's maxvit_t has 79,000
_MAX_TEXT_BYTES = 1024

Schema = Mapping[int, tuple[str, str]]
Message = Mapping[str, list[Any]]
NOTHING = memoryview(b"")

_VARINT, _BYTES = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}
_WIRES = {"int": 0, "count": 0, "bytes": 2, "text": 2, "double": 1, "float": 5}
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_CONTINUED = bytes(range(128, 256))


class FormatError(Exception):
    """Why a message is refused, without a file's name and without a remedy."""


def schema(text: str) -> Schema:
    """Read what a message may hold: `number:name:form` of each field, with spaces between.

    A form is `int`, `text` (a short name), `bytes`, or `float`, `double` and `count` (integers)
    for numbers whose values do not matter, only how many they are. One with a + may repeat, and
    its numbers be packed; `no` is a field that is known and refused.
    """
    fields = (field.split(":") for field in text.split())
    return {int(number): (name, form) for number, name, form in fields}


def first(message: Message, name: str, default: Any) -> Any:
    """Return the value of a field, or the default where the message has none."""
    return message[name][0] if message[name] else default


def decode(text: memoryview, what: str) -> str:
    """Decode a text of any length."""
    try:
        return str(text, "utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"{what} has a text that is not UTF-8") from error


class Walk:
    """One reading of a file; all its messages together have a limited number of parts."""

    def __init__(self) -> None:
        self._left = _MAX_NUMBERS

    def read(self, message: memoryview, schema: Schema, what: str) -> Message:
        """Return the values of each field of the schema; any other field is refused.

        Raises:
            FormatError: The message is cut or damaged, or not what the schema says.
        """
        found: dict[str, list[Any]] = {name: [] for name, _ in schema.values()}
        for number, wire, value, _, _ in self.fields(message, what):
            if number not in schema:
                raise FormatError(f"{what} has an unknown field {number}")
            name, form = schema[number]
            if form == "no":
                raise FormatError(f"{what} has {name.replace('_', ' ')}")
            kind = form.removesuffix("+")
            if found[name] and kind == form:
                raise FormatError(f"{what} has its {name} twice")
            if wire == _WIRES[kind]:
                found[name].append(_value(kind, value, what))
            elif wire == _BYTES and kind != form and kind != "text":
                found[name] += self._unpack(kind, value, what)
            else:
                raise FormatError(f"{what} has a {name} of wire type {wire}")
        return found

    def fields(self, message: memoryview, what: str) -> Iterator[tuple[int, int, Any, int, int]]:
        """Yield number, wire type, value (an int or its bytes), begin and end of each field."""
        at, size = 0, len(message)
        while at < size:
            begin = at
            tag, at = self._varint(message, at, what)
            wire = tag & 7
            if wire == _VARINT:
                value, at = self._varint(message, at, what)
            else:
                length = _FIXED_BYTES.get(wire, -1)
                if wire == _BYTES:
                    length, at = self._varint(message, at, what)
                if not 0 <= length <= size - at:
                    raise FormatError(f"{what} is cut or damaged at its byte {begin}")
                value, at = message[at : at + length], at + length
            yield tag >> 3, wire, value, begin, at

    def _varint(self, message: memoryview, at: int, what: str) -> tuple[int, int]:
        """Return a signed number of 64 bits, and where it ends."""
        self._left -= 1
        if self._left < 0:
            raise FormatError(f"it has more parts than an image classifier: over {_MAX_NUMBERS}")
        value = shift = 0
        for byte in message[at : at + 10]:
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                value &= 2**64 - 1
                return value - (value >> 63 << 64), at
            shift += 7
        raise FormatError(f"{what} is cut or damaged at its byte {at}")

    def _unpack(self, kind: str, packed: memoryview, what: str) -> list[int]:
        """List the numbers of a packed field, or how many they are where only that matters."""
        if kind != "int":
            return [_count(kind, packed, what)]
        numbers: list[int] = []
        at = 0
        while at < len(packed):
            number, at = self._varint(packed, at, what)
            numbers.append(number)
        return numbers


def _value(kind: str, value: Any, what: str) -> Any:
    if kind == "text":
        if len(value) > _MAX_TEXT_BYTES or _CONTROL.search(value):
            raise FormatError(f"{what} has a text of {len(value)} bytes that is no name")
        return decode(value, what)
    return value if kind in ("int", "bytes") else 1


def _count(kind: str, packed: memoryview, what: str) -> int:
    """Count the numbers of a packed field, at the speed of C."""
    if kind == "count":
        return len(bytes(packed).translate(None, _CONTINUED))
    count, rest = divmod(len(packed), _FIXED_BYTES[_WIRES[kind]])
    if rest:
        raise FormatError(f"{what} has {len(packed)} bytes of {kind} numbers")
    return count
