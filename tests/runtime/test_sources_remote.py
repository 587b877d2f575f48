import gzip
import io
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gclf_runtime import ImageError, SourceError
from gclf_runtime.sources import Item, Skipped, open_sources, remote

PNG = b"\x89PNG\r\n\x1a\n"


def read(*addresses: str, skipped: Skipped | None = None, all_files: bool = False) -> list[Item]:
    return list(open_sources(addresses, skipped or Skipped(), all_files=all_files))


def kind(item: Item) -> str:
    return item.data.kind if isinstance(item.data, ImageError) else "read"


@pytest.fixture
def memory() -> Iterator[Any]:
    """Return the file system memory:// of fsspec, empty."""
    fsspec: Any = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


class Server(BaseHTTPRequestHandler):
    """Four pictures and their index, for tests: without ranges, some without a length."""

    protocol_version = "HTTP/1.1"
    pages: ClassVar = {
        "/pictures/": b'<a href="a.png">a</a><a href="b">b</a><a href="c.txt">c</a>',
        "/pictures/a.png": PNG + b"a",
        "/pictures/b": PNG + b"b",
        "/pictures/c.txt": b"text",
        "/endless.png": PNG + bytes(5000),
        "/large.png": PNG + bytes(5000),
    }

    def send(self) -> None:
        path = self.path.partition("?")[0]
        body = self.pages.get(path)
        self.send_response(403 if path == "/secret.png" else 404 if body is None else 200)
        if path == "/endless.png":
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(body or b"")))
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body or b"")
        self.close_connection = path == "/endless.png"

    do_GET = do_HEAD = send  # noqa: N815 - as the base class calls them

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    pytest.importorskip("aiohttp")
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_addresses_are_fetched_in_the_order_given(server: str):
    addresses = [f"{server}/pictures/{name}" for name in ("b", "a.png?size=1", "b", "c.txt")]

    assert read(*addresses) == [
        Item(addresses[0], PNG + b"b", "b"),
        Item(addresses[1], PNG + b"a", "a.png"),
        Item(addresses[2], PNG + b"b", "b"),
        Item(addresses[3], b"text", "c.txt"),
    ]


@pytest.mark.parametrize(
    ("address", "expected", "reason"),
    [
        ("{server}/absent.png", "missing", "no such file"),
        ("{server}/secret.png", "unreadable", "403"),
        ("http://127.0.0.1:1/a.png", "unreadable", "127.0.0.1"),
        ("http:///a.png", "unreadable", ""),
        ("nonsense://a.png", "unreadable", "nonsense"),
        ("memory://absent.png", "missing", "no such file"),
        ("memory://folder", "unreadable", "End it with /"),
    ],
)
def test_what_cannot_be_fetched_is_a_row_and_the_rest_goes_on(
    server: str, memory: Any, address: str, expected: str, reason: str
):
    memory.pipe("/folder/a.png", PNG)

    failed, good = read(address.format(server=server), f"{server}/pictures/a.png")

    assert kind(failed) == expected
    assert reason in str(failed.data)
    assert good.data == PNG + b"a"


def test_a_folder_of_a_server_is_its_index(server: str):
    skipped = Skipped()

    found = read(f"{server}/pictures/", skipped=skipped)

    assert found == [
        Item(f"{server}/pictures/a.png", PNG + b"a", "a.png"),
        Item(f"{server}/pictures/b", PNG + b"b", "b"),
    ]
    assert skipped == Skipped(not_images=1)


def test_a_file_past_the_limit_is_a_row_whether_or_not_its_size_is_told(
    server: str, memory: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(remote, "MAX_FILE_BYTES", 1000)
    memory.pipe("/folder/d.png", bytes(1001))

    found = read(f"{server}/endless.png", f"{server}/large.png", "memory://folder/")

    assert [kind(item) for item in found] == ["too_large"] * 3


def test_files_below_an_address_are_chosen_like_those_of_a_folder(memory: Any):
    for name in ("b/2.png", "a.jpg", "b/1", "c.txt", ".d.png", ".git/e.png", "f"):
        memory.pipe(f"/data/{name}", PNG if name != "c.txt" and name != "f" else b"text")
    skipped = Skipped()

    found = read("memory://data/", skipped=skipped)

    assert [item.relative for item in found] == ["a.jpg", "b/1", "b/2.png"]
    assert skipped == Skipped(hidden=2, not_images=2)
    assert len(read("memory://data/", all_files=True)) == 7


def test_a_pattern_names_files_below_what_comes_before_its_star(memory: Any):
    for name in ("a/1.png", "a/2.gif", "b/3.png", "b/c/4.png"):
        memory.pipe(f"/data/{name}", PNG)

    assert [item.relative for item in read("memory://data/*/*.png")] == ["a/1.png", "b/3.png"]
    assert len(read("memory://data/**/*.png")) == 3
    with pytest.raises(SourceError, match="no file matches"):
        read("memory://data/*.bmp")


def test_an_empty_address_holds_nothing(memory: Any):
    memory.mkdir("/empty")

    assert read("memory://empty/") == []


@pytest.mark.parametrize("count", [1, 16, 17, 100])
def test_any_number_of_files_comes_sorted(memory: Any, count: int):
    for number in range(count):
        memory.pipe(f"/data/{number:03}.png", PNG + bytes([number]))

    found = read("memory://data/")

    assert [item.data for item in found] == [PNG + bytes([n]) for n in range(count)]


def test_archives_at_an_address_are_read_without_copying_them(memory: Any):
    tar, packed = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        info = tarfile.TarInfo("a.png")
        info.size = len(PNG)
        file.addfile(info, io.BytesIO(PNG))
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("b.png", PNG)
    memory.pipe("/shards/1.tar.gz", gzip.compress(tar.getvalue()))
    memory.pipe("/shards/2.tar.gz", gzip.compress(tar.getvalue()))
    memory.pipe("/shards/3.zip", packed.getvalue())

    found = read("memory://shards/*.tar.gz", "memory://shards/3.zip")

    assert [item.relative for item in found] == ["a.png", "a.png", "b.png"]
    assert [item.data for item in found] == [PNG] * 3
    with pytest.raises(SourceError, match="cannot be read"):
        read("memory://shards/absent.tar")


def test_a_table_at_an_address_is_read(memory: Any, tmp_path: Path):
    arrow: Any = pytest.importorskip("pyarrow")
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"image": [PNG]}), tmp_path / "x.parquet")
    memory.pipe("/x.parquet", (tmp_path / "x.parquet").read_bytes())

    assert [item.data for item in read("memory://x.parquet")] == [PNG]


def test_a_list_may_hold_addresses(memory: Any, tmp_path: Path):
    memory.pipe("/a.png", PNG)
    (tmp_path / "list.txt").write_text("b.png\nmemory://a.png\nmemory://absent.png\nc.png\n")

    found = read(str(tmp_path / "list.txt"))

    assert [(item.name, kind(item)) for item in found] == [
        ("b.png", "read"),
        ("memory://a.png", "read"),
        ("memory://absent.png", "missing"),
        ("c.png", "read"),
    ]


def test_a_list_that_breaks_off_yields_what_was_fetched(memory: Any, tmp_path: Path):
    memory.pipe("/a.png", PNG)
    (tmp_path / "x.list").write_bytes(b"memory://a.png\n" + bytes([1]) * 200_000)
    found: list[Item] = []

    with pytest.raises(SourceError, match="one path per line"):
        found.extend(open_sources([str(tmp_path / "x.list")], Skipped()))

    assert [item.data for item in found] == [PNG]


def test_local_files_may_be_named_by_an_address(tmp_path: Path):
    pytest.importorskip("fsspec")
    (tmp_path / "a.png").write_bytes(PNG)

    assert [item.data for item in read(f"file://{tmp_path}/a.png")] == [PNG]
    assert [item.relative for item in read(f"file://{tmp_path}/")] == ["a.png"]


@pytest.mark.parametrize("address", ["s3://bucket/a.png", "s3://bucket/", "s3://bucket/x.tar"])
def test_without_fsspec_the_error_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, address: str
):
    monkeypatch.setitem(sys.modules, "fsspec.core", None)

    with pytest.raises(SourceError, match=r"pip install 'gclf-runtime\[remote\]'"):
        read(address)


@pytest.mark.parametrize("address", ["s3://bucket/a.png", "gs://bucket/*.png"])
def test_without_what_reads_a_scheme_the_error_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, address: str
):
    pytest.importorskip("fsspec")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setitem(sys.modules, "gcsfs", None)

    with pytest.raises(SourceError, match=r"pip install 'gclf-runtime\[remote\]'"):
        read(address)


def test_a_run_that_is_given_up_waits_for_no_server():
    program = (
        "import socket\n"
        "from gclf_runtime.sources import open_sources, Skipped\n"
        "silent = socket.create_server(('127.0.0.1', 0))\n"
        "port = silent.getsockname()[1]\n"
        "for item in open_sources(['memory://a.png', f'http://127.0.0.1:{port}/'+'b.png'],"
        " Skipped()): break\n"
    )
    pytest.importorskip("aiohttp")

    run = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=20)

    assert (run.returncode, run.stderr) == (0, b"")
