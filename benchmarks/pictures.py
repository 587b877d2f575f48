"""The pictures that are timed: small faces and large photos, made from real ones."""

import random
from pathlib import Path

from PIL import Image

SEED = 1
_EXAMPLES = Path(__file__).parent.parent / "examples" / "faces"
_PHOTO = (1600, 1200)
_TILE = 400


def sources(data: Path | None) -> list[Path]:
    """Return the faces that pictures are made from: of `data`, else the examples."""
    found = sorted((data / "faces" / "val").rglob("*.jpg")) if data else []
    return found or sorted(_EXAMPLES.glob("*.jpg"))


def make_faces(faces: list[Path], folder: Path, count: int) -> Path:
    """Crop faces to 80-200 px and encode them again, into one class folder; return `folder`."""
    numbers = random.Random(SEED)
    (folder / "unsorted").mkdir(parents=True)
    for number in range(count):
        with Image.open(faces[number % len(faces)]) as image:
            side = numbers.randint(80, 200)
            corner = numbers.randint(0, max(0, min(image.size) - side))
            crop = image.convert("RGB").crop((corner, corner, corner + side, corner + side))
        quality = numbers.choice((75, 85, 90, 95))
        crop.save(folder / "unsorted" / f"{number:05}.jpg", quality=quality)
    return folder


def make_photos(
    faces: list[Path], folder: Path, count: int, *, size: tuple[int, int] = _PHOTO
) -> Path:
    """Lay enlarged faces side by side, twelve for 1600×1200, in each photo; return `folder`."""
    numbers = random.Random(SEED)
    (folder / "unsorted").mkdir(parents=True)
    width, height = size
    corners = [(x, y) for x in range(0, width, _TILE) for y in range(0, height, _TILE)]
    for number in range(count):
        photo = Image.new("RGB", size)
        for corner in corners:
            with Image.open(numbers.choice(faces)) as image:
                tile = image.convert("RGB").resize((_TILE, _TILE), Image.Resampling.BICUBIC)
            photo.paste(tile, corner)
        photo.save(folder / "unsorted" / f"{number:05}.jpg", quality=90)
    return folder
