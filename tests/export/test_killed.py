"""An export that is killed leaves the old file or the new one, complete."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")

from gclf_export import ExportError
from gclf_export.delivery import Delivery
from gclf_runtime import Classifier

_KILLS = 10

# One process imports torch once; each export is a fork of it that has imported all it needs.
_EXPORTS = """
import os, sys
from pathlib import Path
import onnxscript, torch.onnx
from gclf_export import export
checkpoint, output = map(Path, sys.argv[1:])
for _ in sys.stdin:
    child = os.fork()
    if not child:
        export(checkpoint, output)
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


def partials(folder: Path) -> list[Path]:
    return list(folder.glob(".*.partial"))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_ten_kills_leave_no_broken_file(run: Path, exported: Path, tmp_path: Path):
    output = tmp_path / "m.onnx"
    output.write_bytes(exported.read_bytes())
    chance = random.Random(0)
    seen: set[str] = set()
    struck = 0
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _EXPORTS, run / "model.pt", output],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as exports:
        assert exports.stdin
        assert exports.stdout
        for number in range(_KILLS):
            before = partials(tmp_path)
            exports.stdin.write("once more\n")
            exports.stdin.flush()
            child = int(exports.stdout.readline())
            # Half of the kills come once the file is being written, the others at any time.
            while number % 2 and partials(tmp_path) in (before, []) and is_running(child):
                time.sleep(0.005)
            time.sleep(chance.uniform(0, 1.5))
            struck += is_running(child)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            assert exports.stdout.readline() == "ended\n"
            seen.add(Classifier(output, device="cpu").sha256)
            for part in partials(tmp_path):
                os.utime(part, (0, 0))  # an export removes what those before it left an hour ago
        exports.stdin.write("to its end\n")
        exports.stdin.flush()
        exports.stdout.readline()
        assert exports.stdout.readline() == "ended\n"
    assert struck >= _KILLS // 2
    assert Classifier(output, device="cpu").sha256 not in seen
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", "m.card.md"}


def test_what_a_killed_export_left_is_removed_and_what_a_running_one_writes_is_not(tmp_path: Path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = tmp_path / f".m[1].onnx.fp32.{ended.pid}.0a1b2c3d.partial"
    older = tmp_path / f".m[1].onnx.{ended.pid}.partial"
    same_pid = tmp_path / f".m[1].onnx.{os.getpid()}.0a1b2c3d.partial"
    running = tmp_path / f".m[1].onnx.fp32.{os.getppid()}.0a1b2c3d.partial"
    other = tmp_path / f".n.onnx.fp32.{ended.pid}.0a1b2c3d.partial"
    elsewhere = tmp_path / f".m[1].onnx.fp32.{ended.pid}.00000000.partial"
    for path in (left, older, same_pid, running, other, elsewhere):
        path.write_bytes(b"a part")
        if path != elsewhere:
            os.utime(path, (0, 0))

    with Delivery(tmp_path / "m[1].onnx") as delivery:
        mine = delivery.write("fp32", b"a part")
        os.utime(mine, (0, 0))
        with Delivery(tmp_path / "m[1].onnx"):
            assert set(tmp_path.iterdir()) == {running, other, elsewhere, mine}

    assert set(tmp_path.iterdir()) == {running, other, elsewhere}


def test_a_folder_in_the_place_of_one_file_leaves_the_other_as_it_was(tmp_path: Path):
    model, card = tmp_path / "m.onnx", tmp_path / "m.card.md"
    model.write_bytes(b"the old file")
    card.mkdir()

    with Delivery(model) as delivery:
        delivery.write("fp32", b"the new file")
        delivery.write("card", b"its card")
        with pytest.raises(ExportError, match=r"m\.card\.md cannot be written .* a folder"):
            delivery.deliver({"fp32": model, "card": card})

    assert model.read_bytes() == b"the old file"
    assert set(tmp_path.iterdir()) == {model, card}


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into /proc")
@pytest.mark.parametrize("at_work", [False, True], ids=["while importing torch", "at work"])
def test_ctrl_c_ends_without_a_traceback(run: Path, tmp_path: Path, at_work: bool):
    output = tmp_path / "m.onnx"
    command = [sys.executable, "-m", "gclf_export", run / "model.pt", "--output", output]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        maps = Path(f"/proc/{process.pid}/maps")
        while process.poll() is None and not (
            partials(tmp_path) if at_work else b"libtorch" in maps.read_bytes()
        ):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=60)

    assert b"Traceback" not in printed + errors
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []
