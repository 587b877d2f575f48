"""Does gclf-infer keep its promises? Each is tried by real runs, and its figures are printed.

    uv run python benchmarks/reliability.py [PROMISE ...] [--quick] [--seed 0]

Prints Markdown, a line per promise and trial: what was promised, what was tried, what came of it.
Exits 1 when a promise is broken. All of them take some twelve minutes on two cores, --quick about
one; with names, only those are tried. Pictures are made in a temporary folder; bad pictures and
hostile models come from --shared. It needs Linux. The full tmpfs needs user namespaces and says so
where there are none; root needs setpriv (util-linux) to try a file that may not be read.
"""

import argparse
import csv
import json
import os
import platform
import random
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from importlib import import_module, resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gclf_runtime import Classifier, FileResult, ImageError, ModelError, OutputError, Prediction
from gclf_runtime import images as decoding
from gclf_runtime.cpus import available_cpus
from gclf_runtime.items import Item
from gclf_runtime.model_file import read_model
from gclf_runtime.sinks.files import RowFile
from gclf_runtime.sinks.rows import Columns, CsvCodec, JsonLinesCodec

_COMMAND = str(Path(sys.executable).with_name("gclf-infer"))
_SUFFIXES = (".csv", ".jsonl", ".parquet")
_EXIT_SECONDS = 2.0  # from the signal to the end
_LOAD_SECONDS = 1.0  # to refuse a hostile model
_SIDE_BY_SIDE = 2  # runs at once, of one worker each

# Started by a small process: the peak of a child counts what its parent held when it forked.
_MEASURED = """
import os, resource, subprocess, sys, time
answer, limit, *command = sys.argv[1:]
if int(limit) >= 0:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
start = time.perf_counter()
process = subprocess.Popen(command)
_, status, usage = os.wait4(process.pid, 0)
code = os.waitstatus_to_exitcode(status)
os.write(int(answer), f"{code} {time.perf_counter() - start} {usage.ru_maxrss}".encode())
"""


@dataclass(frozen=True)
class Figure:
    """A line of the table."""

    promise: str
    tried: str
    result: str
    is_kept: bool


@dataclass(frozen=True)
class Setting:
    """Where to try, how much, and with what."""

    scratch: Path
    shared: Path
    seed: int
    is_quick: bool

    def count(self, few: int, many: int) -> int:
        """Choose between a quick look and the whole."""
        return few if self.is_quick else many

    def folder(self, name: str) -> Path:
        """Make a fresh folder."""
        path = self.scratch / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path


@dataclass(frozen=True)
class Run:
    """A command that came to its end."""

    code: int
    seconds: float
    peak_mb: float
    stderr: str

    @property
    def is_tidy(self) -> bool:
        """Whether it said no more than lines meant for a reader."""
        return "Traceback" not in self.stderr and len(self.stderr.splitlines()) <= 6

    @property
    def is_refusal(self) -> bool:
        """Whether it failed as it should: exit code 1, and one line that begins so."""
        lines = self.stderr.splitlines()
        return self.code == 1 and len(lines) == 1 and lines[0].startswith("error: ")


def run(
    *arguments: str | Path,
    prefix: tuple[str, ...] = (),
    limit_bytes: int = -1,
    env: dict[str, str] | None = None,
    watch: Callable[[], None] | None = None,
) -> Run:
    """Run gclf-infer to its end, with no file larger than `limit_bytes` if that is not negative."""
    answer, told = os.pipe()
    words = [*prefix, _COMMAND, *map(str, arguments), "--device", "cpu"]
    with os.fdopen(answer) as record:
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", _MEASURED, str(told), str(limit_bytes), *words],
            pass_fds=(told,),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,  # a file would have the limit too
            env=os.environ | (env or {}),
            text=True,
            errors="replace",
        )
        os.close(told)
        if watch:
            watch()
        stderr = process.communicate()[1]
        code, seconds, kilobytes = record.read().split()
        return Run(int(code), float(seconds), float(kilobytes) / 1024, stderr)


def make_pictures(folder: Path, count: int, *, side: int = 64, seed: int = 0) -> Path:
    """Make pictures that get different answers: coarse noise, enlarged."""
    folder.mkdir(parents=True)
    chance = np.random.default_rng(seed)
    for number in range(count):
        noise = chance.integers(0, 256, (6, 6, 3), np.uint8)
        picture = Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number:05}.jpg", quality=85)
    return folder


def names_in(rows: Path) -> Counter[str]:
    """Count the rows of each input; a row that is no whole one is an error."""
    if rows.suffix == ".parquet":
        parquet: Any = import_module("pyarrow.parquet")
        return Counter(parquet.read_table(rows)["path"].to_pylist())
    if rows.suffix == ".jsonl":
        with rows.open(encoding="utf-8") as lines:
            return Counter(json.loads(line)["path"] for line in lines)
    with rows.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        header, *others = list(csv.reader(file, strict=True)) or [[]]
    if any(len(row) != len(header) for row in others):
        raise ValueError(f"{rows} holds a row of another length")
    return Counter(row[0] for row in others)


def is_whole(rows: Path) -> bool:
    """Tell whether a file of rows, or none, can be read and ends with a whole row."""
    try:
        content = rows.read_bytes()
        return not content or (content.endswith(b"\n") and names_in(rows).total() >= 0)
    except FileNotFoundError:
        return True
    except ValueError:
        return False


def _lines_of(output: Path) -> Path:
    """Name the file that grows while a run goes on."""
    is_parquet = output.suffix == ".parquet"
    return output.with_name(f"{output.name}.rows.jsonl") if is_parquet else output


# Promises


def bad_files(setting: Setting) -> Iterator[Figure]:
    """Try every shared bad image, and what a file system can hold beside pictures."""
    promise = "one row per file, whatever the file is; no crash"
    folder, output = setting.shared / "bad_images", setting.folder("bad-rows") / "rows.csv"
    files = [str(path) for path in folder.rglob("*") if path.is_file()]
    done = run("--batch", folder, "--all-files", "--output", output)
    lost, doubled = _difference(Counter(files), names_in(output))
    yield Figure(
        promise,
        f"{len(files)} public bad or odd images",
        f"{lost} rows lost, {doubled} doubled, {_crashes([done])} crashes, peak "
        f"{done.peak_mb:.0f} MB, {len(done.stderr.splitlines())} lines on stderr",
        not lost and not doubled and done.code == 3 and done.is_tidy,
    )
    yield from _odd_files(setting, promise)


def _odd_files(setting: Setting, promise: str) -> Iterator[Figure]:
    folder = setting.folder("odd")
    expected = _make_odd_files(folder)
    # Root reads everything, unless it gives up the right to.
    blinders = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    prefix = blinders if os.geteuid() == 0 and shutil.which("setpriv") else ()
    if not prefix and os.geteuid() == 0:
        os.unlink(folder / "unreadable.jpg")
        del expected["unreadable.jpg"]
    names = ", ".join(ascii(name[:20]) for name in expected)
    wrong: list[str] = []
    runs: list[Run] = []
    for env in ({}, {"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}):
        output = setting.folder("odd-rows") / "rows.csv"
        arguments = ("--batch", folder, "--all-files", "--output", output)
        runs.append(run(*arguments, prefix=prefix, env=env))
        with output.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = list(csv.reader(file, strict=True))[1:]
        found = {os.path.relpath(row[0], folder): row[3] or "answer" for row in rows}
        wrong += [f"{n!r}: {found.get(n)}" for n, kind in expected.items() if found.get(n) != kind]
        wrong += [f"{len(rows)} rows" for _ in [0] if len(rows) != len(expected)]
    yield Figure(
        promise,
        f"{len(expected)} hand-made entries ({names}), in three locales",
        f"{len(wrong)} rows lost or wrong {wrong or ''}, {_crashes(runs)} crashes, peak "
        f"{max(r.peak_mb for r in runs):.0f} MB, at most {max(r.seconds for r in runs):.1f} s",
        not wrong and all(r.code == 3 and r.is_tidy for r in runs),
    )


def _make_odd_files(folder: Path) -> dict[str, str]:
    """Make entries of every sort; return by name the answer or error that each must get."""
    good = make_pictures(folder / "folder.jpg", 1) / "00000.jpg"
    data = good.read_bytes()
    expected = {"folder.jpg/00000.jpg": "answer"}
    for name in ("a.jpg", "z.jpg", os.fsdecode(b"\xff.jpg"), "new\nline.jpg", "re\rturn.jpg"):
        (folder / name).write_bytes(data)
        expected[name] = "answer"
    for name in ('quo"te.jpg', "com,ma.jpg", "ü.jpg", "no suffix", "x" * 251 + ".jpg"):
        (folder / name).write_bytes(data)
        expected[name] = "answer"
    # A picture of 200 megapixels is decoded at an eighth. Made elsewhere: it needs much memory.
    make = "import sys; from PIL import Image; Image.new('RGB', (16000, 12500)).save(sys.argv[1])"
    subprocess.run([sys.executable, "-c", make, str(folder / "200-megapixels.jpg")], check=True)
    os.mkfifo(folder / "fifo.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket.jpg"))
    (folder / "dangling.jpg").symlink_to("absent")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "parent").symlink_to(folder)  # not followed, and no file: no row
    (folder / "device.jpg").symlink_to("/dev/zero")
    (folder / "empty.jpg").touch()
    with (folder / "8-gb.jpg").open("wb") as file:
        file.write(data)
        file.truncate(8 * 2**30)
    (folder / "unreadable.jpg").write_bytes(data)
    (folder / "unreadable.jpg").chmod(0)
    (folder / "bomb.png").write_bytes(_bomb())
    (folder / "text.jpg").write_text("no picture")
    (folder / "cut.jpg").write_bytes(data[: len(data) // 2])
    return expected | {
        "200-megapixels.jpg": "answer",
        "fifo.jpg": "unreadable",
        "socket.jpg": "unreadable",
        "dangling.jpg": "missing",
        "loop.jpg": "unreadable",
        "device.jpg": "unreadable",
        "empty.jpg": "empty",
        "8-gb.jpg": "too_large",
        "unreadable.jpg": "unreadable",
        "bomb.png": "too_large",
        "text.jpg": "unsupported",
        "cut.jpg": "corrupt",
    }


def _bomb() -> bytes:
    """Build a PNG whose header announces 40 gigapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))


def neighbours(setting: Setting) -> Iterator[Figure]:
    """Compare each picture's answer alone with that in every batch, beside bad ones."""
    count, sizes = 100, [1, 2, 7, 64] if setting.is_quick else list(range(1, 65))
    folder = make_pictures(setting.folder("beside") / "good", count, side=100, seed=setting.seed)
    good = [Item(str(path)) for path in sorted(folder.iterdir())]
    bad = [Item(str(p)) for p in sorted((setting.shared / "bad_images").rglob("*")) if p.is_file()]
    alone = {r.path: _bits(r) for _, r in Classifier.default(batch_size=1).predict_items(good)}
    answers = {r.path: _bits(r) for _, r in Classifier.default(batch_size=1).predict_items(bad)}
    alone |= answers
    chance = random.Random(setting.seed)
    compared = changed = 0
    for size in sizes:
        items = [*good, *chance.sample(bad, 50)]
        chance.shuffle(items)
        for _, result in Classifier.default(batch_size=size).predict_items(items):
            compared += 1
            changed += _bits(result) != alone[result.path]
    yield Figure(
        "a picture's answer does not depend on its neighbours",
        f"{compared} answers: {count} good and 50 bad pictures, shuffled, in batches of "
        f"{sizes[0]} to {sizes[-1]}, against each picture alone",
        f"{changed} changed (every bit compared)",
        not changed,
    )


def _bits(result: FileResult) -> bytes:
    if result.prediction is None:
        return str(result.error and result.error.kind).encode()
    return result.prediction.probabilities_k.tobytes() + result.prediction.logits_k.tobytes()


def kills(setting: Setting) -> Iterator[Figure]:
    """Kill runs at random moments, once or several times each, and let them go on."""
    total = setting.count(8, 200)
    pictures = make_pictures(setting.folder("kills") / "in", setting.count(300, 1500), side=160)
    chance = random.Random(setting.seed)
    whole = {suffix: _undisturbed(setting, pictures, suffix) for suffix in _SUFFIXES}
    _, seconds, tree = _undisturbed(setting, pictures, ".csv", sort=True)
    trials: list[tuple[str, bool, list[float]]] = []
    times = (1,) if setting.is_quick else (1, 1, 2, 4)
    while (left := total - sum(len(moments) for *_, moments in trials)) > 0:
        suffix, sort = _SUFFIXES[len(trials) % 3], len(trials) % 2 == 1
        longest = seconds if sort else whole[suffix][1]
        moments = [chance.uniform(0, longest) for _ in range(min(left, chance.choice(times)))]
        trials.append((suffix, sort, moments))

    def one(number: int) -> "_Killed":
        suffix, sort, moments = trials[number]
        place = setting.folder(f"kill-{number}")
        return _kill(pictures, place, whole[suffix][0], suffix, moments, tree if sort else None)

    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        results = list(pool.map(one, range(len(trials))))
    for suffix in _SUFFIXES:
        own = [r for r, trial in zip(results, trials, strict=True) if trial[0] == suffix]
        yield Figure(
            "kill -9: `--resume` makes the undisturbed file, no row lost or doubled",
            f"{suffix}: {sum(r.kills for r in own)} kills in {len(own)} files (up to "
            f"{max((r.kills for r in own), default=0)} in one), "
            f"{sum(r.live for r in own)} before the end, {sum(r.amid for r in own)} of them "
            f"with rows on disk; {sum(r.is_sorted is not None for r in own)} "
            "files with --sort-into",
            f"{sum(r.lost for r in own)} rows lost, {sum(r.doubled for r in own)} doubled, "
            f"{sum(r.is_changed for r in own)} files with other bytes, "
            f"{sum(r.is_sorted is False for r in own)} other sorted trees, "
            f"{sum(r.leftovers for r in own)} unfinished files left behind",
            not any(r.is_changed or r.lost or r.doubled or r.is_sorted is False for r in own),
        )


@dataclass(frozen=True)
class _Killed:
    kills: int
    live: int
    amid: int
    lost: int
    doubled: int
    is_changed: bool
    is_sorted: bool | None
    leftovers: int


def _undisturbed(
    setting: Setting, pictures: Path, suffix: str, *, sort: bool = False
) -> tuple[bytes, float, dict[str, bytes]]:
    """Return the rows, the seconds and the sorted tree of a run that nobody disturbs."""
    place = setting.folder(f"whole{suffix}")
    done = run(*_arguments(pictures, place, suffix, sort=sort))
    if done.code:
        raise SystemExit(f"the undisturbed run failed: {done.stderr}")
    return (place / f"rows{suffix}").read_bytes(), done.seconds, _tree(place / "sorted")


def _arguments(pictures: Path, place: Path, suffix: str, *, sort: bool = False) -> list[str]:
    words = ["--batch", str(pictures), "--output", str(place / f"rows{suffix}"), "--threads", "1"]
    return [*words, "--sort-into", str(place / "sorted")] if sort else words


def _kill(
    pictures: Path,
    place: Path,
    whole: bytes,
    suffix: str,
    moments: list[float],
    tree: dict[str, bytes] | None,
) -> _Killed:
    output = place / f"rows{suffix}"
    arguments = [*_arguments(pictures, place, suffix, sort=tree is not None), "--resume"]
    live = amid = 0
    for moment in moments:
        process = _start(arguments)
        time.sleep(moment)
        process.kill()
        process.communicate()
        is_live = process.returncode == -signal.SIGKILL
        live += is_live
        lines = _lines_of(output)
        amid += is_live and lines.exists() and lines.read_bytes().count(b"\n") > 1
    run(*arguments)
    is_there = output.exists()
    expected = Counter(str(path) for path in pictures.iterdir())
    lost, doubled = _difference(expected, names_in(output) if is_there else Counter())
    found = _tree(place / "sorted")
    leftovers = [path for path in place.rglob(".*") if path.is_file()]
    is_sorted = None if tree is None else found == tree
    is_changed = not is_there or output.read_bytes() != whole
    shutil.rmtree(place)
    return _Killed(len(moments), live, amid, lost, doubled, is_changed, is_sorted, len(leftovers))


def _start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [_COMMAND, *arguments, "--device", "cpu"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _difference(expected: Counter[str], found: Counter[str]) -> tuple[int, int]:
    """Count the rows that are missing, and those that are there too often."""
    return (expected - found).total(), (found - expected).total()


def _tree(folder: Path) -> dict[str, bytes]:
    """Return what lies below a folder, apart from what is hidden."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."]
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).digest() for path in files}


def signals(setting: Setting) -> Iterator[Figure]:
    """Stop runs at random moments by Ctrl-C and by SIGTERM, and let them go on."""
    base = setting.folder("signals")
    small = make_pictures(base / "small", setting.count(300, 1500), side=160)
    few = make_pictures(base / "few", 100)
    noise = np.random.default_rng(0).integers(0, 256, (400, 500, 3), np.uint8)
    (base / "big").mkdir()
    # A picture of this size keeps a worker busy for half a second.
    Image.fromarray(noise).resize((6000, 4800)).save(base / "big" / "00.png", compress_level=1)
    for number in range(1, setting.count(2, 12)):
        os.link(base / "big" / "00.png", base / "big" / f"{number:02}.png")
    for name, pictures, count, longest in (
        ("small pictures", small, setting.count(4, 40), None),
        ("pictures of 29 megapixels", base / "big", setting.count(2, 12), None),
        ("the first 0.3 s, which is start-up", few, setting.count(6, 60), 0.3),
    ):
        yield _stop(setting, name, pictures, count, longest)


def _stop(setting: Setting, name: str, pictures: Path, count: int, longest: float | None) -> Figure:
    chance = random.Random(setting.seed)
    codes, slowest, own_tracebacks, python_tracebacks = Counter[int](), 0.0, 0, 0
    cut = orphans = changed = noisy = 0
    suffixes = (".csv",) if setting.is_quick else (".csv", ".jsonl")
    whole = {suffix: _undisturbed(setting, pictures, suffix)[:2] for suffix in suffixes}
    for number in range(count):
        sent = (signal.SIGINT, signal.SIGTERM)[number % 2]
        suffix = suffixes[number // 2 % len(suffixes)]
        place = setting.folder("stopped")
        arguments = _arguments(pictures, place, suffix)
        process = _start(arguments)
        time.sleep(chance.uniform(0, longest or whole[suffix][1]))
        start = time.perf_counter()
        process.send_signal(sent)
        stderr = process.communicate()[1]
        slowest = max(slowest, time.perf_counter() - start)
        codes[process.returncode] += 1
        is_traceback = "Traceback" in stderr or "KeyboardInterrupt" in stderr
        # Before its first line, the interpreter is still starting itself.
        own_tracebacks += is_traceback and _COMMAND in stderr
        python_tracebacks += is_traceback and _COMMAND not in stderr
        noisy += process.returncode != 0 and len(stderr.splitlines()) > 1 and not is_traceback
        orphans += _lives(process.pid)
        output = place / f"rows{suffix}"
        cut += not is_whole(output)
        run(*arguments, "--resume")
        changed += output.read_bytes() != whole[suffix][0]
    expected = {0, 130, 143, -signal.SIGINT, -signal.SIGTERM}
    others = sum(n for code, n in codes.items() if code not in expected)
    return Figure(
        f"Ctrl-C, SIGTERM: exit 130 and 143 within {_EXIT_SECONDS:.0f} s, whole rows, --resume",
        f"{name}: {count} signals ({codes[0]} came too late)",
        f"at most {slowest:.2f} s; exit codes "
        f"{', '.join(f'{code} ({n})' for code, n in sorted(codes.items()))}; {cut} files with a "
        f"cut row, {orphans} orphans, {changed} resumed to other bytes, {own_tracebacks} "
        f"tracebacks ({python_tracebacks} more from Python before the command's first line)",
        not (others or cut or orphans or changed or own_tracebacks or noisy)
        and slowest < _EXIT_SECONDS,
    )


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def disk_full(setting: Setting) -> Iterator[Figure]:
    """Let the disk be full at every byte; go on when there is room."""
    promise = "disk full: exit code 1, one line, and --resume completes the file"
    for suffix in (".csv", ".jsonl"):
        yield _every_byte(setting, promise, suffix)
    pictures = make_pictures(setting.folder("full") / "in", 100)
    for suffix in _SUFFIXES:
        yield _limited_command(setting, promise, pictures, suffix)
    yield _full_tmpfs(setting, promise)
    yield _full_devices(setting, pictures)


def _every_byte(setting: Setting, promise: str, suffix: str) -> Figure:
    """Write a small file within this process, with the limit at each of its bytes."""
    path = setting.folder("bytes") / f"rows{suffix}"
    _write_rows(path, resume=False)
    whole = path.read_bytes()
    refused = broken = 0
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    offsets = range(0, len(whole), setting.count(37, 1))
    for offset in offsets:
        resource.setrlimit(resource.RLIMIT_FSIZE, (offset, limits[1]))
        try:
            _write_rows(path, resume=False)
        except OutputError:
            refused += 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        is_cut = not is_whole(path)
        _write_rows(path, resume=True)
        broken += is_cut or path.read_bytes() != whole
    return Figure(
        promise,
        f"{suffix}, the file of rows alone: RLIMIT_FSIZE at {len(offsets)} byte offsets of "
        f"{len(whole)}",
        f"{refused} refused, {broken} cut rows or other bytes after --resume",
        refused == len(offsets) and not broken,
    )


def _write_rows(path: Path, *, resume: bool) -> None:
    names = ("cat", "dog")
    columns = Columns(label_names=names)
    codec = CsvCodec(columns) if path.suffix == ".csv" else JsonLinesCodec(columns)
    with RowFile(path, codec, {}, resume=resume, batch_size=4) as rows:
        done = sum(1 for _ in rows.old_rows()) if rows.is_resumed else 0
        for number in range(done, 12):
            p = np.float32(number / 100)
            values = np.array([p, 1 - p], np.float32)
            bad = ImageError("corrupt", "damaged") if number % 5 == 4 else None
            answer = None if bad else Prediction(names, values, values)
            rows.write(FileResult(f"{number}\n.jpg", answer, bad))
            if number % 2:
                rows.flush()


def _limited_command(setting: Setting, promise: str, pictures: Path, suffix: str) -> Figure:
    whole = _undisturbed(setting, pictures, suffix)[0]
    chance = random.Random(setting.seed)
    count = setting.count(2, 40)
    offsets = [0, 1, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(count))]

    def one(number: int) -> tuple[bool, bool]:
        place = setting.folder(f"limit-{number}")
        arguments = _arguments(pictures, place, suffix)
        first = run(*arguments, limit_bytes=offsets[number])
        second = run(*arguments, "--resume")
        output = place / f"rows{suffix}"
        is_same = second.code == 0 and output.read_bytes() == whole
        return first.is_refusal, is_same

    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        results = list(pool.map(one, range(len(offsets))))
    refused, same = (sum(column) for column in zip(*results, strict=True))
    return Figure(
        promise,
        f"{suffix}, the whole command: RLIMIT_FSIZE at {len(offsets)} offsets of {len(whole)}",
        f"{refused} exits 1 with one line, {len(offsets) - same} with other bytes after --resume",
        refused == same == len(offsets),
    )


_FILLED = """
size=$1 place=$2 kept=$3
shift 3
mount -t tmpfs -o size=$size tmpfs "$place" || exit 99
"$@" 2> "$kept/stderr"
echo $? > "$kept/codes"
mount -o remount,size=16m "$place"
"$@" --resume 2> /dev/null
echo $? >> "$kept/codes"
cp "$place"/rows.* "$kept"
"""


def _full_tmpfs(setting: Setting, promise: str) -> Figure:
    """Fill a real file system, in a namespace of its own, then enlarge it."""
    pictures = make_pictures(setting.folder("tmpfs") / "in", 600)
    place, kept = setting.folder("mount"), setting.folder("kept")
    sizes = ["8k"] if setting.is_quick else ["4k", "8k", "12k", "16k", "24k"]
    tried = bad = 0
    for suffix in _SUFFIXES:
        whole = _undisturbed(setting, pictures, suffix)[0]
        for size in sizes:
            arguments = [_COMMAND, *_arguments(pictures, place, suffix), "--device", "cpu"]
            words = ["unshare", "-rm", "sh", "-c", _FILLED, "sh", size, str(place), str(kept)]
            done = subprocess.run([*words, *arguments], capture_output=True, text=True)
            if done.returncode == 99 or "unshare" in done.stderr:
                return Figure(promise, "a full tmpfs", "not tried: no user namespaces here", True)
            codes = (kept / "codes").read_text().split()
            lines = (kept / "stderr").read_text().splitlines()
            is_same = (kept / f"rows{suffix}").read_bytes() == whole
            tried += 1
            bad += codes != ["1", "0"] or len(lines) != 1 or not is_same
    return Figure(
        promise,
        f"a tmpfs of {', '.join(sizes)}, then enlarged: {tried} runs, three forms",
        f"{bad} with another exit code, more lines, or other bytes after --resume",
        not bad,
    )


def _full_devices(setting: Setting, pictures: Path) -> Figure:
    full = setting.folder("device") / "rows.csv"
    full.symlink_to("/dev/full")
    codes: list[int] = [run("--batch", pictures, "--output", full).code]
    lines: list[int] = []
    base = [_COMMAND, "--batch", str(pictures), "--device", "cpu"]
    for arguments in (base, [*base, "--output", "-"]):
        for name in ("/dev/full", "closed pipe"):
            read, write = os.pipe()
            os.close(read)
            with os.fdopen(write, "wb") as closed, open("/dev/full", "wb") as device:
                stdout = device if name == "/dev/full" else closed
                done = subprocess.run(arguments, stdout=stdout, stderr=subprocess.PIPE, text=True)
            codes.append(done.returncode)
            lines.append(len(done.stderr.splitlines()))
    return Figure(
        "answers that cannot be written are no success",
        "/dev/full as --output; /dev/full and a closed pipe as standard output, as lines and rows",
        f"exit codes {codes}, lines on stderr {lines}",
        all(code == 1 for code in codes) and max(lines) <= 1,
    )


def inputs(setting: Setting) -> Iterator[Figure]:
    """Compare the tree of inputs before and after runs that write everything they can."""
    base = setting.folder("inputs")
    folder = make_pictures(base / "in", 200)
    shutil.copytree(setting.shared / "bad_images", folder / "bad")
    (folder / "link.jpg").symlink_to("00000.jpg")
    before = _portrait(folder)
    for number, more in enumerate((["--report", str(base / "page.html")], ["--link"])):
        output, place = base / f"{number}.csv", base / f"sorted-{number}"
        done = run("--batch", folder, "--output", output, "--sort-into", place, *more)
        if done.code != 3:
            raise SystemExit(f"the run failed: {done.stderr}")
    after = _portrait(folder)
    changed = sum(before.get(name) != after.get(name) for name in before | after)
    yield Figure(
        "the inputs are never changed",
        f"{len(before)} entries (name, content, mode, time of change), before and after runs with "
        "--sort-into, --link and --report",
        f"{changed} changed",
        not changed,
    )


def _portrait(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    portrait: dict[str, tuple[int, int, int, bytes]] = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        digest = sha256(content).digest()
        portrait[str(path)] = (status.st_mode, status.st_mtime_ns, status.st_ctime_ns, digest)
    return portrait


def threads(setting: Setting) -> Iterator[Figure]:
    """Share one classifier among many threads."""
    count, rounds = 64, setting.count(5, 60)
    classifier = Classifier.default(device="cpu")
    folder = make_pictures(setting.folder("threads") / "in", 64)
    paths = sorted(folder.iterdir())
    pixels = np.stack([decoding.load(path, classifier.spec.input) for path in paths])
    expected = [_answer_bits(prediction) for prediction in classifier.predict(pixels)]
    barrier = threading.Barrier(count)

    def ask(seed: int) -> tuple[int, int]:
        chance = random.Random(seed)
        barrier.wait()
        wrong = asked = 0
        for _ in range(rounds):
            chosen = chance.sample(range(len(paths)), chance.randint(1, 32))
            if seed % 8:
                answers = classifier.predict(pixels[chosen])
            else:
                answers = [r.prediction for r in classifier.predict_files(paths[i] for i in chosen)]
            asked += len(answers)
            found = [answer and _answer_bits(answer) for answer in answers]
            wrong += sum(a != expected[i] for a, i in zip(found, chosen, strict=True))
        return asked, wrong

    with ThreadPoolExecutor(count) as pool:
        asked, wrong = (sum(c) for c in zip(*pool.map(ask, range(count)), strict=True))
    yield Figure(
        "one Classifier serves any number of threads",
        f"{count} threads, {asked:,} answers from batches of 1 to 32 and from files",
        f"{wrong} wrong (every bit compared)",
        not wrong,
    )


def _answer_bits(prediction: Prediction) -> bytes:
    return prediction.probabilities_k.tobytes() + prediction.logits_k.tobytes()


_FORKS = {
    "os.fork, then os._exit": "pid = os.fork()\nif not pid: os._exit(ask())\n"
    "code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])",
    "os.fork, then sys.exit": "pid = os.fork()\nif not pid: sys.exit(ask())\n"
    "code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])",
    "os.fork, then del": "pid = os.fork()\n"
    "if not pid:\n    code = ask()\n    del classifier\n    gc.collect()\n    sys.exit(code)\n"
    "code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])",
    "multiprocessing, fork": "p = context.Process(target=lambda: sys.exit(ask()))\n"
    "p.start()\np.join()\ncode = p.exitcode",
    "multiprocessing.Pool, fork": "with context.Pool(2) as pool: code = max(pool.map(asked, '12'))",
    "os.fork amid predict_files": "stream = classifier.predict_files([picture] * 5000)\n"
    "next(stream)\npid = os.fork()\nif not pid: sys.exit(ask())\n"
    "code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\nstream.close()",
}
_FORKING = """
import gc, multiprocessing, os, sys, time, warnings
from gclf_runtime import Classifier, ProviderError
warnings.simplefilter("ignore")
context, picture = multiprocessing.get_context("fork"), sys.argv[1]
classifier = Classifier.default(device="cpu")
classifier.predict_images([picture])
def ask():
    codes = []
    for question in (lambda: classifier.predict_images([picture]),
                     lambda: list(classifier.predict_files([picture]))):
        try:
            question()
        except ProviderError as error:
            codes.append("after the fork" in str(error))
    return 7 if codes == [True, True] else 1
def asked(_): return ask()
start = time.perf_counter()
"""


def fork(setting: Setting) -> Iterator[Figure]:
    """Use a classifier in a forked child, and end the child in every way."""
    picture = make_pictures(setting.folder("fork") / "in", 1) / "00000.jpg"
    failures: list[str] = []
    slowest = 0.0
    rounds = setting.count(1, 5)
    for name, code in _FORKS.items():
        for _ in range(rounds):
            text = f"{_FORKING}{code}\nprint(code, time.perf_counter() - start)"
            try:
                done = subprocess.run(
                    [sys.executable, "-c", text, str(picture)],
                    capture_output=True,
                    text=True,
                    timeout=30,
                )
            except subprocess.TimeoutExpired:
                failures.append(f"{name}: hung")
                continue
            found, _, seconds = done.stdout.partition(" ")
            slowest = max(slowest, float(seconds or 0))
            if found != "7" or done.returncode or "Traceback" in done.stderr:
                failures.append(f"{name}: {done.stdout}{done.stderr[-200:]}")
    yield Figure(
        "a forked child gets a clear error, and ends",
        f"{len(_FORKS)} ways ({'; '.join(_FORKS)}), {rounds} times each",
        f"{len(failures)} without a ProviderError or hung {failures or ''}, at most "
        f"{slowest:.2f} s from fork to the child's end",
        not failures,
    )


_LISTING = """
import sys, tracemalloc
from pathlib import Path
from gclf_runtime.sources import find_images
tracemalloc.start()
count = sum(1 for _ in find_images(Path(sys.argv[1])))
print(count, tracemalloc.get_traced_memory()[1])
"""


def scale(setting: Setting) -> Iterator[Figure]:
    """Run over many files in one folder, and over few, and compare the memory."""
    few, many = 1000, setting.count(6000, 100_000)
    base = setting.folder("scale")
    sources = sorted(make_pictures(base / "in", 10).iterdir())
    peaks: list[float] = []
    traced: list[int] = []
    first_row = lost = doubled = 0
    seconds = 0.0
    for count in (few, many):
        folder, output = base / str(count), base / f"{count}.csv"
        folder.mkdir()
        for number in range(count):
            os.link(sources[number % 10], folder / f"picture-{number:07}.jpg")
        start = time.perf_counter()
        moment: list[float] = []
        done = run("--batch", folder, "--output", output, watch=partial(_await, output, moment))
        first_row, seconds = moment[0] - start, done.seconds
        peaks.append(done.peak_mb)
        expected = Counter(f"{folder}/picture-{number:07}.jpg" for number in range(count))
        lost, doubled = _difference(expected, names_in(output))
        listed = subprocess.run(
            [sys.executable, "-c", _LISTING, str(folder)],
            check=True,
            capture_output=True,
            text=True,
        )
        traced.append(int(listed.stdout.split()[1]))
    growth = (peaks[1] - peaks[0]) * 2**20 / (many - few)
    listing = (traced[1] - traced[0]) / (many - few)
    yield Figure(
        "memory hardly grows with the number of files, and rows come at once",
        f"{many:,} pictures in one folder against {few:,}",
        f"{growth:.0f} bytes of memory per listed file (peak {peaks[1]:.0f} MB against "
        f"{peaks[0]:.0f}; the listing alone {listing:.0f} bytes); first row after "
        f"{first_row:.2f} s of {seconds:.0f}; {lost} rows lost, {doubled} doubled",
        not lost and not doubled and (growth < 200 or setting.is_quick) and first_row < 5,
    )


def _await(output: Path, moment: list[float]) -> None:
    """Note when the first row is on disk."""
    while not output.exists() or output.read_bytes().count(b"\n") < 2:
        time.sleep(0.01)
    moment.append(time.perf_counter())


_LEAKING = """
import os, sys
from itertools import cycle, islice
from pathlib import Path
from gclf_runtime import Classifier
count, paths = int(sys.argv[2]), sorted(Path(sys.argv[1]).rglob("*"))
classifier = Classifier.default(device="cpu")
page = os.sysconf("SC_PAGE_SIZE")
for number, _ in enumerate(classifier.predict_files(islice(cycle(paths), count))):
    if number % 1000 == 999:
        with open("/proc/self/statm") as file:
            print(number + 1, int(file.read().split()[1]) * page)
"""


def leak(setting: Setting) -> Iterator[Figure]:
    """Follow the memory of one process over many pictures, broken ones among them."""
    # The resident size wanders by 3 MB either way: fewer pictures say little about a slope.
    count = setting.count(10_000, 600_000)
    folder = make_pictures(setting.folder("leak") / "in", 90)
    for number in range(10):
        (folder / f"cut-{number}.jpg").write_bytes((folder / f"{number:05}.jpg").read_bytes()[:500])
    done = subprocess.run(
        [sys.executable, "-c", _LEAKING, str(folder), str(count)],
        check=True,
        capture_output=True,
        text=True,
    )
    points = np.array([line.split() for line in done.stdout.splitlines()], float)
    later = points[len(points) // 10 :]  # the first tenth warms up
    least, most = later[:, 1].min() / 2**20, later[:, 1].max() / 2**20
    slope = float(np.polyfit(later[:, 0] / 1000, later[:, 1], 1)[0])
    yield Figure(
        "memory does not grow with the number of answers",
        f"{count:,} pictures in one process, a tenth of them broken",
        f"{slope:+,.0f} bytes per 1,000 pictures after the first tenth; {later[0, 1] / 2**20:.1f} "
        f"MB there, {later[-1, 1] / 2**20:.1f} at the end, {least:.1f} to {most:.1f} in between",
        slope < 10_000 or setting.is_quick,
    )


_OPENING = """
import sys, time
from gclf_runtime import Classifier, ModelError
import onnxruntime
for path in sys.argv[1:]:
    start = time.perf_counter()
    try:
        Classifier(path, device="cpu")
    except ModelError:
        print(time.perf_counter() - start)
"""


def models(setting: Setting) -> Iterator[Figure]:
    """Open hostile models, and copies of the embedded one with one bit flipped."""
    picture = make_pictures(setting.folder("models") / "in", 1) / "00000.jpg"
    files = sorted((setting.shared / "hostile_models").glob("*.onnx"))
    honest = [path for path in files if path.name == "ok.onnx"]
    hostile = [path for path in files if path not in honest]
    runs = [run("--model", path, picture) for path in hostile]
    refused = sum(r.is_refusal for r in runs)
    opened = subprocess.run(
        [sys.executable, "-c", _OPENING, *map(str, hostile)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    times = [float(line) for line in opened.stdout.split()]
    slowest = max(times, default=0)
    for path in honest:
        read_model(path.read_bytes(), path.name)  # the control: this one is let through
    yield Figure(
        "a hostile model is refused before onnxruntime sees it",
        f"{len(hostile)} files, {len(honest)} honest control let through",
        f"{refused} refused with one line; at most {slowest:.3f} s, "
        f"{max(r.seconds for r in runs):.2f} s for the whole command",
        refused == len(hostile) == len(times) and slowest < _LOAD_SECONDS,
    )
    embedded = (resources.files("gclf_runtime") / "models" / "gender.onnx").read_bytes()
    chance, count = random.Random(setting.seed), setting.count(100, 4000)
    caught = 0
    for _ in range(count):
        mutant = bytearray(embedded)
        mutant[chance.randrange(len(mutant))] ^= 1 << chance.randrange(8)
        try:
            read_model(bytes(mutant), "mutant.onnx")
        except ModelError:
            caught += 1
    yield Figure(
        "a damaged model is noticed",
        f"{count} copies of the embedded model with one random bit flipped",
        f"{caught} of {count} refused",
        caught == count,
    )


_AUDITED = """
import json, os, sys
inside, answer, *words = sys.argv[1:]
WATCHED = ("pickle.", "socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn",
           "os.fork", "os.startfile", "pty.", "ftplib.", "urllib.", "http.", "smtplib.")
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink",
           "os.truncate", "os.chmod", "os.chown", "os.utime")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
seen = {"events": 0, "watched": [], "outside": []}
def hook(event, arguments):
    seen["events"] += 1
    if event.startswith(WATCHED):
        seen["watched"].append(event)
    is_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES
    if is_write or event in CHANGES:
        path = arguments[-1 if event == "os.symlink" else 0]
        name = os.path.abspath(os.fsdecode(path)) if isinstance(path, (str, bytes)) else inside
        if not name.startswith(inside):
            seen["outside"].append(f"{event} {name}")
sys.addaudithook(hook)
sys.argv = ["gclf-infer", *words]
from gclf_runtime.cli import main
try:
    main()
finally:
    os.write(int(answer), json.dumps(seen).encode())
"""


def closed(setting: Setting) -> Iterator[Figure]:
    """Watch a whole batch run from within and, where strace is installed, from the system."""
    base = setting.folder("closed")
    pictures = make_pictures(base / "in", 100)
    home, place = base / "home", base / "out"
    home.mkdir()
    place.mkdir()
    homes = {name: str(home) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    env = os.environ | homes | {"PYTHONDONTWRITEBYTECODE": "1"}
    env |= {"XDG_STATE_HOME": str(home), "XDG_DATA_HOME": str(home)}
    arguments = [*_arguments(pictures, place, ".csv", sort=True), "--device", "cpu"]
    arguments += ["--report", str(place / "page.html")]
    answer, told = os.pipe()
    words = [sys.executable, "-c", _AUDITED, str(place), str(told), *arguments]
    done = subprocess.run(words, pass_fds=(told,), env=env, capture_output=True, text=True)
    os.close(told)
    with os.fdopen(answer) as file:
        seen = json.load(file)
    strays = [str(path) for path in home.rglob("*")]
    problems = [*seen["watched"], *seen["outside"], *strays]
    yield Figure(
        "no pickle, no network, no other program, nothing written elsewhere",
        f"a batch of 100 pictures with rows, --sort-into and --report: {seen['events']:,} audit "
        "events of Python; home and temporary folder looked into afterwards",
        f"{len(seen['watched'])} events of pickle, sockets or programs, {len(seen['outside'])} "
        f"writes outside the output folder, {len(strays)} files left elsewhere {problems or ''}",
        done.returncode == 0 and not problems,
    )
    yield _traced(base, arguments, env)


def _traced(base: Path, arguments: list[str], env: dict[str, str]) -> Figure:
    """Count what the libraries in C++ ask the system for: Python's audit cannot see them."""
    promise = "no network and no other program, by the libraries either"
    calls = "socket,connect,bind,sendto,sendmsg,execve"
    trace = base / "trace"
    words = ["strace", "-f", "-qq", "-e", f"trace={calls}", "-o", str(trace), _COMMAND, *arguments]
    if not shutil.which("strace"):
        return Figure(promise, "system calls by strace", "not tried: no strace here", True)
    subprocess.run(words, env=env, capture_output=True, check=True)
    lines = [line for line in trace.read_text().splitlines() if "(" in line]
    others = [line for line in lines if "execve(" not in line]
    programs = len(lines) - len(others)
    return Figure(
        promise,
        f"the same run under strace: {calls}",
        f"{len(others)} calls to sockets, {programs - 1} programs started",
        not others and programs == 1,
    )


def _crashes(runs: list[Run]) -> int:
    return sum(r.code not in (0, 3) for r in runs)


_PROMISES: dict[str, Callable[[Setting], Iterator[Figure]]] = {
    "bad-files": bad_files,
    "neighbours": neighbours,
    "kills": kills,
    "signals": signals,
    "disk-full": disk_full,
    "inputs": inputs,
    "threads": threads,
    "fork": fork,
    "scale": scale,
    "leak": leak,
    "models": models,
    "closed": closed,
}


def main() -> None:
    """Print the table; exit 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("promises", nargs="*", metavar="PROMISE", help=", ".join(_PROMISES))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    options = parser.parse_args()
    unknown = set(options.promises) - set(_PROMISES)
    if unknown:
        parser.error(f"no promise {', '.join(unknown)}. Name some of {', '.join(_PROMISES)}")
    print(_machine())
    print("\n| name | promise | tried | result | |\n|---|---|---|---|---|")
    broken = 0
    times: list[str] = []
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="reliability-") as folder:
        shared = options.shared.resolve()
        setting = Setting(Path(folder).resolve(), shared, options.seed, options.quick)
        for name in options.promises or _PROMISES:
            begin = time.perf_counter()
            for figure in _PROMISES[name](setting):
                verdict = "kept" if figure.is_kept else "**broken**"
                cells = (name, figure.promise, figure.tried, figure.result.strip(), verdict)
                print(f"| {' | '.join(cells)} |", flush=True)
                broken += not figure.is_kept
            times.append(f"{name} {time.perf_counter() - begin:.0f}")
    seconds = f"{time.perf_counter() - start:.0f} s ({', '.join(times)})"
    print(f"\n{seconds}, {broken} broken, seed {options.seed}")
    sys.exit(1 if broken else 0)


def _machine() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.split(": ")[1].strip() for line in file if line.startswith("model name")]
    packages = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "pillow", "numpy"))
    return (
        f"{available_cpus()} CPUs ({names[0] if names else platform.processor()}), "
        f"Python {platform.python_version()}, {packages}"
    )


if __name__ == "__main__":
    main()
