import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from PIL import Image

from gclf_runtime import Classifier

NETWORK = """
import torch

def small(classes, spec):
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(8 * 7 * 7, classes),
    )
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with pictures of two colours and a module with a network."""
    generator = np.random.default_rng(0)
    for name, color in (("blue", (40, 40, 200)), ("red", (200, 40, 40))):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(24):
            noisy = generator.normal(color, 30, (16, 16, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(tmp_path / "pictures" / name / f"{number:02}.png")
    (tmp_path / "own.py").write_text(NETWORK, encoding="utf-8")
    return tmp_path


def run(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    command, *arguments = line.split()
    path = Path(sys.executable).with_name(command)
    return subprocess.run([path, *arguments], cwd=folder, capture_output=True, text=True)


def test_an_own_network_is_trained_resumed_exported_and_answers(folder: Path):
    options = "pictures --network own:small --size 16 --val-split 0.5 --cache cache --epochs 1"
    trained = run(folder, f"gclf-train {options} --output run")
    assert trained.returncode == 0, trained.stderr
    report = (folder / "run" / "report.html").read_text(encoding="utf-8")
    assert f"gclf-train {options} --output run" in report
    resumed = run(folder, f"gclf-train {options} --output run --resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "run is finished: nothing to do" in resumed.stdout

    unnamed = run(folder, "gclf-export run/model.pt")
    assert unnamed.returncode == 1
    assert "error: run/model.pt is of own:small, your own code" in unnamed.stderr
    assert "Pass --network own:small" in unnamed.stderr
    other = run(folder, "gclf-export run/model.pt --network own:large")
    assert other.returncode == 1
    assert "error: run/model.pt is of own:small, not of own:large" in other.stderr

    exported = run(folder, "gclf-export run/model.pt --network own:small")
    assert exported.returncode == 0, exported.stderr
    answers = Classifier(folder / "run" / "model.onnx").predict_files(
        sorted((folder / "pictures" / "red").iterdir())
    )
    assert all(answer.prediction for answer in answers)


def test_the_export_shows_its_help_without_torch():
    program = (
        "import sys\nfrom gclf_export import cli\nsys.argv = ['gclf-export', '--help']\n"
        "try:\n    cli.main()\nfinally:\n    print('loaded', *sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    loaded = set(result.stdout.split("loaded ")[-1].split())

    assert "--network" in result.stdout
    assert "gclf_export.cli" in loaded
    assert not loaded & {"torch", "torchvision", "onnx", "numpy"}
