"""Small folders of labelled pictures: red, green and blue ones, with noise."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
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


@pytest.fixture(scope="session")
def drawn() -> Callable[..., NDArray[np.uint8]]:
    """Return what draws pictures with large and small shapes, each unlike the others."""

    def draw(count: int, seed: int = 0, side: int = 64) -> NDArray[np.uint8]:
        generator = np.random.default_rng(seed)
        made: list[NDArray[np.uint8]] = []
        for _ in range(count):
            layers = [
                Image.fromarray(
                    generator.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
                ).resize((side, side), Image.Resampling.BICUBIC)
                for cells in (4, 9, 20)
            ]
            mixed = np.mean([np.asarray(layer, np.float64) for layer in layers], axis=0)
            made.append(((mixed - 128) * 1.5 + 128).clip(20, 220).astype(np.uint8))
        return np.stack(made)

    return draw
