"""One input, and what was left out: what every kind of source yields and counts.

It does not know where inputs come from.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

from gclf_runtime.errors import ImageError
from gclf_runtime.formats import HEAD_BYTES, has_image_suffix, sniff


@dataclass(frozen=True, slots=True)
class Item:
    """One input.

    Attributes:
        name: What its row is called: a path, ARCHIVE/member, TABLE.parquet:row (from 0) or a URL.
        data: Its encoded bytes when they are at hand; the error when they could not be read; None
            when it is a file to be read from `name`.
        relative: Its path below the folder, archive or pattern it was found in; '' when it was
            named itself. Never absolute, never with '..'.
    """

    name: str
    data: bytes | ImageError | None = None
    relative: str = ""


@dataclass
class Skipped:
    """How many entries were no input: counted while the sources are read."""

    hidden: int = 0
    not_images: int = 0
    unreadable_folders: int = 0


@dataclass(frozen=True)
class Choice:
    """Which of the entries that nobody named are inputs, by one rule for every kind of source."""

    skipped: Skipped
    all_files: bool = False

    def takes_hidden(self) -> bool:
        """Tell whether a hidden entry is an input; count it when it is not."""
        self.skipped.hidden += not self.all_files
        return self.all_files

    def takes(self, name: str, read_head: Callable[[int], bytes]) -> bool:
        """Tell whether an entry is an input; count it when it is not.

        Args:
            name: Its name, of which the suffix counts.
            read_head: Reads up to so many of its first bytes; called when the suffix says nothing.
        """
        if self.all_files or has_image_suffix(name) or sniff(read_head(HEAD_BYTES)) is not None:
            return True
        self.skipped.not_images += 1
        return False


def is_hidden(path: str) -> bool:
    """Tell whether a file below an archive or an address, or a folder on its way, is hidden."""
    return any(part.startswith(".") and part not in (".", "..") for part in path.split("/"))


def below(path: str) -> str:
    """Drop from a name that somebody else chose whatever leads out of a folder it is joined to."""
    path = path.replace("\0", "").replace(os.sep, "/")
    if os.name == "nt":
        path = path.replace(":", "_")  # C: leads to another drive
    return "/".join(part for part in path.split("/") if part not in ("", ".", ".."))


def too_large(found: str, limit: int) -> ImageError:
    """Refuse a picture by the bytes or pixels that were found."""
    return ImageError("too_large", f"{found}, the limit is {limit}. Make the picture smaller")


def say(error: BaseException) -> str:
    """Say an exception of a library in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:200] or type(error).__name__
