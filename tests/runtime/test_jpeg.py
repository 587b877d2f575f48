import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gclf_runtime import ImageError, InputSpec, images, jpeg

pytest.importorskip("simplejpeg", reason="needs simplejpeg, the extra `fast`")

FULL = InputSpec(jpeg_scale_margin=0)


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Noise over a slope: every coefficient of the coding is in use."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(width).integers(0, 90, (height, width, 3))
    slope = np.stack([x * 160 // width, y * 160 // height, (x + y) * 80 // (width + height)], -1)
    return Image.fromarray((slope + noise).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def by_pillow(data: bytes, spec: InputSpec, monkeypatch: pytest.MonkeyPatch) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(jpeg, "library", None)  # as where it is not installed
        return load(data, spec)


def load(data: bytes, spec: InputSpec) -> Any:
    """Return pixels as bytes, or the kind of the error."""
    try:
        return images.load(data, spec).tobytes()
    except ImageError as error:
        return error.kind


def is_decoded_here(data: bytes) -> bool:
    return jpeg.decode(data, 192, images.MAX_PIXELS) is not None


@pytest.mark.parametrize("size", [(1, 1), (97, 131), (385, 400), (801, 775), (1537, 1603)], ids=str)
@pytest.mark.parametrize("subsampling", [0, 1, 2], ids=["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_its_pixels_are_those_of_pillow(
    size: tuple[int, int], subsampling: int, mode: str, monkeypatch: pytest.MonkeyPatch
):
    for options in ({"quality": 40}, {"quality": 92, "restart_marker_blocks": 3}):
        data = encoded(picture(*size, mode), subsampling=subsampling, **options)

        assert is_decoded_here(data)
        for spec in (InputSpec(), FULL):
            assert load(data, spec) == by_pillow(data, spec, monkeypatch)


def cases() -> Iterator[Any]:
    image = picture(400, 300)
    exif = Image.Exif()
    exif[0x0112] = 6
    yield pytest.param(encoded(image, exif=exif), id="turned by EXIF")
    yield pytest.param(encoded(image, xmp=b'<x tiff:Orientation="6"/>'), id="turned by XMP")
    yield pytest.param(encoded(image, progressive=True), id="progressive")
    yield pytest.param(encoded(image.convert("CMYK")), id="ink colours")
    yield pytest.param(encoded(image)[:-500], id="cut")
    yield pytest.param(encoded(image)[:30], id="cut in its header")
    yield pytest.param(b"\xff\xd8\xff" + bytes(99), id="no JPEG at all")


@pytest.mark.parametrize("data", list(cases()))
def test_what_is_not_plain_is_left_to_pillow(data: bytes, monkeypatch: pytest.MonkeyPatch):
    assert not is_decoded_here(data)
    assert load(data, InputSpec()) == by_pillow(data, InputSpec(), monkeypatch)


def test_damage_is_judged_by_pillow(monkeypatch: pytest.MonkeyPatch):
    whole = encoded(picture(120, 90))
    random = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[random.integers(2, len(whole))] ^= 1 << random.integers(8)
        assert load(bytes(damaged), FULL) == by_pillow(bytes(damaged), FULL, monkeypatch)


def test_the_limit_is_on_pixels_held_and_not_on_megapixels(monkeypatch: pytest.MonkeyPatch):
    data = encoded(Image.new("RGB", (16_000, 12_500), "red"), quality=1)  # 200 megapixels

    assert len(load(data, InputSpec())) == 64 * 64 * 3
    assert by_pillow(data, InputSpec(), monkeypatch) == load(data, InputSpec())
    assert load(data, FULL) == "too_large"


def test_real_pictures_are_the_same(shared: Path, monkeypatch: pytest.MonkeyPatch):
    faces = sorted((shared / "data" / "faces" / "val" / "female").glob("*.jpg"))[:200]
    odd = [path for path in (shared / "bad_images").rglob("*") if path.is_file()]
    for path in (*faces, *odd):
        data = path.read_bytes()
        if data[:3] == b"\xff\xd8\xff":
            assert load(data, InputSpec()) == by_pillow(data, InputSpec(), monkeypatch), path
