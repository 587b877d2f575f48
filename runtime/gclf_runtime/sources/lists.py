"""A list of paths or addresses, one per line or, as find -print0 writes it, NUL-separated."""

import os
from collections.abc import Iterator
from io import BufferedReader

from gclf_runtime.errors import SourceError
from gclf_runtime.formats import HEAD_BYTES, sniff
from gclf_runtime.items import say

_BLOCK_BYTES = 1 << 16  # no path is longer; a file without line ends is no list


def read_list(file: BufferedReader, name: str) -> Iterator[str]:
    """Split a list as it arrives.

    Args:
        file: The list; separated by NULs when its first block holds one, by line ends otherwise.
        name: What an error calls it.

    Yields:
        Its lines, without the empty ones; bytes that are not UTF-8 as surrogates.

    Raises:
        SourceError: It cannot be read to its end, or it is no list.
    """
    rest = separator = b""
    while True:
        try:
            block = file.read1(_BLOCK_BYTES)
        except OSError as error:
            raise SourceError(f"{name} cannot be read ({say(error)}). Check its rights") from error
        if not rest and not separator and sniff(block[:HEAD_BYTES]):
            raise SourceError(f"{name} is a picture and no list of paths. Name its file instead")
        rest += block
        if not separator and (b"\0" in rest or b"\n" in rest):
            separator = b"\0" if b"\0" in rest else b"\n"
            rest = rest.removeprefix(b"\xef\xbb\xbf")  # as Windows begins a text
        lines = rest.split(separator) if separator else [rest]
        rest = lines.pop() if block else b""
        for line in lines:
            path = line if separator == b"\0" else line.removesuffix(b"\r")
            if path:
                yield os.fsdecode(path)
        if not block:
            return
        if len(rest) > _BLOCK_BYTES:
            raise SourceError(f"{name} is not a list of paths. Write one path per line")
