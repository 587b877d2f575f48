# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "pillow==13.0.0",
#     "torch==2.15.0",
#     "torchvision==0.29.2",
# ]
# [tool.uv]
# exclude-newer = "2026-11-22T00:00:00Z"
# ///
"""torchvision's ImageFolder, its transforms and torch's DataLoader before a network in torch.

It follows pytorch.org's "Transfer learning" tutorial (ImageFolder, transforms, DataLoader with
workers, here one per CPU, for a single batch none), and what made it faster: torchvision's
"Performance considerations" of transforms v2 (decode to uint8 tensors, resize those) and torch's
"Channels last memory format". It runs network.pt2, a float NCHW network that torch.export saved,
eagerly.
"""

import csv
import json
import os
import sys
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

BATCH, CPUS = 64, len(os.sched_getaffinity(0))


def main(pictures: Path, model: Path, output: Path) -> None:
    """Classify every picture of a folder."""
    spec = json.loads((model / "spec.json").read_text())
    fit = v2.Compose(
        [
            v2.Resize((spec["height"], spec["width"]), antialias=True),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(spec["mean"], spec["std"]),
        ]
    )
    decode = partial(decode_image, mode=ImageReadMode.RGB)
    dataset = ImageFolder(str(pictures), transform=fit, loader=decode)
    workers = CPUS if len(dataset) > BATCH else 0
    loader = DataLoader(dataset, batch_size=BATCH, num_workers=workers)
    network = (
        torch.export.load(model / "network.pt2").module().to(memory_format=torch.channels_last)
    )
    best, indices = [], []
    with torch.inference_mode():
        for pixels_nchw, _ in loader:
            probability_n, index_n = network(pixels_nchw).softmax(1).max(1)
            best += probability_n.tolist()
            indices += index_n.tolist()
    labels = [spec["label_names"][index] for index in indices]
    paths = [path for path, _ in dataset.samples]
    with output.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "probability"))
        rows.writerows(zip(paths, labels, best, strict=True))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
