import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from gclf_runtime import Classifier


def run(command: str, *arguments: str | Path | float) -> subprocess.CompletedProcess[str]:
    path = Path(sys.executable).with_name(command)
    return subprocess.run([path, *map(str, arguments)], capture_output=True, text=True)


def test_a_folder_becomes_a_model_that_answers(pictures: Path, tmp_path: Path):
    """Train, export and infer as a user does, and compare the accuracy each of them reports."""
    output, rows = tmp_path / "run", tmp_path / "rows.csv"
    trained = run(
        "gclf-train", pictures, "--output", output, "--epochs", 4, "--size", 16,
        "--network", "resnet10", "--val-split", 0.2, "--cache", tmp_path / "cache",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert "3 classes; pictures: 96 to train, 24 to validate" in trained.stdout
    assert "val acc" in trained.stdout
    accuracy = trained.stdout.split("validation accuracy ")[1].split()[0]

    exported = run("gclf-export", output / "model.pt")
    assert exported.returncode == 0, exported.stderr
    assert exported.stdout.count(f" {accuracy} (") == 2  # the file's and the checkpoint's
    assert "100.00%" in exported.stdout
    assert f"wrote {output / 'model.onnx'}" in exported.stdout

    classifier = Classifier(output / "model.onnx")
    listing = (output / "validation.csv").read_text(encoding="utf-8").splitlines()[1:]
    answers = classifier.predict_files(line.split(",")[0] for line in listing)
    right = [
        bool(answer.prediction) and answer.prediction.label == line.split(",")[1]
        for answer, line in zip(answers, listing, strict=True)
    ]
    assert f"{sum(right) / len(right):.4f}" == accuracy

    inferred = run(
        "gclf-infer", "--batch", pictures, "--model", output / "model.onnx", "--output", rows
    )
    assert inferred.returncode == 0, inferred.stderr
    assert len(rows.read_text(encoding="utf-8").splitlines()) == 1 + 120


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["absent", "--output", "run"], 1, "error: no folder at absent"),
        (["pictures", "--output", "run", "--network", "vgg"], 2, "is not one of resnet10"),
        (["pictures", "--output", "run", "--epochs", "0"], 2, "epochs"),
        (["pictures", "--output", "run", "--cross", "age,race"], 2, "goes with --attributes FILE"),
        (["pictures", "--output", "run", "--device", "tpu"], 1, "error: device tpu cannot be used"),
        (["pictures", "--output", "run", "--network", "cnn", "--size", "8"], 1, "error: cnn needs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_trained_is_one_line(
    pictures: Path, arguments: list[str], code: int, message: str
):
    command = Path(sys.executable).with_name("gclf-train")
    result = subprocess.run(
        [command, *arguments], capture_output=True, text=True, cwd=pictures.parent
    )

    assert result.returncode == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["absent", "--output", "run", "--epochs", "0"],
        ["absent", "--output", "run", "--network", "vgg"],
        ["absent", "--output", "run", "--dataset", "MNIST"],
    ],
    ids=" ".join,
)
def test_nothing_waits_for_torch_before_the_arguments_are_right(arguments: list[str]):
    program = (
        "import sys\nfrom gclf_trainer import cli\n"
        f"sys.argv = ['gclf-train', *{arguments!r}]\n"
        "try:\n    cli.main()\n"
        "finally:\n    print('loaded', *sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    loaded = set(result.stdout.split("loaded ")[-1].split())

    assert "gclf_trainer.cli" in loaded
    assert not loaded & {"torch", "torchvision"}


def test_our_own_networks_need_no_torchvision():
    """It takes seconds to import."""
    program = (
        "import sys, gclf_trainer.training\nfrom gclf_runtime import InputSpec\n"
        "from gclf_trainer.networks import build\nfrom gclf_trainer.transfer import head\n"
        "head(build('resnet10', 2, InputSpec()))\nprint(*sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert "torch" in result.stdout.split()
    assert "torchvision" not in result.stdout.split()
