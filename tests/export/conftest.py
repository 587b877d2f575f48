"""A RUN folder of a small training, made once."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a RUN folder: three colours learnt from 32×32 pictures by resnet10."""
    pytest.importorskip("torch")
    from gclf_runtime import InputSpec
    from gclf_trainer import Recipe, train

    folder = tmp_path_factory.mktemp("export")
    generator = np.random.default_rng(0)
    for name, color in (("blue", (40, 40, 200)), ("green", (40, 200, 40)), ("red", (200, 40, 40))):
        (folder / "pictures" / name).mkdir(parents=True)
        for number in range(24):
            noisy = generator.normal(color, 60, (50, 40, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / "pictures" / name / f"{number:02}.jpg")
    train(
        folder / "pictures",
        folder / "run",
        network="resnet10",
        spec=InputSpec(height=32, width=32),
        recipe=Recipe(epochs=2, batch_size=16, precision="fp32"),
        val_split=0.5,
        license="CC BY 4.0",
    )
    return folder / "run"


@pytest.fixture(scope="session")
def exported(run: Path) -> Path:
    """Return its model.onnx."""
    from gclf_export import export

    return export(run / "model.pt").path
