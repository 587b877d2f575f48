# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "numpy==2.4.6",
#     "onnxruntime==1.31.1",
#     "pillow==13.0.0",
# ]
# [tool.uv]
# exclude-newer = "2026-11-22T00:00:00Z"
# ///
"""What one writes around an .onnx file in ten minutes: Pillow, one run per picture, csv.

It runs gclf.onnx, our own file, whose graph takes the pixels as Pillow gives them, through
onnxruntime at its defaults, as its "Get started with ORT for Python" does.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image


def main(pictures: Path, model: Path, output: Path) -> None:
    """Classify every picture of a folder."""
    spec = json.loads((model / "spec.json").read_text())
    size = (spec["width"], spec["height"])
    session = ort.InferenceSession(model / "gclf.onnx", providers=["CPUExecutionProvider"])
    with output.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "probability"))
        for path in sorted(pictures.rglob("*.jpg")):
            picture = Image.open(path).convert("RGB").resize(size, Image.Resampling.BILINEAR)
            pixels_nhwc = np.asarray(picture)[None]
            (probabilities_nk,) = session.run(["probabilities"], {"images": pixels_nhwc})
            probabilities_k = np.asarray(probabilities_nk)[0]
            best = int(probabilities_k.argmax())
            rows.writerow((path, spec["label_names"][best], float(probabilities_k[best])))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
