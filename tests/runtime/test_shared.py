"""What must hold on real data, where it is at hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, UnidentifiedImageError

from gclf_runtime import Classifier

SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ico", ".tga"}


def looks_like_an_image(path: Path) -> bool:
    """Ask Pillow, with all its plug-ins, and the suffix."""
    try:
        with Image.open(path) as image:
            return image.format != "TGA"  # it has no first bytes of its own, any may be some
    except UnidentifiedImageError:
        return path.suffix.lower() in SUFFIXES
    except Exception:
        return True


@pytest.mark.filterwarnings("ignore")
def test_every_bad_image_has_one_row_and_stops_nothing(shared: Path, tmp_path: Path):
    folder, output = shared / "bad_images", tmp_path / "bad.jsonl"
    command = str(Path(sys.executable).with_name("gclf-infer"))
    arguments = [command, "--batch", str(folder), "--output", str(output)]
    run = subprocess.run(arguments, capture_output=True, text=True)
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    paths = [row["path"] for row in rows]
    files = [path for path in folder.rglob("*") if path.is_file()]

    assert run.returncode == 3
    assert len(paths) == len(set(paths))
    assert {str(path) for path in files if looks_like_an_image(path)} <= set(paths)
    assert all((row["label"] is None) == (row["error"] is not None) for row in rows)
    answered = sum(row["label"] is not None for row in rows)
    failed = len(rows) - answered
    assert run.stderr.startswith(f"{len(rows)} files: ")
    assert f"{failed} could not be read, their rows say why" in run.stderr
    assert f"{len(files) - len(rows)} skipped: not an image" in run.stderr
    assert len(run.stderr.splitlines()) == 5


def test_the_embedded_model_is_as_good_as_it_says(shared: Path):
    classifier = Classifier.default(device="cpu")
    paths = sorted((shared / "data" / "faces" / "val").rglob("*.jpg"))
    results = classifier.predict_files(paths)
    right = sum(
        bool(result.prediction) and result.prediction.label == Path(result.path).parent.name
        for result in results
    )

    assert len(paths) == classifier.spec.metrics["val_count"]
    assert right / len(paths) == pytest.approx(classifier.spec.metrics["val_accuracy"], abs=0.003)
