"""Small cuts of benchmarks/reliability.py, through the real command."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

if sys.platform == "win32":
    pytest.skip("signals, forks and limits of a POSIX system", allow_module_level=True)
import resource

COMMAND = str(Path(sys.executable).with_name("gclf-infer"))
MODEL = Path(__file__).resolve().parent.parent / "data" / "colours.onnx"
KINDS = 5


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return pictures that take half a second, one in five broken."""
    folder = tmp_path_factory.mktemp("pictures")
    chance = np.random.default_rng(0)
    for number in range(KINDS):
        noise = chance.integers(0, 256, (8, 8, 3), np.uint8)
        path = folder / f"{number:03}.png"
        Image.fromarray(noise).resize((600, 600)).save(path, compress_level=1)
    os.truncate(folder / "004.png", 1000)
    for number in range(KINDS, 120):
        os.link(folder / f"{number % KINDS:03}.png", folder / f"{number:03}.png")
    return folder


@pytest.fixture(scope="module")
def few(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one picture of each kind."""
    folder = tmp_path_factory.mktemp("few")
    for number in range(KINDS):
        os.link(pictures / f"{number:03}.png", folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def whole(pictures: Path, few: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the rows of runs that nobody disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    inputs = {"many.csv": pictures, "many.jsonl": pictures, "few.jsonl": few}
    for name, source in inputs.items():
        run = subprocess.run(words(source, folder / name), capture_output=True)
        assert run.returncode == 3
    return {name: (folder / name).read_bytes() for name in inputs}


def words(pictures: Path, output: Path) -> list[str]:
    """Name a run on one worker, in batches of two."""
    batch = ["--batch", str(pictures), "--model", str(MODEL), "--output", str(output)]
    return [COMMAND, *batch, "--threads", "1", "--batch-size", "2", "--device", "cpu"]


def start_and_wait(arguments: list[str], output: Path, size: int) -> subprocess.Popen[str]:
    """Start a run, and return when its file has so many bytes."""
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while process.poll() is None and (not output.exists() or output.stat().st_size < size):
        time.sleep(0.001)
    return process


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_run_killed_three_times_goes_on_to_the_same_bytes(
    pictures: Path, whole: dict[str, bytes], tmp_path: Path, suffix: str
):
    expected = whole[f"many{suffix}"]
    output = tmp_path / f"rows{suffix}"
    arguments = [*words(pictures, output), "--resume"]

    for size in (1, len(expected) // 4, len(expected) // 2):
        process = start_and_wait(arguments, output, size)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert output.stat().st_size < len(expected)
    last = subprocess.run(arguments, capture_output=True, text=True)
    assert last.returncode == 3
    assert "rows were there already" in last.stderr
    assert output.read_bytes() == expected


@pytest.mark.parametrize(
    ("sent", "share"),
    [(signal.SIGINT, 0), (signal.SIGINT, 0.3), (signal.SIGTERM, 0.3)],
    ids=["Ctrl-C at the first row", "Ctrl-C", "SIGTERM"],
)
def test_a_signal_ends_a_run_at_once_with_whole_rows_and_one_line(
    pictures: Path,
    whole: dict[str, bytes],
    tmp_path: Path,
    sent: signal.Signals,
    share: float,
):
    expected = whole["many.csv"]
    output = tmp_path / "rows.csv"
    arguments = words(pictures, output)
    process = start_and_wait(arguments, output, max(1, int(share * len(expected))))
    start = time.perf_counter()
    process.send_signal(sent)
    stderr = process.communicate()[1]

    assert time.perf_counter() - start < 2
    assert process.returncode == 128 + sent
    assert stderr == f"stopped; {output} holds whole rows. Go on with --resume\n"
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    rows = output.read_text(encoding="utf-8")
    assert rows.endswith("\n")
    assert {len(row) for row in csv.reader(rows.splitlines(), strict=True)} == {8}
    assert output.stat().st_size < len(expected)
    subprocess.run([*arguments, "--resume"], capture_output=True)
    assert output.read_bytes() == expected


@pytest.mark.parametrize("share", [0, 0.01, 0.2, 0.4, 0.7, 0.999], ids=str)
def test_a_disk_that_is_full_at_any_byte_is_one_line_and_loses_nothing(
    few: Path, whole: dict[str, bytes], tmp_path: Path, share: float
):
    expected = whole["few.jsonl"]
    output = tmp_path / "rows.jsonl"
    arguments = words(few, output)
    limit = int(share * len(expected))
    first = subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )

    assert first.returncode == 1
    assert first.stderr.startswith("error: ")
    assert "cannot be written (File too large). Make room" in first.stderr
    assert len(first.stderr.splitlines()) == 1
    assert output.read_bytes()[-1:] in (b"", b"\n")
    subprocess.run([*arguments, "--resume"], capture_output=True)
    assert output.read_bytes() == expected


# What the system answers where a limit of memory or of processes is reached.
WITHOUT_THREADS = """
import sys, threading
def refuse(*_): raise RuntimeError("can't start new thread")
threading._start_new_thread = refuse
from gclf_runtime import cli
cli.main()
"""


def test_a_system_that_starts_no_thread_is_one_line_and_loses_nothing(
    few: Path, whole: dict[str, bytes], tmp_path: Path
):
    output = tmp_path / "rows.jsonl"
    arguments = words(few, output)
    first = subprocess.run(
        [sys.executable, "-c", WITHOUT_THREADS, *arguments[1:]], capture_output=True, text=True
    )

    assert first.returncode == 1
    assert first.stderr.startswith("error: memory or threads ended here (can't start new thread)")
    assert len(first.stderr.splitlines()) == 1
    subprocess.run([*arguments, "--resume"], capture_output=True)
    assert output.read_bytes() == whole["few.jsonl"]


def portrait(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Say all that a run could change, but for the time of reading."""
    found: dict[str, tuple[int, int, int, bytes]] = {}
    for path in [folder, *folder.rglob("*")]:
        status, content = path.lstat(), path.read_bytes() if path.is_file() else b""
        digest = sha256(content).digest()
        found[str(path)] = (status.st_mode, status.st_mtime_ns, status.st_nlink, digest)
    return found


@pytest.mark.parametrize("more", [["--report", "page.html"], ["--link"]], ids=["copies", "links"])
def test_the_inputs_are_not_changed(few: Path, tmp_path: Path, more: list[str]):
    pictures = shutil.copytree(few, tmp_path / "in")
    (pictures / "link.png").symlink_to("0.png")
    (pictures / "empty.png").touch()
    before = portrait(pictures)
    sorting = ["--sort-into", str(tmp_path / "sorted"), *more]
    arguments = [*words(pictures, tmp_path / "rows.csv"), *sorting]
    run = subprocess.run(arguments, capture_output=True, cwd=tmp_path)

    assert run.returncode == 3
    assert len(list((tmp_path / "sorted").rglob("*.png"))) == KINDS  # not the broken one, the link
    assert portrait(pictures) == before


FORKING = """
import os, sys
from gclf_runtime import Classifier, ProviderError
model, picture, way = sys.argv[1:]
classifier = Classifier(model, device="cpu")
assert classifier.predict_images([picture])
pid = os.fork()
if not pid:
    for ask in (classifier.predict_images, lambda paths: list(classifier.predict_files(paths))):
        try:
            ask([picture])
        except ProviderError as error:
            assert "Open a Classifier in each process, after the fork" in str(error)
        else:
            sys.exit(1)
    os._exit(7) if way == "os._exit" else sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
assert classifier.predict_images([picture])
"""


@pytest.mark.parametrize("way", ["os._exit", "sys.exit"])
def test_a_forked_child_gets_an_error_and_comes_to_its_end(few: Path, way: str):
    arguments = [sys.executable, "-c", FORKING, str(MODEL), str(few / "0.png"), way]
    run = subprocess.run(arguments, capture_output=True, text=True, timeout=20)

    assert run.returncode == 0, run.stderr


AUDITED = """
import json, os, sys
told, outside, *arguments = sys.argv[1:]
seen = []
def watch(event, values):
    is_write = event == "open" and isinstance(values[2], int) and values[2] & 0o3101
    if is_write and isinstance(values[0], (str, bytes)):
        seen.append("write " + os.path.abspath(os.fsdecode(values[0])))
    elif event.startswith(("pickle.", "socket.", "subprocess.", "os.system", "os.exec", "os.fork")):
        seen.append(event)
sys.addaudithook(watch)
sys.argv = ["gclf-infer", *arguments]
from gclf_runtime.cli import main
if outside:
    import pickle
    pickle.loads(pickle.dumps(os.getcwd))
    open(outside, "w")
try:
    main()
finally:
    os.write(int(told), json.dumps(seen).encode())
"""


def audited(pictures: Path, output: Path, outside: str) -> list[str]:
    """Return what a run unpickled, connected to, started and wrote, as Python's audit saw it."""
    answer, told = os.pipe()
    arguments = words(pictures, output)[1:]
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", AUDITED, str(told), outside, *arguments],
        pass_fds=(told,),
        capture_output=True,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    os.close(told)
    with os.fdopen(answer) as file:
        return json.load(file)


def test_a_run_unpickles_nothing_connects_nowhere_and_writes_only_its_rows(
    few: Path, tmp_path: Path
):
    output = tmp_path / "out" / "rows.csv"
    output.parent.mkdir()
    seen = audited(few, output, "")

    assert seen
    assert all(event.startswith(f"write {output.parent}/") for event in seen)
    assert output.read_bytes().count(b"\n") == KINDS + 1


def test_the_watch_over_a_run_would_see_a_pickle_and_a_write(few: Path, tmp_path: Path):
    seen = audited(few, tmp_path / "rows.csv", str(tmp_path / "elsewhere"))

    assert {"pickle.find_class", f"write {tmp_path}/elsewhere"} <= set(seen)
