"""The pictures in a .tar or .zip, in the archive's order, nothing unpacked to disk.

No header is trusted: not a name, not a size, not that an archive goes on to its end.
"""

import bz2
import gzip
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from tarfile import HeaderError, ReadError
from typing import IO, BinaryIO, Self, cast

from gclf_runtime.errors import ImageError, SourceError
from gclf_runtime.formats import DECODED, HEAD_BYTES, sniff
from gclf_runtime.images import MAX_FILE_BYTES
from gclf_runtime.items import Choice, Item, below, is_hidden, say, too_large

_STREAM_BYTES = 1 << 16
# Names and attributes of the next member; a longer one is made to fill the memory.
_MAX_HEADER_BYTES = 1 << 20
_HEADERS = {
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
}
_ENCRYPTED = 0x1
# bzip2 and LZMA decode all at once whatever was read: a kilobyte may become gigabytes.
_UNZIPPED = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


def read_tar(file: BinaryIO, archive: str, choice: Choice) -> Iterator[Item]:
    """Read the members of a tar, plain or packed with gzip, bzip2 or xz, in one pass.

    Several archives one after another are read as one.

    Args:
        file: The archive, at its start.
        archive: Its name, for the rows.
        choice: Which members are inputs.

    Yields:
        Inputs with their bytes, or with the error that kept a member from being read.

    Raises:
        SourceError: It is no tar, or it is damaged or cut off; what came before was yielded.
    """
    try:
        with _Tar.open(
            fileobj=_decompressed(file), mode="r|", bufsize=_STREAM_BYTES, ignore_zeros=True
        ) as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # it would remember them all
                if member.isdir():
                    continue
                try:
                    item = _tar_item(tar, member, archive, choice)
                except Exception as error:
                    reason = f"the archive is damaged within it ({say(error)}). Pack it again"
                    yield _failed(archive, member.name, ImageError("corrupt", reason))
                    raise
                if item is not None:
                    yield item
    except Exception as error:  # of zlib, lzma, tarfile, and RecursionError among them
        raise SourceError(
            f"{archive} is not a whole tar archive ({say(error)}): what follows is lost. "
            "Copy or pack it again"
        ) from error


class _Member(tarfile.TarInfo):
    """A member as its header describes it, or an error where tarfile would stop in silence."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            member = super().frombuf(buf, encoding, errors)
        except HeaderError as error:
            if any(buf):  # neither the end of the file nor the zeros that mark it
                raise ReadError(str(error)) from error
            raise
        if member.type in _HEADERS and member.size > _MAX_HEADER_BYTES:
            raise ReadError(f"a header of {member.size} bytes")
        return member

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        tar, stream = cast(_Tar, tarfile), cast(BinaryIO, tarfile.fileobj)
        before = stream.tell()
        try:
            member = super().fromtarfile(tar)
        except HeaderError:
            if stream.tell() > before:
                tar.has_ended = True
            elif not tar.has_ended:
                raise ReadError("it is cut off") from None
            raise
        tar.has_ended = False
        return member


class _Tar(tarfile.TarFile):
    tarinfo = _Member
    members: list[tarfile.TarInfo]
    has_ended = False


def _decompressed(file: BinaryIO) -> IO[bytes]:
    """Undo the packing here: tarfile's own stream passes over a wrong checksum."""
    head = file.read(6)
    file.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if head.startswith(b"BZh"):
        return bz2.BZ2File(file)
    return lzma.LZMAFile(file) if head == b"\xfd7zXZ\0" else file


def _tar_item(tar: _Tar, member: tarfile.TarInfo, archive: str, choice: Choice) -> Item | None:
    refusal = None
    if not member.isreg():
        kind = "a link" if member.islnk() or member.issym() else "not a regular file"
        refusal = ImageError("unreadable", f"{kind} in an archive. Pack what it stands for")

    def unpack() -> IO[bytes]:
        return cast(IO[bytes], tar.extractfile(member))

    return _item(archive, member.name, member.size, refusal, unpack, choice)


def read_zip(file: BinaryIO, archive: str, choice: Choice) -> Iterator[Item]:
    """Read the members of a zip in the order of its directory, which is held in memory.

    Args:
        file: The archive, which can be sought in.
        archive: Its name, for the rows.
        choice: Which members are inputs.

    Yields:
        Inputs with their bytes, or with the error that kept a member from being read.

    Raises:
        SourceError: It is no zip, or its directory is damaged or cut off.
    """
    try:
        packed = zipfile.ZipFile(file)
    except Exception as error:
        raise SourceError(
            f"{archive} is not a whole zip archive ({say(error)}). Copy or pack it again"
        ) from error
    with packed:
        for info in packed.infolist():
            if info.is_dir():
                continue
            try:
                item = _zip_item(packed, info, archive, choice)
            except Exception as error:
                reason = f"damaged in the archive ({say(error)}). Pack it again"
                item = _failed(archive, info.filename, ImageError("corrupt", reason))
            if item is not None:
                yield item


def _zip_item(
    packed: zipfile.ZipFile, info: zipfile.ZipInfo, archive: str, choice: Choice
) -> Item | None:
    refusal = None
    if info.flag_bits & _ENCRYPTED:
        refusal = ImageError("unreadable", "encrypted. Pack it without a password")
    elif stat.S_ISLNK(info.external_attr >> 16):
        refusal = ImageError("unreadable", "a link in an archive. Pack what it stands for")
    elif info.compress_type not in _UNZIPPED:
        reason = f"packed by method {info.compress_type} of zip. Pack it with deflate"
        refusal = ImageError("unreadable", reason)
    return _item(archive, info.filename, info.file_size, refusal, lambda: packed.open(info), choice)


def _item(
    archive: str,
    name: str,
    size: int,
    refusal: ImageError | None,
    unpack: Callable[[], IO[bytes]],
    choice: Choice,
) -> Item | None:
    """Make an input of a member, or nothing when it is none."""
    if is_hidden(name) and not choice.takes_hidden():
        return None
    if refusal:
        return _failed(archive, name, refusal) if choice.takes(name, lambda _: b"") else None
    with unpack() as file:
        head = file.read(HEAD_BYTES)
        if not choice.takes(name, lambda _: head):
            return None
        if size > MAX_FILE_BYTES:
            return _failed(archive, name, too_large(f"{size} bytes", MAX_FILE_BYTES))
        # What will not be decoded is not unpacked: its first bytes are enough to say so.
        data = head + file.read() if sniff(head) in DECODED else head
        return Item(f"{archive}/{name}", data, below(name))


def _failed(archive: str, name: str, error: ImageError) -> Item:
    return Item(f"{archive}/{name}", error, below(name))
