import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from gclf_trainer.memory import container_room, free_bytes

# Learns from 123 MB of pictures with 96 MB to spare, from the decoded parts to the audit.
STREAMED = """
import resource, sys
from pathlib import Path
import numpy as np
import torch
from gclf_trainer import Augmentation, Recipe
from gclf_trainer.copies import find
from gclf_trainer.evaluation import Normalise
from gclf_trainer.loop import Training
from gclf_trainer.pixel_file import keep, open_kept
from gclf_trainer.pixels import Split

torch.set_num_threads(1)
path, share = Path(sys.argv[1]), float(sys.argv[2])

class Mean(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(1, 2)
    def forward(self, pixels_nchw):
        return self.linear(pixels_nchw.mean((1, 2, 3))[:, None])

def parts(count):
    generator = np.random.default_rng(0)
    for _ in range(count // 100):
        yield generator.integers(0, 256, (100, 64, 64, 3), np.uint8), [""] * 100

def learn(count):
    keep(path, (count, 64, 64, 3), parts(count))
    pixels_nhwc = open_kept(path, count)[0]
    split = Split((path,) * count, pixels_nhwc, np.arange(count) % 2)
    normalise = Normalise((0.5,) * 3, (0.25,) * 3)
    recipe = Recipe(batch_size=100, precision="fp32")
    cpu = torch.device("cpu")
    training = Training(Mean(), normalise, split, split, recipe, cpu, held_share=share)
    print(training.run_epoch().train_loss)
    print(len(find([pixels_nhwc]).near.first_k))

learn(1000)  # what is allocated once
status = Path("/proc/self/status").read_text()
data = int(status.split("VmData:")[1].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (data + 176 * 2**20,) * 2)
learn(20_000)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA is Linux's")
def test_a_set_larger_than_memory_is_learnt_from(tmp_path: Path):
    """A mapped file does not count as data, all that is allocated does."""
    streamed, held = (
        subprocess.run(
            [sys.executable, "-c", STREAMED, tmp_path / "kept", share],
            capture_output=True,
            text=True,
            check=False,
        )
        for share in ("0", "1")
    )

    assert (streamed.returncode, streamed.stderr) == (0, "")
    assert held.returncode == 1
    assert "allocate memory" in held.stderr


def test_a_container_has_room_for_what_it_has_not_taken_but_for_files(tmp_path: Path):
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 200\nactive_file 50\n")
    for limit, expected in (("1000", 550), ("500", 50), ("100", 0), ("max", None)):
        (tmp_path / "memory.max").write_text(limit + "\n")
        assert container_room(tmp_path) == expected


def test_an_older_container_is_understood_too(tmp_path: Path):
    folder = tmp_path / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text("1000\n")
    (folder / "memory.usage_in_bytes").write_text("700\n")
    (folder / "memory.stat").write_text("inactive_file 200\nactive_file 50\n")

    assert container_room(tmp_path) == 550


def test_some_memory_is_free_here():
    assert 2**20 < free_bytes(torch.device("cpu")) < 2**50


# Makes and frees 128 MiB of tensors, as a step does; prints how many pages the kernel had to clear.
FREED = """
import resource, sys
import torch
from gclf_trainer.allocator import keep_freed_memory

print(keep_freed_memory() if sys.argv[1] == "kept" else False)
torch.set_num_threads(1)
for step in range(5):
    if step == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    activations = [torch.ones(2**20) for _ in range(32)]
    del activations
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this is not glibc")
def test_freed_memory_is_kept_for_the_next_tensor():
    """Without, glibc adapts its threshold by what is freed; told where to stay, it is the same."""
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    faults: dict[str, int] = {}
    for mode in ("kept", "given back"):
        run = subprocess.run(
            [sys.executable, "-c", FREED, mode], capture_output=True, text=True, check=True, env=env
        )
        said, count = run.stdout.split()
        assert said == str(mode == "kept")
        faults[mode] = int(count)

    assert faults["kept"] < faults["given back"] / 4, faults
