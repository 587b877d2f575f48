"""Small folders of labelled pictures: red, green and blue ones, with noise."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COLORS = {"blue": (20, 20, 200), "green": (20, 200, 20), "red": (200, 20, 20)}


def write_pictures(folder: Path, count: int, *, seed: int = 0) -> Path:
    """Write `count` noisy pictures of each colour into folders named after it."""
    generator = np.random.default_rng(seed)
    for name, color in COLORS.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            noisy = generator.normal(color, 60, (20, 20, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / name / f"{number:03}.png")
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return a folder with 40 pictures of each of three classes."""
    return write_pictures(tmp_path / "pictures", 40)
