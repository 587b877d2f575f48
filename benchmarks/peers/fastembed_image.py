# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "fastembed==0.9.1",
#     "onnxruntime==1.31.1",
#     "pillow==13.0.0",
# ]
# [tool.uv]
# exclude-newer = "2026-11-22T00:00:00Z"
# ///
"""fastembed: ImageEmbedding over a local model folder, whose "embedding" is the probabilities.

It follows the "Image embeddings" part of its README and the documentation of `parallel`, which is
the fourth argument: none, or a number of processes, of which 0 means one per CPU. The name is one
that it knows, for its list is closed; the folder is ours. fastembed scales each embedding to
length 1, and divided by their sum probabilities are themselves again.
"""

import csv
import json
import sys
from pathlib import Path

from fastembed import ImageEmbedding

BATCH = 16


def main(pictures: Path, model: Path, output: Path, parallel: int | None = None) -> None:
    """Classify every picture of a folder."""
    spec = json.loads((model / "spec.json").read_text())
    embedding = ImageEmbedding(
        "Qdrant/clip-ViT-B-32-vision", specific_model_path=str(model / "fastembed")
    )
    paths = sorted(pictures.rglob("*.jpg"))
    with output.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "probability"))
        answers = embedding.embed(paths, batch_size=BATCH, parallel=parallel)
        for path, scaled_k in zip(paths, answers, strict=True):
            best = int(scaled_k.argmax())
            label = spec["label_names"][best]
            rows.writerow((path, label, float(scaled_k[best] / scaled_k.sum())))


if __name__ == "__main__":
    folders = [Path(argument) for argument in sys.argv[1:4]]
    main(*folders, parallel=int(sys.argv[4]) if sys.argv[4:] else None)
