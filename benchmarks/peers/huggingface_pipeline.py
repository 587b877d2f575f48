# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "onnxruntime==1.31.1",
#     "optimum-onnx[onnxruntime]==0.1.0",
#     "pillow==13.0.0",
#     "torch==2.15.0",
#     "torchvision==0.29.2",
#     "transformers==4.57.6",
# ]
# [tool.uv]
# exclude-newer = "2026-11-22T00:00:00Z"
# ///
"""Hugging Face: transformers' image-classification pipeline over optimum's onnxruntime model.

It follows "Inference pipelines with ONNX Runtime" of optimum's documentation, and "Pipeline
batching" of transformers'. The folder it loads is what `optimum-cli export onnx` would have made.
Batches of 16 and a worker per CPU were the fastest of 1, 8, 16, 64 and none, one per CPU; a single
batch has none.
"""

import csv
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

from optimum.onnxruntime import ORTModelForImageClassification
from transformers import AutoImageProcessor, pipeline

BATCH, CPUS = 16, len(os.sched_getaffinity(0))


def main(pictures: Path, model: Path, output: Path) -> None:
    """Classify every picture of a folder."""
    classify = pipeline(
        "image-classification",
        model=ORTModelForImageClassification.from_pretrained(model / "huggingface"),
        image_processor=AutoImageProcessor.from_pretrained(model / "huggingface", use_fast=True),
    )
    paths = [str(path) for path in sorted(pictures.rglob("*.jpg"))]
    with output.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "probability"))
        workers = CPUS if len(paths) > BATCH else 0
        answers = classify(paths, top_k=1, batch_size=BATCH, num_workers=workers)
        for path, (best,) in zip(paths, answers, strict=True):
            rows.writerow((path, best["label"], best["score"]))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
