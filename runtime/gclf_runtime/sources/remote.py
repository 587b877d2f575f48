"""The pictures at addresses such as s3://bucket/cat.jpg, fetched with fsspec, some at a time."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from importlib import import_module
from threading import Thread
from typing import BinaryIO, NamedTuple, Protocol, cast

from gclf_runtime.errors import ImageError, SourceError
from gclf_runtime.formats import HEAD_BYTES, has_image_suffix, sniff
from gclf_runtime.images import MAX_FILE_BYTES
from gclf_runtime.items import Choice, Item, Skipped, below, is_hidden, say, too_large

_SILENCE_S = 30
_AT_A_TIME = 16
# A listing of fsspec is otherwise kept for the next; only these take the option for certain.
_LISTED_ONCE = ("s3://", "s3a://", "gs://", "gcs://")


class FileSystem(Protocol):
    """A file system of fsspec, as far as it is used."""

    def cat_file(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        """Read a file or a part of it."""
        ...

    def find(self, path: str, *, detail: bool) -> dict[str, dict[str, object]]:
        """List the files below a folder."""
        ...

    def glob(self, path: str, *, detail: bool) -> dict[str, dict[str, object]]:
        """List what matches a pattern."""
        ...

    def info(self, path: str) -> dict[str, object]:
        """Return size and type, where they are known."""
        ...

    def open(self, path: str, mode: str) -> BinaryIO:
        """Open a file."""
        ...

    def unstrip_protocol(self, name: str) -> str:
        """Return the address of a path."""
        ...


class _Target(NamedTuple):
    files: FileSystem
    path: str
    name: str
    relative: str
    size: object = None
    only_images: bool = False


def fetch(addresses: Iterable[str]) -> Iterator[Item]:
    """Fetch files by their addresses.

    Args:
        addresses: Any number, taken as they are needed.

    Yields:
        One input per address, in order, with its bytes or the error that kept it from being read.

    Raises:
        SourceError: What reads such addresses is not installed.
    """
    return _fetch_all(_targets(addresses))


def fetch_found(address: str, choice: Choice) -> Iterator[Item]:
    """Fetch what a pattern with * matches, or what is below a folder, sorted by address.

    Args:
        address: A pattern, or a folder with a slash at its end.
        choice: Which files are inputs.

    Yields:
        Inputs with their bytes, or with the error that kept them from being read.

    Raises:
        SourceError: It cannot be listed, or a pattern matches nothing.
    """
    files, found, root = _find(address)
    targets = (
        _Target(
            files,
            path,
            files.unstrip_protocol(path),
            below(path.removeprefix(root)),
            details.get("size"),
            only_images=not choice.all_files and not has_image_suffix(path),
        )
        for path, details in found
        if "/." in address or not is_hidden(path.removeprefix(root)) or choice.takes_hidden()
    )
    return _fetch_all(targets, choice.skipped)


def match(pattern: str) -> Iterator[str]:
    """List the addresses of the files that a pattern matches."""
    files, found, _ = _find(pattern)
    return (files.unstrip_protocol(path) for path, _ in found)


def open_file(address: str) -> BinaryIO:
    """Open a file to be read in part.

    Raises:
        SourceError: It cannot be opened.
    """
    try:
        files, path = _locate(address)
        return files.open(path, "rb")
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(
            f"{address} cannot be read ({say(error)}). Check the address, and your rights to it"
        ) from error


def _locate(address: str) -> tuple[FileSystem, str]:
    scheme = address.partition("://")[0].lower() + "://"
    options: dict[str, object] = {"use_listings_cache": False} if scheme in _LISTED_ONCE else {}
    try:
        if scheme in ("http://", "https://"):  # a server that never answers ends in a row
            timeout = import_module("aiohttp").ClientTimeout(
                total=None, sock_connect=_SILENCE_S, sock_read=_SILENCE_S
            )
            options["client_kwargs"] = {"timeout": timeout}
        core = import_module("fsspec.core")
        return cast(tuple[FileSystem, str], core.url_to_fs(address, **options))
    except ImportError as error:
        raise SourceError(
            f"{scheme} cannot be read ({say(error)}). "
            "Install what reads it: pip install 'gclf-runtime[remote]'"
        ) from error


def _targets(addresses: Iterable[str]) -> Iterator[_Target | Item]:
    for address in addresses:
        try:
            files, path = _locate(address)
        except SourceError:
            raise
        except Exception as error:  # a scheme that fsspec does not know, or half an address
            reason = f"not an address that can be read ({say(error)}). Check it"
            yield Item(address, ImageError("unreadable", reason))
        else:
            yield _Target(files, path, address, below(path.partition("?")[0].rpartition("/")[2]))


def _find(address: str) -> tuple[FileSystem, list[tuple[str, dict[str, object]]], str]:
    """List what a pattern or a folder holds: paths and details, and the folder that they share."""
    is_pattern = "*" in address
    try:
        files, path = _locate(address)
        found = files.glob(path, detail=True) if is_pattern else files.find(path, detail=True)
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(
            f"{address} cannot be listed ({say(error)}). Check the address, and your rights to it"
        ) from error
    listed = sorted((p, details) for p, details in found.items() if details["type"] != "directory")
    if is_pattern and not listed:
        raise SourceError(f"no file matches {address}. Check the pattern, or name a folder")
    root = path.partition("*")[0].rpartition("/")[0] if is_pattern else path.rstrip("/")
    return files, listed, root + "/"


def _fetch_all(targets: Iterable[_Target | Item], skipped: Skipped | None = None) -> Iterator[Item]:
    """Fetch in order, some ahead; when the targets end in an error, what came before goes first."""
    pending: deque[Future[Item | None]] = deque()
    failure: SourceError | None = None
    waiting = iter(targets)
    while True:
        try:
            while len(pending) < _AT_A_TIME and (target := next(waiting, None)) is not None:
                pending.append(_start(target))
        except SourceError as error:
            failure, waiting = error, iter(())
        if not pending:
            break
        item = pending.popleft().result()
        if item is not None:
            yield item
        elif skipped:
            skipped.not_images += 1
    if failure:
        raise failure


def _start(target: _Target | Item) -> Future[Item | None]:
    """Fetch in a thread that Python does not wait for at its end, as it does for a pool's."""
    future: Future[Item | None] = Future()

    def fetch() -> None:
        try:
            future.set_result(_fetch(target))
        except BaseException as error:  # a library cancels by one: who waits must hear of it
            future.set_exception(SourceError(f"{say(error)}. Fetch again, with --resume"))

    Thread(target=fetch, daemon=True).start()
    return future


def _fetch(target: _Target | Item) -> Item | None:
    """Fetch one file; nothing when only images are wanted and it begins like none."""
    if isinstance(target, Item):
        return target
    try:
        if target.only_images and not sniff(_read_head(target)):
            return None
        return Item(target.name, _read(target), target.relative)
    except ImageError as error:
        return Item(target.name, error, target.relative)
    except Exception as error:  # each library has its own
        return Item(target.name, _explain(error), target.relative)


def _read_head(target: _Target) -> bytes:
    try:
        return target.files.cat_file(target.path, start=0, end=HEAD_BYTES)[:HEAD_BYTES]
    except Exception:  # as a file of a folder that cannot be read
        return b""


def _read(target: _Target) -> bytes:
    size = target.size
    if size is None:
        details = target.files.info(target.path)
        if details.get("type") == "directory":
            reason = "a folder. End it with / to classify what it holds"
            raise ImageError("unreadable", reason)
        size = details.get("size")
    if not isinstance(size, int):  # a server that does not say
        with target.files.open(target.path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        size = len(data)
    elif size <= MAX_FILE_BYTES:
        data = target.files.cat_file(target.path)
        size = len(data)
    else:
        data = b""
    if size > MAX_FILE_BYTES:
        raise too_large(f"{size} bytes", MAX_FILE_BYTES)
    return data


def _explain(error: Exception) -> ImageError:
    # fsspec's http says "not found" of whatever went wrong; the cause knows better.
    cause = error.__cause__ or error
    if isinstance(cause, FileNotFoundError) or getattr(cause, "status", None) == 404:
        return ImageError("missing", "no such file. Check the address")
    reason = f"cannot be fetched ({say(cause)}). Check the address, and your rights to it"
    return ImageError("unreadable", reason)
