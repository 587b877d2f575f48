"""What does the network alone do per second, by batch, threads, precision and who runs it?

From pixels in memory to probabilities. With one thread everybody has one caller. With all cores
ours has a caller per core and a thread for each, as the pipeline calls it, and so has onnxruntime
once more; OpenVINO has as many requests at a time as suit it. The others have one caller, and
compute on threads of their own.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.environments import PeerError
from benchmarks.measuring import in_turns
from benchmarks.pictures import sources
from benchmarks.results import Result
from benchmarks.tables import NOT_STABLE, bound_of, markdown, plain, times
from benchmarks.turns.worker import Worker, WorkerError
from benchmarks.workplace import EMBEDDED, Workplace
from gclf_runtime import images
from gclf_runtime.cpus import available_cpus

_BATCHES, _FEW, _ONE = (1, 8, 16, 64, 256), (1, 16, 256), (16,)
_TURN_S = 0.15
BUDGET_S = 8.0  # of one comparison; there are some twenty
_CHECKED = 16  # pictures whose answers are compared
_OTHERWISE = 0.01  # a probability further from ours is no rounding
_OURS = "gclf"
_RAW, _RAW_CALLERS = "onnxruntime", "onnxruntime, a caller per core"


@dataclass(frozen=True)
class _Contender:
    """Who runs what: a module of the peers, a file or folder, and how."""

    name: str
    module: str
    model: Path
    variant: str = ""
    batches: tuple[int, ...] = _BATCHES
    least_threads: int = 1

    def takes(self, *, threads: int, batch: int) -> bool:
        return threads >= self.least_threads and batch in self.batches

    def ask(self, worker: Worker, **request: Any) -> Any:
        return worker.ask(model=str(self.model), variant=self.variant, **request)


@dataclass(frozen=True)
class _Comparison:
    """A network in one precision, and all who run it; ours is the first."""

    network: str
    precision: str
    batches: tuple[int, ...]
    contenders: list[_Contender]


def measure(place: Workplace) -> tuple[list[dict[str, Any]], list[str]]:
    """Let all who run the same network take turns."""
    found: list[str] = []
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        pixels = Path(name) / "pixels.npy"
        np.save(pixels, _faces(place, max(_BATCHES)))
        workers: dict[str, Worker | None] = {}
        for comparison in _comparisons(place, found):
            for contender in comparison.contenders:
                if contender.name not in workers:
                    workers[contender.name] = _start(contender, stack, found)
            able = {name: worker for name, worker in workers.items() if worker}
            rows += _compare(comparison, able, pixels, place, found)
    return rows, found


def _faces(place: Workplace, count: int) -> NDArray[np.uint8]:
    paths = list(islice(sources(place.data), count))
    return np.resize(np.stack([images.load(path) for path in paths]), (count, 64, 64, 3))


def _start(contender: _Contender, stack: ExitStack, found: list[str]) -> Worker | None:
    """Start its process, or say why there is none."""
    try:
        return stack.enter_context(Worker(contender.module))
    except PeerError as error:
        found.append(f"{contender.name} did not run: {' '.join(str(error).split())}")
        return None


def _comparisons(place: Workplace, found: list[str]) -> Iterator[_Comparison]:
    same_file = partial(_same_file, with_peers=place.with_peers)
    embedded = same_file(EMBEDDED)
    yield _Comparison("embedded", "int8", (1, 16) if place.quick else _BATCHES, embedded)
    if place.quick:
        return
    if not which("g++"):
        found.append("torch.compile was left out: there is no C++ compiler")
    for network, batches in (("cnn", _FEW), ("resnet10", _ONE)):
        folder = place.models(network)
        everybody = same_file(folder / "gclf.onnx")
        everybody += _floats(folder, is_compiled=network == "cnn" and bool(which("g++")))
        yield _Comparison(network, "fp32", batches, everybody)
        yield _Comparison(network, "int8", _ONE, same_file(folder / "gclf.int8.onnx"))


def _same_file(model: Path, *, with_peers: bool) -> list[_Contender]:
    raw = partial(_Contender, module="onnxruntime_network", model=model)
    openvino = partial(_Contender, module="openvino_network", model=model)
    contenders = [
        _Contender(_OURS, "gclf_network", model),
        raw(_RAW),
        raw(_RAW_CALLERS, variant="a caller per core", least_threads=2),
    ]
    peers = [openvino("OpenVINO, f32", variant="f32"), openvino("OpenVINO", variant="default")]
    return [*contenders, *(peers if with_peers else [])]


def _floats(folder: Path, *, is_compiled: bool) -> list[_Contender]:
    """Return those who are given floats, in NCHW, made beforehand."""
    torch = partial(_Contender, module="torch_network", model=folder)
    contenders = [
        _Contender("onnxruntime, float NCHW", "onnxruntime_network", folder / "nchw.onnx"),
        torch("torch eager", variant="eager"),
        torch("torch channels_last", variant="channels_last"),
        torch("torch bf16", variant="bf16"),
    ]
    # It compiles for half a minute for each batch.
    compiled = torch("torch.compile", variant="compile", batches=_ONE)
    return [*contenders, compiled] if is_compiled else contenders


def _compare(
    comparison: _Comparison,
    workers: dict[str, Worker],
    pixels: Path,
    place: Workplace,
    found: list[str],
) -> list[dict[str, Any]]:
    request = {"do": "turn", "pixels": str(pixels), "at_least_s": 0.02 if place.quick else _TURN_S}
    differences = _differences(comparison, workers, request, found)
    rule = replace(place.rule, budget_s=BUDGET_S)
    rows: list[dict[str, Any]] = []
    for threads in (1,) if place.quick else sorted({1, available_cpus()}):
        for batch in comparison.batches:
            here = {"threads": threads, "batch": batch}
            able = [
                each
                for each in comparison.contenders
                if each.name in differences and each.takes(**here)
            ]
            turns = {e.name: partial(e.ask, workers[e.name], **request, **here) for e in able}
            for name, timing in in_turns(turns, rule).items():
                row = {"network": comparison.network, "precision": comparison.precision, **here}
                row |= {"who": name, "max_dp": differences[name], "seconds": timing.record()}
                versions = workers[name].versions
                rows.append(row | ({"versions": versions} if versions else {}))
    return rows


def _differences(
    comparison: _Comparison, workers: dict[str, Worker], request: dict[str, Any], found: list[str]
) -> dict[str, float]:
    """Return how far each is from our probabilities at most; who cannot answer is left out."""
    asked = request | {"do": "answer", "threads": 1, "batch": _CHECKED}
    differences: dict[str, float] = {}
    ours_nk: NDArray[np.float64] | None = None
    what = f"on {comparison.network} {comparison.precision}"
    for contender in comparison.contenders:
        if contender.name not in workers:
            continue
        try:
            answer_nk = np.array(contender.ask(workers[contender.name], **asked))
        except WorkerError as error:
            found.append(f"{contender.name} did not run {what}: {error}")
            continue
        ours_nk = answer_nk if ours_nk is None else ours_nk
        differences[contender.name] = float(np.abs(answer_nk - ours_nk).max())
        if differences[contender.name] > _OTHERWISE:
            found.append(
                f"{contender.name} answers otherwise {what}: probabilities differ by up to "
                f"{differences[contender.name]:.3f}"
            )
    return differences


def tables(result: Result) -> str:
    """Return pictures per second, a table for each network, precision and number of threads."""
    parts: list[str] = []
    bound = bound_of(result.conditions)
    for (network, precision, threads), rows in _groups(result).items():
        batches = sorted({row["batch"] for row in rows})
        by = {(row["who"], row["batch"]): row["seconds"] for row in rows}
        lines = [
            [row["who"], *_cells(by, row["who"], batches), f"{row['max_dp']:.1g}"]
            for row in {row["who"]: row for row in rows}.values()
        ]
        ratios = [times(_best_raw(by, b), by[_OURS, b], bound=bound) for b in batches]
        lines.append(["gclf is", *ratios, ""])
        header = [_threads(threads), *(f"batch {batch}" for batch in batches), "max \\|Δp\\|"]
        title = f"{network}, {precision}, pictures per second:"
        parts.append(f"{title}\n\n{markdown(header, lines)}")
    ratio = f"`gclf is`: times as fast as {_RAW}, in the faster of its ways at that batch."
    return "\n\n".join([*parts, ratio, NOT_STABLE])


def _best_raw(by: dict[tuple[str, int], dict[str, Any]], batch: int) -> dict[str, Any]:
    found = (by[who, batch] for who in (_RAW, _RAW_CALLERS) if (who, batch) in by)
    return min(found, key=lambda seconds: seconds["median"])


def plot(result: Result, path: Path) -> None:
    """Draw pictures per second by batch, a panel for each table of several batches."""
    from benchmarks.plots import lines

    groups: dict[str, dict[str, dict[int, float]]] = {}
    for (network, precision, threads), rows in _groups(result).items():
        if len({row["batch"] for row in rows}) > 1:
            title = f"{network} {precision}, {_threads(threads)}: pictures/s"
            for row in rows:
                line = groups.setdefault(title, {}).setdefault(row["who"], {})
                line[row["batch"]] = 1 / row["seconds"]["median"]
    lines(groups, path, over="batch", marked=_OURS)


def _groups(result: Result) -> dict[tuple[str, str, int], list[dict[str, Any]]]:
    groups: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for row in result.rows:
        groups.setdefault((row["network"], row["precision"], row["threads"]), []).append(row)
    return groups


def _cells(by: dict[tuple[str, int], dict[str, Any]], who: str, batches: list[int]) -> list[str]:
    return [plain(by[who, batch], 1) if (who, batch) in by else "" for batch in batches]


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"
