# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "timm==1.0.31",
#     "torch==2.15.0",
#     "torchvision==0.29.2",
# ]
# [tool.uv]
# exclude-newer = "2026-11-22T00:00:00Z"
# ///
"""The recipe of timm's own inference.py: create_dataset, create_loader, a network, a csv.

Its loader is asked for the model's whole picture (crop_mode squash, crop_pct 1) as for any timm
model that was trained so; `--channels-last` and `--batch-size 64` made it faster, and there is
a worker per CPU, for a single batch none. The network is network.pt2, put where timm.create_model
would stand.
"""

import csv
import json
import os
import sys
from pathlib import Path

import torch
from timm.data import create_dataset, create_loader

BATCH, CPUS = 64, len(os.sched_getaffinity(0))


def main(pictures: Path, model: Path, output: Path) -> None:
    """Classify every picture of a folder."""
    spec = json.loads((model / "spec.json").read_text())
    network = (
        torch.export.load(model / "network.pt2").module().to(memory_format=torch.channels_last)
    )
    dataset = create_dataset(root=str(pictures), name="")
    loader = create_loader(
        dataset,
        input_size=(3, spec["height"], spec["width"]),
        batch_size=BATCH,
        use_prefetcher=True,
        num_workers=CPUS if len(dataset) > BATCH else 0,
        device=torch.device("cpu"),
        interpolation="bilinear",
        mean=spec["mean"],
        std=spec["std"],
        crop_pct=1.0,
        crop_mode="squash",
    )
    best, indices = [], []
    with torch.inference_mode():
        for pixels_nchw, _ in loader:
            probability_nk, index_nk = network(pixels_nchw).softmax(-1).topk(1)
            best += probability_nk[:, 0].tolist()
            indices += index_nk[:, 0].tolist()
    labels = [spec["label_names"][index] for index in indices]
    with output.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "probability"))
        rows.writerows(zip(loader.dataset.filenames(), labels, best, strict=True))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
