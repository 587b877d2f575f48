import bz2
import gzip
import io
import lzma
import os
import random
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gclf_runtime import ImageError, SourceError
from gclf_runtime.sources import Item, Skipped, archives, open_sources

PNG = b"\x89PNG\r\n\x1a\n"


def member(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def tar(
    path: Path, *members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT
) -> Path:
    with tarfile.open(path, "w", format=format) as file:
        for info, data in members:
            file.addfile(info, io.BytesIO(data))
    return path


def pack(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def read(path: Path, *, all_files: bool = False) -> tuple[list[Item], str]:
    """Return the items until the end or the error, and what the error says."""
    found: list[Item] = []
    try:
        for item in open_sources([str(path)], Skipped(), all_files=all_files):
            found.append(item)
    except SourceError as error:
        return found, str(error)
    return found, ""


def kinds(items: list[Item]) -> dict[str, str]:
    return {
        item.relative: item.data.kind if isinstance(item.data, ImageError) else "read"
        for item in items
    }


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        (".tar", bytes),
        (".tar.gz", gzip.compress),
        (".tgz", gzip.compress),
        (".tar.bz2", bz2.compress),
        (".TAR.XZ", lzma.compress),
    ],
    ids=["tar", "tar.gz", "tgz", "tar.bz2", "TAR.XZ"],
)
def test_the_members_of_a_tar_come_in_its_order(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]
):
    plain = tar(tmp_path / "plain", member("b/2.png", PNG + b"2"), member("a.jpg"), member("c"))
    path = tmp_path / f"shard{suffix}"
    path.write_bytes(compress(plain.read_bytes()))
    skipped = Skipped()

    assert list(open_sources([str(path)], skipped)) == [
        Item(f"{path}/b/2.png", PNG + b"2", "b/2.png"),
        Item(f"{path}/a.jpg", b"", "a.jpg"),
    ]
    assert skipped == Skipped(not_images=1)


@pytest.mark.parametrize("make", [tar, pack], ids=["tar", "zip"])
def test_members_are_chosen_like_the_files_of_a_folder(tmp_path: Path, make: Callable[..., Path]):
    data = {"./a": PNG, "b.txt": PNG, "c.txt": b"text", "d.jpg": b"text", ".e.png": PNG}
    data |= {"__MACOSX/._a.png": PNG, "f/": b""}
    path = tmp_path / ("x.tar" if make is tar else "x.zip")
    if make is tar:
        folder = member("f", type=tarfile.DIRTYPE)
        tar(path, *(member(n, d) for n, d in data.items() if n != "f/"), folder)
    else:
        pack(path, data)
    skipped = Skipped()

    found = [item.relative for item in open_sources([str(path)], skipped)]

    assert found == ["a", "b.txt", "d.jpg"]
    assert skipped == Skipped(hidden=2, not_images=1)
    assert len(read(path, all_files=True)[0]) == 6


def test_links_and_devices_in_a_tar_are_rows_and_not_followed(tmp_path: Path):
    path = tar(
        tmp_path / "x.tar",
        member("soft.png", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("hard.png", type=tarfile.LNKTYPE, linkname="../../secret"),
        member("fifo.png", type=tarfile.FIFOTYPE),
        member("device.png", type=tarfile.CHRTYPE),
        member("link", type=tarfile.SYMTYPE, linkname="soft.png"),
    )

    found, error = read(path)

    names = ["soft.png", "hard.png", "fifo.png", "device.png"]
    assert (kinds(found), error) == (dict.fromkeys(names, "unreadable"), "")


def test_names_that_lead_out_of_the_archive_are_held_below(tmp_path: Path):
    path = tar(tmp_path / "x.tar", member("../../a.png"), member("/b.png"))

    assert [item.relative for item in read(path)[0]] == ["a.png", "b.png"]


@pytest.mark.parametrize("end", [0, 511, 512, 1024, 1500, 2048, 2560, 3000, 3072])
@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress], ids=["", "gz", "xz"])
def test_a_tar_that_is_cut_off_yields_its_rows_and_then_an_error(
    tmp_path: Path, end: int, compress: Callable[[bytes], bytes]
):
    members = [member(f"{n}.png", PNG + bytes([n]) * 600) for n in range(3)]
    whole = tar(tmp_path / "whole.tar", *members).read_bytes()
    path = tmp_path / "cut.tar"
    path.write_bytes(compress(whole[:end]))

    found, error = read(path)

    read_whole = [data for n, (_, data) in enumerate(members) if n * 1536 + 512 + 608 <= end]
    assert [item.data for item in found[: len(read_whole)]] == read_whole
    assert len(found) - len(read_whole) == (512 <= end % 1536 < 512 + 608)
    assert all(isinstance(item.data, ImageError) for item in found[len(read_whole) :])
    assert "is not a whole tar archive" in error


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_packed_tar_whose_stream_is_cut_or_altered_is_an_error(
    tmp_path: Path, compress: Callable[[bytes], bytes]
):
    noise = random.Random(0).randbytes(100_000)
    whole = tar(tmp_path / "whole.tar", member("a.png", noise), member("b.png", noise))
    packed = compress(whole.read_bytes())
    path = tmp_path / "x.tar.gz"

    for data in (packed[:-5], packed[: len(packed) // 2]):
        path.write_bytes(data)
        assert "is not a whole tar archive" in read(path)[1]
    for place in (len(packed) // 3, len(packed) - 6):  # within the data, and in the checksum
        path.write_bytes(packed[:place] + bytes([packed[place] ^ 1]) + packed[place + 1 :])
        assert "is not a whole tar archive" in read(path)[1]


def test_an_altered_header_in_the_middle_of_a_tar_is_an_error(tmp_path: Path):
    path = tar(tmp_path / "x.tar", member("a.png", PNG), member("b.png", PNG))
    data = bytearray(path.read_bytes())
    data[1024 + 20] ^= 1
    path.write_bytes(data)

    found, error = read(path)

    assert kinds(found) == {"a.png": "read"}
    assert "bad checksum" in error


def test_tars_one_after_another_are_read_as_one(tmp_path: Path):
    first = tar(tmp_path / "1.tar", member("a.png", PNG)).read_bytes()
    second = tar(tmp_path / "2.tar", member("b.png", PNG)).read_bytes()
    path = tmp_path / "both.tar"
    path.write_bytes(first + second)

    assert kinds(read(path)[0]) == {"a.png": "read", "b.png": "read"}


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path, kind: bytes):
    header = tarfile.TarInfo("a")
    header.type, header.size = kind, 1 << 32
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(header.tobuf() + bytes(1 << 24)))

    assert "a header of 4294967296 bytes" in read(path)[1]


def test_headers_within_headers_do_not_end_the_run(tmp_path: Path):
    header = tarfile.TarInfo("a")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2
    path = tmp_path / "x.tar"
    path.write_bytes((header.tobuf() + b"b".ljust(512, b"\0")) * 3000)

    assert "is not a whole tar archive" in read(path)[1]


def test_a_member_past_the_limit_is_a_row_and_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 1000)
    members = {"a.png": bytes(1001), "b.png": bytes(1000), "c.txt": bytes(5000)}

    for path in (
        tar(tmp_path / "x.tar", *(member(*item) for item in members.items())),
        pack(tmp_path / "x.zip", members),
    ):
        assert kinds(read(path)[0]) == {"a.png": "too_large", "b.png": "read"}


def test_a_zip_whose_header_lies_about_the_size_yields_an_error(tmp_path: Path):
    path = pack(tmp_path / "x.zip", {"a.png": bytes(10_000_000), "b.png": PNG})
    data = path.read_bytes()
    path.write_bytes(data.replace((10_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little")))

    assert kinds(read(path)[0]) == {"a.png": "corrupt", "b.png": "read"}


def test_a_damaged_member_of_a_zip_is_a_row(tmp_path: Path):
    path = pack(tmp_path / "x.zip", {"a.png": PNG + b"abc", "b.png": PNG}, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(PNG + b"abc", PNG + b"abd"))

    found, error = read(path)

    assert kinds(found) == {"a.png": "corrupt", "b.png": "read"}
    assert "CRC" in str(found[0].data)
    assert error == ""


def test_an_encrypted_member_of_a_zip_is_a_row(tmp_path: Path):
    path = pack(tmp_path / "x.zip", {"a.png": PNG, "b.png": PNG})
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the flags of the first member,
    data[data.index(b"PK\1\2") + 8] |= 1  # and of its entry in the directory
    path.write_bytes(data)

    found, _ = read(path)

    assert kinds(found) == {"a.png": "unreadable", "b.png": "read"}
    assert "password" in str(found[0].data)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=["bzip2", "lzma"])
def test_methods_of_zip_that_unpack_without_bound_are_refused(tmp_path: Path, method: int):
    path = pack(tmp_path / "x.zip", {"a.png": bytes(1000), "b": PNG}, method)

    assert kinds(read(path)[0]) == {"a.png": "unreadable"}


def test_a_link_in_a_zip_is_a_row(tmp_path: Path):
    link = zipfile.ZipInfo("a.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr(link, "/etc/passwd")

    assert kinds(read(tmp_path / "x.zip")[0]) == {"a.png": "unreadable"}


@pytest.mark.parametrize("name", ["x.tar", "x.zip", "x.tar.gz"])
@pytest.mark.parametrize("content", [b"", b"text", b"\x1f\x8b", bytes(20)])
def test_what_is_no_archive_is_an_error(tmp_path: Path, name: str, content: bytes):
    (tmp_path / name).write_bytes(content)

    found, error = read(tmp_path / name)

    assert (found, "again" in error) == ([], True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_archive_that_may_not_be_read_is_an_error(tmp_path: Path):
    path = tar(tmp_path / "x.tar")
    path.chmod(0)

    assert "Permission denied" in read(path)[1]


def test_an_archive_of_nothing_holds_nothing(tmp_path: Path):
    for path in (tar(tmp_path / "x.tar"), pack(tmp_path / "x.zip", {})):
        assert read(path) == ([], "")


def test_names_that_are_not_utf_8_pass(tmp_path: Path):
    path = tar(tmp_path / "x.tar", member("\udcff.png"), format=tarfile.GNU_FORMAT)

    assert read(path)[0][0].relative == "\udcff.png"


def test_a_tar_of_many_members_costs_no_memory_for_each(tmp_path: Path):
    def peak(count: int) -> int:
        path = tar(tmp_path / "x.tar", *(member(f"{n:06}.png") for n in range(count)))
        tracemalloc.start()
        assert sum(1 for _ in open_sources([str(path)], Skipped())) == count
        bytes_used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return bytes_used

    few, many = peak(500), peak(2500)

    assert (many - few) / 2000 < 20


def test_bytes_changed_at_random_never_raise_anything_else(tmp_path: Path):
    chance = random.Random(1)
    members = [member(f"{n}.png", PNG + chance.randbytes(300)) for n in range(4)]
    wholes = [
        tar(tmp_path / "x.tar", *members, format=tarfile.PAX_FORMAT).read_bytes(),
        pack(tmp_path / "x.zip", {info.name: data for info, data in members}).read_bytes(),
    ]
    for name, whole in zip(["y.tar", "y.zip"], wholes, strict=True):
        for _ in range(300):
            data = bytearray(whole)
            for _ in range(3):
                data[chance.randrange(len(data))] = chance.randrange(256)
            (tmp_path / name).write_bytes(data)
            read(tmp_path / name)
