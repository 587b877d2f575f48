"""What does it cost to make the model's pixels of a picture, by decoder, size and format?

Encoded bytes in memory to 64×64 RGB, one picture after the other on one thread. What comes out is
held against Pillow's full decoding and antialiased resize, and so are the embedded model's answers
to it. Photos are mosaics of enlarged faces: of them the answers mean nothing, but may change.
"""

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.environments import PeerError
from benchmarks.measuring import Contender, Timing, in_turns
from benchmarks.pictures import make_faces, make_photos, sources
from benchmarks.results import Result
from benchmarks.tables import NOT_STABLE, markdown, tilde
from benchmarks.turns.serving import per_picture
from benchmarks.turns.worker import Worker, WorkerError
from benchmarks.workplace import EMBEDDED, Workplace
from gclf_runtime import images, jpeg
from gclf_runtime.session import OnnxSession

_SIDE = 64
_SMALL = {"400×400": (400, 400, 40), "800×600": (800, 600, 20)}
_LARGE = {"1600×1200": (1600, 1200, 12), "4000×3000": (4000, 3000, 3)}  # and how many
_OURS, _REFERENCE = "gclf", "Pillow"
_USUAL = "1600×1200"  # of the photos drawn
_PEERS = {"torchvision": "torchvision_decoding", "OpenCV": "opencv_decoding"}

_Decoder = Callable[[bytes], NDArray[np.uint8]]


def measure(place: Workplace) -> tuple[list[dict[str, Any]], list[str]]:
    """Let the decoders take turns over each kind of picture."""
    found: list[str] = []
    rows: list[dict[str, Any]] = []
    session = OnnxSession(EMBEDDED, device="cpu")
    if jpeg.library is None:
        found.append("simplejpeg is not installed: ours is Pillow alone")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        kinds = list(_pictures(place, Path(name)))
        is_alone = place.quick or not place.with_peers
        workers = [] if is_alone else _peers(stack, kinds[0][1], found)
        for kind, paths in kinds:
            turns, pixels = _contenders([path.read_bytes() for path in paths])
            for worker in workers:
                told = _told(worker, paths, Path(name) / "pixels.npy")
                turns |= told[0]
                pixels |= told[1]
            timings = in_turns(turns, place.rule)
            rows += [_row(kind, len(paths), n, t, pixels, session) for n, t in timings.items()]
    return rows, found


def _pictures(place: Workplace, folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """Yield each kind of picture, with its files."""
    faces = sources(place.data)
    count = 50 if place.quick else 500
    crops = sorted(make_faces(faces, folder / "faces", count).rglob("*.jpg"))
    yield "face, 80-200", crops
    if not place.quick:
        yield "face, PNG", [_as_png(path) for path in crops[:200]]
    kinds = {"800×600": (800, 600, 5)} if place.quick else _SMALL | _LARGE
    for kind, (width, height, count) in kinds.items():
        photos = make_photos(faces, folder / f"photos-{width}", count, size=(width, height))
        yield f"photo, {kind}", sorted(photos.rglob("*.jpg"))


def _as_png(path: Path) -> Path:
    target = path.with_suffix(".png")
    with Image.open(path) as image:
        image.save(target)
    return target


def _contenders(
    encoded: list[bytes],
) -> tuple[dict[str, Contender], dict[str, NDArray[np.uint8]]]:
    """Return the turns and the pixels of those who run here."""
    is_jpeg = encoded[0][:2] == b"\xff\xd8"
    decoders: dict[str, _Decoder] = {_OURS: images.load}
    if is_jpeg:
        decoders |= {"gclf, Pillow alone": _ours_by_pillow, "Pillow, draft": _drafted}
    decoders[_REFERENCE] = _as_everyone
    turns = {name: partial(_timed, decode, encoded) for name, decode in decoders.items()}
    pixels = {n: np.stack([decode(data) for data in encoded]) for n, decode in decoders.items()}
    return turns, pixels


def _timed(decode: _Decoder, encoded: list[bytes]) -> float:
    return per_picture(
        [lambda: [decode(data) for data in encoded]],
        pictures=len(encoded),
        at_least_s=0.0,
    )


def _as_everyone(data: bytes) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return np.array(image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR))


def _drafted(data: bytes) -> NDArray[np.uint8]:
    """As Pillow's documentation has thumbnails: the smallest scale that is no smaller."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (_SIDE, _SIDE))
    return np.array(image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR))


def _ours_by_pillow(data: bytes) -> NDArray[np.uint8]:
    library, jpeg.library = jpeg.library, None
    try:
        return images.load(data)
    finally:
        jpeg.library = library


def _peers(stack: ExitStack, pictures: list[Path], found: list[str]) -> list[Worker]:
    workers: list[Worker] = []
    for name, module in _PEERS.items():
        try:
            worker = stack.enter_context(Worker(module))
            worker.ask(do="names", pictures=[str(path) for path in pictures])
            workers.append(worker)
        except (PeerError, WorkerError) as error:
            found.append(f"{name} did not run: {' '.join(str(error).split())}")
    return workers


def _told(
    worker: Worker, paths: list[Path], pixels: Path
) -> tuple[dict[str, Contender], dict[str, NDArray[np.uint8]]]:
    """Return the turns and the pixels of those who run elsewhere."""
    asked = {"pictures": [str(path) for path in paths], "pixels": str(pixels)}
    turns: dict[str, Contender] = {}
    found: dict[str, NDArray[np.uint8]] = {}
    for name in worker.ask(do="names", **asked):
        worker.ask(do="pixels", name=name, **asked)
        found[name] = np.load(pixels)
        turns[name] = partial(worker.ask, do="turn", name=name, **asked)
    return turns, found


def _row(
    kind: str,
    pictures: int,
    name: str,
    timing: Timing,
    pixels: dict[str, NDArray[np.uint8]],
    session: OnnxSession,
) -> dict[str, Any]:
    distance = np.abs(pixels[name].astype(np.int16) - pixels[_REFERENCE])
    ours_nk, theirs_nk = (session.run(pixels[n])[0] for n in (name, _REFERENCE))
    changed = float((ours_nk.argmax(1) != theirs_nk.argmax(1)).mean())
    return {
        "picture": kind,
        "pictures": pictures,
        "who": name,
        "mean_difference": float(distance.mean()),
        "max_difference": int(distance.max()),
        "changed_answers": changed,
        "max_dp": float(np.abs(ours_nk - theirs_nk).max()),
        "seconds": timing.record(),
    }


def tables(result: Result) -> str:
    """Return microseconds per picture, and how far the pixels are from Pillow's."""
    kinds = list(dict.fromkeys(row["picture"] for row in result.rows))
    names = list(dict.fromkeys(row["who"] for row in result.rows))
    rows = {(row["who"], row["picture"]): row for row in result.rows}
    times = [
        [name, *(_cell(rows.get((name, kind)), _microseconds) for kind in kinds)] for name in names
    ]
    apart = [
        [name, *(_cell(rows.get((name, kind)), _difference) for kind in kinds)] for name in names
    ]
    return "\n\n".join(
        (
            "Microseconds per picture, one thread:",
            markdown(["", *kinds], times),
            "Distance to Pillow's pixels, mean (max) of 255, and answers that change:",
            markdown(["", *kinds], apart),
            NOT_STABLE,
        )
    )


def _cell(row: dict[str, Any] | None, say: Callable[[dict[str, Any]], str]) -> str:
    return "" if row is None else say(row)


def _microseconds(row: dict[str, Any]) -> str:
    return f"{tilde(row['seconds'])}{row['seconds']['median'] * 1e6:,.0f}"


def _difference(row: dict[str, Any]) -> str:
    return (
        f"{row['mean_difference']:.2f} ({row['max_difference']}), "
        f"{row['changed_answers']:.1%} of {row['pictures']}"
    )


def plot(result: Result, path: Path) -> None:
    """Draw microseconds of the smallest and of the usual large picture."""
    from benchmarks.plots import bars

    kinds = list(dict.fromkeys(row["picture"] for row in result.rows))
    drawn = [kinds[0], *(kind for kind in kinds[1:] if kind.endswith(_USUAL))]
    groups: dict[str, dict[str, tuple[float, float, float]]] = {}
    for row in result.rows:
        if row["picture"] in drawn:
            taken = [row["seconds"][end] * 1e6 for end in ("median", "low", "high")]
            title = f"{row['picture']}: µs per picture, one thread"
            groups.setdefault(title, {})[row["who"]] = (taken[0], taken[1], taken[2])
    bars(groups, path, marked="gclf")
