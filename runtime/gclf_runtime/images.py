"""The one definition of "decode and fit to the model's input".

Training, export verification and inference all call `load`, so that their pixels are the same
bytes. Arrays end in their axes: h height, w width, c channels (RGB).
"""

import io
import os
import stat
from importlib import import_module
from typing import Any, BinaryIO, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, JpegImagePlugin

from gclf_runtime import jpeg
from gclf_runtime.errors import ImageError
from gclf_runtime.formats import HEAD_BYTES, sniff
from gclf_runtime.items import say, too_large
from gclf_runtime.spec import InputSpec

ImageSource: TypeAlias = (
    str | os.PathLike[str] | bytes | BinaryIO | Image.Image | NDArray[np.uint8] | NDArray[np.uint16]
)

# What is held in memory once decoded, not what the header says: a 50-megapixel JPEG that decodes
# at 1/8 holds 0.8. 64 million RGB pixels are 192 MB.
MAX_PIXELS = 64_000_000
MAX_FILE_BYTES = 512 * 1024 * 1024

# Imported when the first picture of the format comes: Image.open would load every plug-in.
_PLUGINS = {
    "JPEG": ("JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PngImagePlugin", "PngImageFile"),
    "GIF": ("GifImagePlugin", "GifImageFile"),
    "WEBP": ("WebPImagePlugin", "WebPImageFile"),
    "BMP": ("BmpImagePlugin", "BmpImageFile"),
}
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load(
    source: ImageSource, spec: InputSpec | None = None, *, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Decode one picture and fit it to the model's input.

    The same picture gives the same bytes whichever way it comes. The one exception: a JPEG large
    enough to be decoded at a reduced scale (`InputSpec.jpeg_scale_margin`) is so only while it is
    still encoded, so an array, or a PIL image whose pixels are already loaded, starts from the
    full-size pixels (mean difference 0.75 of 255, measured on 1600x1200 photos).

    Args:
        source: A path, encoded bytes, a binary file object (read from where it stands), a PIL
            image (left as it is), or an array: uint8 0-255 of shape (H, W), (H, W, 1), (H, W, 3)
            RGB or (H, W, 4) RGBA, or uint16 0-65535 of shape (H, W).
        spec: The model's input; 64x64, stretched, when None.
        max_pixels: Refuse a picture that would hold more pixels than this in memory.

    Returns:
        RGB pixels, uint8 0-255, shape (height, width, 3), upright, transparency over white.

    Raises:
        ImageError: The picture cannot be read; its `kind` says why.
        TypeError: It is none of these.
    """
    return decode(read(source), spec or InputSpec(), max_pixels=max_pixels)


class Picture(NamedTuple):
    """A picture in memory, encoded or as it was given; its name is its path, or ''."""

    name: str
    content: bytes | Image.Image | NDArray[np.uint8] | NDArray[np.uint16]

    @property
    def nbytes(self) -> int:
        """Bytes that reading it took; 0 of what was in memory."""
        return len(self.content) if isinstance(self.content, bytes) else 0


def read(source: ImageSource) -> Picture:
    """Do the first half of `load`: what may have to wait for a disk or a stream.

    Raises:
        ImageError: The file cannot be read.
        TypeError: It is no kind of source.
    """
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        try:
            return Picture(name, _read(name))
        except ImageError as error:
            raise ImageError(error.kind, error.reason, name=name) from error
    if isinstance(source, (bytes, np.ndarray)):
        return Picture("", source)
    if isinstance(source, Image.Image):
        return Picture("", _still_encoded(source) or source)
    data = source.read() if hasattr(source, "read") else None
    if not isinstance(data, bytes):
        raise TypeError(
            "a picture is a path, bytes, a binary file, a PIL image or an array, "
            f"got {type(source).__name__}"
        )
    return Picture("", data)


def decode(picture: Picture, spec: InputSpec, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Do the other half of `load`: what only computes.

    Raises:
        ImageError: The picture cannot be decoded.
    """
    name, content = picture
    try:
        if isinstance(content, bytes):
            return _decode(content, spec, max_pixels)
        if isinstance(content, np.ndarray):
            return _fit_safely(_from_array(content), spec, max_pixels)
        return _fit_safely(content, spec, max_pixels)
    except ImageError as error:
        if not name:
            raise
        raise ImageError(error.kind, error.reason, name=name) from error


def _read(path: str) -> bytes:
    """Read a regular file, without waiting on a FIFO that nobody writes to."""
    try:
        with open(path, "rb", buffering=0, opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ImageError("unreadable", "not a regular file. Name a file on disk")
            if status.st_size > MAX_FILE_BYTES:
                raise too_large(f"{status.st_size} bytes", MAX_FILE_BYTES)
            return file.read()
    except ImageError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError("missing", "no such file. Check the path") from error
    except IsADirectoryError as error:
        raise ImageError("unreadable", "a folder. Classify what it holds with --batch") from error
    except (OSError, ValueError) as error:
        reason = f"cannot be read ({say(error)}). Check its rights and its name"
        raise ImageError("unreadable", reason) from error


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _decode(data: bytes, spec: InputSpec, max_pixels: int) -> NDArray[np.uint8]:
    if not data:
        raise ImageError("empty", "zero bytes. Copy the file again from where it came")
    format = sniff(data[:HEAD_BYTES])
    if format not in _PLUGINS:
        raise _not_decoded(format)
    margin = spec.jpeg_scale_margin * max(spec.height, spec.width) if format == "JPEG" else 0
    if format == "JPEG" and (image := jpeg.decode(data, margin, max_pixels)):
        return _to_pixels(image, spec)
    # A few sound JPEGs (losslessly coded) decode in full but not at a reduced scale.
    failure: Exception | None = None
    for scaled_margin in (margin, 0) if margin else (0,):
        try:
            return _decode_once(data, format, spec, scaled_margin, max_pixels)
        except ImageError:
            raise
        except Exception as error:  # Pillow raises nine kinds on bad files, SyntaxError among them
            failure = failure or error
    assert failure is not None
    raise _explain(failure, format) from failure


def _decode_once(
    data: bytes, format: str, spec: InputSpec, margin: int, max_pixels: int
) -> NDArray[np.uint8]:
    with _open(data, format) as image:
        full_pixels = image.width * image.height
        if margin:
            image.draft(None, (margin, margin))
        # A progressive JPEG holds all its coefficients at full size, however small it decodes.
        held = full_pixels if "progressive" in image.info else image.width * image.height
        _refuse_too_large(held, max_pixels)
        return _fit(image, spec)


def _open(data: bytes, format: str) -> ImageFile.ImageFile:
    """Read the header. Unlike Image.open this knows no limit on megapixels: ours is on memory."""
    module, name = _PLUGINS[format]
    plugin: Any = getattr(import_module(f"PIL.{module}"), name)
    return plugin(io.BytesIO(data))


def _fit_safely(image: Image.Image, spec: InputSpec, max_pixels: int) -> NDArray[np.uint8]:
    _refuse_too_large(image.width * image.height, max_pixels)
    try:
        return _fit(image, spec)
    except ImageError:
        raise
    except Exception as error:
        raise _explain(error, "image") from error


def _fit(image: Image.Image, spec: InputSpec) -> NDArray[np.uint8]:
    image.load()
    if not image.width or not image.height:
        raise ImageError("empty", "zero pixels. Save the picture again")
    orientation = _orientation(image)
    image = _opaque(image)
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    return _to_pixels(image, spec)


def _to_pixels(image: Image.Image, spec: InputSpec) -> NDArray[np.uint8]:
    resized = _resize(image, spec)
    return np.array(resized if resized.mode == "RGB" else resized.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    """Read the EXIF orientation, 1 (upright) when there is none or it is broken."""
    if isinstance(image, JpegImagePlugin.JpegImageFile) and not image.info.keys() & {"exif", "xmp"}:
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # Pillow lets ValueError, SyntaxError and struct.error through here
        return 1


def _opaque(image: Image.Image) -> Image.Image:
    """Convert to 8-bit RGB or grey, transparency over white."""
    if image.mode.startswith("I;16"):
        grey = _from_grey16(np.asarray(image))
        clear = image.info.get("transparency")
        if isinstance(clear, int):
            grey.paste(255, mask=Image.fromarray(np.asarray(image) == clear))
        return grey
    if image.mode in ("I", "F"):
        raise ImageError(
            "unsupported",
            f"pixels of type {image.mode} (32 bits) have no known range. "
            "Scale them to 8 or 16 bits first",
        )
    # A damaged palette image has no palette, which Pillow asserts it has.
    if (image.mode != "P" or image.palette) and image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        return white.convert("RGB")
    return image if image.mode in ("RGB", "L") else image.convert("RGB")


def _resize(image: Image.Image, spec: InputSpec) -> Image.Image:
    resampling = Image.Resampling[spec.interpolation.upper()]
    size = (spec.width, spec.height)
    if spec.fit == "stretch":
        return image.resize(size, resampling)
    scale_x, scale_y = spec.width / image.width, spec.height / image.height
    if spec.fit == "crop":
        scale = max(scale_x, scale_y)
        # Not below 0, where rounding takes it when nothing is to be cut.
        cut_x = max(0.0, (image.width - spec.width / scale) / 2)
        cut_y = max(0.0, (image.height - spec.height / scale) / 2)
        box = (cut_x, cut_y, image.width - cut_x, image.height - cut_y)
        return image.resize(size, resampling, box=box)
    scale = min(scale_x, scale_y)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    padded = Image.new(image.mode, size)
    corner = ((spec.width - inner[0]) // 2, (spec.height - inner[1]) // 2)
    padded.paste(image.resize(inner, resampling), corner)
    return padded


def _still_encoded(image: Image.Image) -> bytes | None:
    """Return the bytes behind a JPEG that PIL has opened but not yet decoded."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.decoderconfig:
        return None
    file = cast("BinaryIO | None", getattr(image, "fp", None))
    if file is None or file.closed or not image.tile or image.tell():
        return None
    position = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(position)
    return data


def _from_array(array_hwc: NDArray[np.generic]) -> Image.Image:
    shape, dtype = array_hwc.shape, array_hwc.dtype
    if 0 in shape:
        raise ImageError("empty", f"an array of shape {shape} has no pixels")
    if dtype == np.uint16 and len(shape) == 2:
        return _from_grey16(cast(NDArray[np.uint16], array_hwc))
    if dtype == np.uint8 and len(shape) == 3 and shape[2] == 1:
        return Image.fromarray(array_hwc[:, :, 0])
    if dtype == np.uint8 and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))):
        return Image.fromarray(array_hwc)
    raise ImageError(
        "unsupported",
        f"expected an array of uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or uint16 (H, W), "
        f"got {dtype} {shape}. Scale floats: (array * 255).round().astype('uint8')",
    )


def _from_grey16(grey_hw: NDArray[np.uint16]) -> Image.Image:
    """Scale 16-bit grey to 8; Pillow's own conversion clips it to white."""
    return Image.fromarray((grey_hw >> 8).astype(np.uint8))


def _refuse_too_large(pixels: int, max_pixels: int) -> None:
    if pixels > max_pixels:
        raise ImageError(
            "too_large",
            f"{pixels} pixels in memory, the limit is {max_pixels}. "
            "Make the picture smaller, or raise max_pixels",
        )


def _not_decoded(format: str | None) -> ImageError:
    if format is None:
        return ImageError(
            "unsupported", "not an image that is decoded. Use JPEG, PNG, GIF, WebP or BMP"
        )
    return ImageError("unsupported", f"{format} is not decoded. Convert it to PNG or JPEG")


def _explain(error: Exception, format: str) -> ImageError:
    if isinstance(error, (Image.DecompressionBombError, MemoryError)):
        reason = f"too many pixels ({say(error)}). Make the picture smaller"
        return ImageError("too_large", reason)
    return ImageError("corrupt", f"damaged {format} ({say(error)}). Save or copy it again")
