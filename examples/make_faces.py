"""Make examples/faces: averages of many faces, so that the first command has faces to classify.

Nobody is to be seen in them: each is the mean of hundreds of pictures of FairFace (Karkkainen &
Joo, 2021, CC BY 4.0), of one gender and age group as its annotators perceived them. A mean is pale;
its contrast is brought back to that of a single picture.

    uv run python examples/make_faces.py DATA

DATA holds faces_attributes.csv (file, gender, age, race) and the files that it names; only those
of the training split are used.
"""

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from gclf_runtime import InputSpec, images

AGES = ("10-19", "20-29", "30-39", "40-49", "50-59", "60-69")
MOST = 800  # more faces change nothing that one can see
SIDE = 192


def main(data: Path) -> None:
    """Write twelve JPEGs beside this script."""
    output = Path(__file__).parent / "faces"
    output.mkdir(exist_ok=True)
    with (data / "faces_attributes.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["file"].startswith("faces/train/")]
    spec = InputSpec(height=96, width=96)
    for gender in ("female", "male"):
        for age in AGES:
            group = [row["file"] for row in rows if (row["gender"], row["age"]) == (gender, age)]
            faces = np.stack([images.load(data / name, spec) for name in group[:MOST]])
            mean_hwc = faces.mean(0)
            color, contrast = mean_hwc.mean((0, 1)), faces.std((1, 2)).mean(0)
            vivid_hwc = (mean_hwc - color) / mean_hwc.std((0, 1)) * contrast + color
            picture = Image.fromarray(vivid_hwc.clip(0, 255).round().astype(np.uint8))
            picture = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            picture.save(output / f"{gender}_{age}.jpg", quality=90)
            print(f"{gender} {age}: mean of {len(faces)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
