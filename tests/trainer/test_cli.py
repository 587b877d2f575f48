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
    assert f"{accuracy} (checkpoint {accuracy})" in exported.stdout
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
