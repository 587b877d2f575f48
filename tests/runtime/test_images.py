import io
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from gclf_runtime import ImageError, InputSpec, images
from gclf_runtime.spec import Fit

FULL = InputSpec(height=40, width=40, jpeg_scale_margin=0)


def waves(width: int, height: int) -> NDArray[np.uint8]:
    """Smooth colours that differ in every corner, shape (height, width, 3)."""
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    channels = [np.sin(5 * (a * x + b * y)) for a, b in ((1, 0.3), (0.2, 1.1), (1.3, -0.7))]
    return ((np.stack(channels, -1) + 1) * 127.5).astype(np.uint8)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def jpeg(width: int = 120, height: int = 90, **options: object) -> bytes:
    return encoded(Image.fromarray(waves(width, height)), "JPEG", quality=90, **options)


def reference(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image.resize((40, 40), Image.Resampling.BILINEAR))


def kind_of(source: images.ImageSource, max_pixels: int = images.MAX_PIXELS) -> str:
    with pytest.raises(ImageError) as caught:
        images.load(source, max_pixels=max_pixels)
    return caught.value.kind


@pytest.mark.parametrize("size", [(120, 90), (1600, 1200)], ids=["small", "scaled"])
def test_every_form_of_an_encoded_picture_gives_the_same_bytes(
    tmp_path: Path, size: tuple[int, int]
):
    data = jpeg(*size)
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    expected = images.load(path)

    forms = [str(path), data, io.BytesIO(data), path.open("rb"), Image.open(path)]

    for form in forms:
        np.testing.assert_array_equal(images.load(form), expected)
        if not isinstance(form, (str, bytes)):
            form.close()


def test_an_array_and_a_loaded_picture_give_the_same_bytes_as_their_file():
    data = jpeg(300, 200)
    with Image.open(io.BytesIO(data)) as image:
        image.load()

        np.testing.assert_array_equal(images.load(image), images.load(data))
        np.testing.assert_array_equal(images.load(np.asarray(image)), images.load(data))


def test_a_picture_that_is_lent_is_left_as_it_is():
    with Image.open(io.BytesIO(jpeg(1600, 1200))) as image:
        images.load(image)

        assert image.size == (1600, 1200)
        assert image.getpixel((0, 0)) is not None


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied(format: str, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(waves(120, 90)), format, exif=exif, lossless=True)
    with Image.open(io.BytesIO(data)) as image:
        expected = reference(ImageOps.exif_transpose(image))

    np.testing.assert_array_equal(images.load(data, FULL), expected)


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\0" * 9])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_is_upright(exif: bytes):
    plain = jpeg()

    np.testing.assert_array_equal(images.load(jpeg(exif=exif)), images.load(plain))


def test_16_bit_grey_is_scaled_and_not_clipped():
    ramp = np.linspace(0, 65535, 40 * 40).reshape(40, 40).astype(np.uint16)
    expected = np.repeat((ramp >> 8).astype(np.uint8)[:, :, None], 3, 2)

    np.testing.assert_array_equal(
        images.load(encoded(Image.fromarray(ramp), "PNG"), FULL), expected
    )
    np.testing.assert_array_equal(images.load(ramp, FULL), expected)
    np.testing.assert_array_equal(images.load(Image.fromarray(ramp), FULL), expected)


def test_a_transparent_16_bit_level_is_white():
    grey = np.full((40, 40), 0x1234, np.uint16)
    grey[:, 20:] = 0x4321
    pixels = images.load(encoded(Image.fromarray(grey), "PNG", transparency=0x1234), FULL)

    assert pixels[20, 5].tolist() == [255, 255, 255]
    assert pixels[20, 35].tolist() == [0x43, 0x43, 0x43]


def test_a_picture_whose_file_was_closed_is_an_image_error(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(jpeg())
    image = Image.open(tmp_path / "a.jpg")
    image.close()

    with pytest.raises(ImageError):
        images.load(image)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_pixels_are_refused_with_a_remedy(mode: str):
    with pytest.raises(ImageError, match="Scale them to 8 or 16 bits"):
        images.load(Image.new(mode, (8, 8)))


def test_transparency_is_laid_over_white():
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[:, 20:, 3] = 255  # left half: black and wholly transparent
    data = encoded(Image.fromarray(pixels), "PNG")
    expected = np.repeat(np.where(np.arange(40) < 20, 255, 0)[None, :, None], 3, 2)

    for source in (data, pixels):
        np.testing.assert_array_equal(
            images.load(source, FULL), np.broadcast_to(expected, (40, 40, 3))
        )


@pytest.mark.parametrize("mode", ["LA", "PA", "RGBa"])
def test_rarer_kinds_of_transparency_are_laid_over_white_too(mode: str):
    clear = Image.new("RGBA", (40, 40), (0, 0, 0, 0))

    assert images.load(clear.convert(mode), FULL).min() == 255


def test_a_transparent_palette_entry_is_white():
    image = Image.new("P", (40, 40), 1)
    image.putpalette([0, 0, 0, 200, 10, 20])
    clear = encoded(image, "PNG", transparency=1)
    solid = encoded(image, "PNG")

    assert images.load(clear, FULL).min() == 255
    assert images.load(solid, FULL)[0, 0].tolist() == [200, 10, 20]


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "YCbCr", "P"])
def test_other_modes_are_converted_as_pillow_does(mode: str):
    image = Image.fromarray(waves(120, 90)).convert(mode)

    np.testing.assert_array_equal(images.load(image, FULL), reference(image.convert("RGB")))


def test_a_cmyk_jpeg_keeps_its_colours():
    ink = Image.new("CMYK", (120, 90), (0, 255, 255, 0))  # magenta and yellow make red

    assert images.load(encoded(ink, "JPEG"), FULL)[20, 20].tolist() == pytest.approx(
        [255, 0, 0], abs=4
    )


@pytest.mark.parametrize("shape", [(90, 120), (90, 120, 1)], ids=str)
def test_grey_arrays_are_grey_pictures(shape: tuple[int, ...]):
    grey = waves(120, 90)[:, :, 0]

    expected = reference(Image.fromarray(grey).convert("RGB"))
    np.testing.assert_array_equal(images.load(grey.reshape(shape), FULL), expected)


@pytest.mark.parametrize(
    "array",
    [np.zeros((8, 8, 3), np.float32), np.zeros((8, 8, 2), np.uint8), np.zeros(8, np.uint8)],
    ids=["float", "two channels", "flat"],
)
def test_other_arrays_are_refused_with_a_remedy(array: NDArray[np.uint8]):
    with pytest.raises(ImageError, match=r"expected an array .* Scale floats"):
        images.load(array)


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize(
    "size", [(1, 1), (1, 500), (500, 1), (37, 81), (49, 49), (394, 480)], ids=str
)
def test_any_shape_fits(fit: Fit, size: tuple[int, int]):
    for height, width in ((24, 40), (32, 32), (64, 64)):
        spec = InputSpec(height=height, width=width, fit=fit)
        assert images.load(waves(*size), spec).shape == (height, width, 3)


def test_crop_keeps_the_centre_and_pad_adds_black_bars():
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, 40:80] = 255

    assert images.load(wide, InputSpec(height=40, width=40, fit="crop")).min() == 255
    padded = images.load(wide, InputSpec(height=120, width=120, fit="pad"))
    assert not padded[:40].any()
    assert padded[60, 60].tolist() == [255, 255, 255]
    assert not padded[80:].any()


def test_a_large_jpeg_is_decoded_at_a_reduced_scale_and_stays_close():
    data = jpeg(1600, 1200)
    scaled, full = images.load(data), images.load(data, InputSpec(jpeg_scale_margin=0))

    difference = np.abs(scaled.astype(int) - full)
    assert 0 < difference.mean() < 1
    assert difference.max() < 40


def test_a_small_jpeg_is_decoded_in_full():
    data = jpeg(300, 300)

    np.testing.assert_array_equal(
        images.load(data), images.load(data, InputSpec(jpeg_scale_margin=0))
    )


def test_the_pixel_limit_counts_what_is_held_in_memory():
    assert images.load(jpeg(1600, 1200), max_pixels=1600 * 1200 // 16).any()
    assert kind_of(jpeg(1600, 1200, progressive=True), 1600 * 1200 // 16) == "too_large"
    assert kind_of(encoded(Image.new("RGB", (100, 100)), "PNG"), 9_999) == "too_large"
    assert kind_of(np.zeros((100, 100, 3), np.uint8), 9_999) == "too_large"


def test_a_bomb_is_refused_from_its_header():
    bomb = bytearray(encoded(Image.new("1", (1, 1)), "PNG"))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    bomb[29:33] = __import__("zlib").crc32(bytes(bomb[12:29])).to_bytes(4, "big")

    assert kind_of(bytes(bomb)) == "too_large"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty"),
        (b"hello", "unsupported"),
        (b"II*\0\x08\0\0\0", "unsupported"),
        (b"<svg/>", "unsupported"),
        (b"\xff\xd8\xff\xe0 not much of a picture", "corrupt"),
        (jpeg()[:400], "corrupt"),
        (encoded(Image.new("RGB", (90, 90)), "PNG")[:60], "corrupt"),
    ],
    ids=["empty", "text", "tiff", "svg", "jpeg head", "cut jpeg", "cut png"],
)
def test_bytes_that_are_no_picture_say_why(data: bytes, kind: str):
    assert kind_of(data) == kind


def test_a_tiff_is_named_even_though_pillow_could_read_it():
    data = encoded(Image.new("RGB", (9, 9)), "TIFF")

    with pytest.raises(ImageError, match=r"TIFF is not decoded\. Convert it to PNG or JPEG"):
        images.load(data)


def test_files_that_cannot_be_read_say_why_and_name_themselves(tmp_path: Path):
    fifo, empty = tmp_path / "fifo.jpg", tmp_path / "empty.jpg"
    os.mkfifo(fifo)
    empty.touch()

    assert kind_of(tmp_path / "absent.jpg") == "missing"
    descriptors = len(os.listdir("/proc/self/fd"))
    assert kind_of(tmp_path) == "unreadable"
    assert kind_of(fifo) == "unreadable"
    assert kind_of(empty) == "empty"
    assert kind_of("nul\0.jpg") == "unreadable"
    assert len(os.listdir("/proc/self/fd")) == descriptors
    with pytest.raises(ImageError, match="a folder"):
        images.load(tmp_path)
    with pytest.raises(ImageError, match=r"absent\.jpg: no such file"):
        images.load(tmp_path / "absent.jpg")


def test_an_enormous_file_is_refused_by_its_size(tmp_path: Path):
    path = tmp_path / "sparse.jpg"
    with path.open("wb") as file:
        file.truncate(8 * 2**30)

    assert kind_of(path) == "too_large"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_rights_is_unreadable(tmp_path: Path):
    path = tmp_path / "secret.jpg"
    path.write_bytes(jpeg())
    path.chmod(stat.S_IWUSR)

    assert kind_of(path) == "unreadable"


def test_an_array_without_pixels_is_empty():
    assert kind_of(np.zeros((0, 8, 3), np.uint8)) == "empty"
