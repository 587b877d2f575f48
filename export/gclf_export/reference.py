"""The checkpoint's side of the certificate: the contract, written a second time.

It shares no line with `gclf_runtime.images` nor with the exported graph, so that a fault in either
shows as a difference. It is slower than both, and nothing else may use it.
Axes: n pictures, h height, w width, c channels (RGB), k classes.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from gclf_export.errors import ExportError
from gclf_runtime import InputSpec
from gclf_runtime.cpus import available_cpus
from gclf_trainer.checkpoint import Checkpoint

# Image.open would refuse what has many pixels, and make another kind of a JPEG of several pictures.
_KINDS: dict[bytes, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    b"\xff\xd8\xff": JpegImageFile,
    b"\x89PNG": PngImageFile,
    b"GIF8": GifImageFile,
    b"RIFF": WebPImageFile,
    b"BM": BmpImageFile,
}
_BATCH = 64
_ORIENTATION_TAG = 0x0112
# What the EXIF orientation asks for, in numpy's words.
_TURN: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    2: lambda hwc: hwc[:, ::-1],
    3: lambda hwc: hwc[::-1, ::-1],
    4: lambda hwc: hwc[::-1],
    5: lambda hwc: hwc.transpose(1, 0, 2),
    6: lambda hwc: hwc[::-1].transpose(1, 0, 2),
    7: lambda hwc: hwc[::-1, ::-1].transpose(1, 0, 2),
    8: lambda hwc: hwc.transpose(1, 0, 2)[::-1],
}


@torch.inference_mode()
def answer(
    trained: Checkpoint, names: Sequence[str], read: Callable[[str], bytes]
) -> NDArray[np.float32]:
    """Answer encoded pictures by the checkpoint alone, float32 (N, K); N at least 1.

    Args:
        trained: Its network, and the spec it was trained with.
        names: Of the pictures.
        read: Returns the bytes of one.

    Raises:
        ExportError: A picture cannot be read.
    """
    spec = trained.spec
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (spec.mean, spec.std))
    network = trained.network.eval()
    parts: list[NDArray[np.float32]] = []

    def decode(name: str) -> NDArray[np.uint8]:
        return pixels(read(name), spec.input, name)

    with (
        warnings.catch_warnings(action="ignore"),  # of broken EXIF, and of many pixels
        ThreadPoolExecutor(available_cpus()) as pool,
    ):
        for start in range(0, len(names), _BATCH):
            chunk = names[start : start + _BATCH]
            decoded_nhwc = np.stack(list(pool.map(decode, chunk)))
            images_nchw = torch.from_numpy(decoded_nhwc).permute(0, 3, 1, 2)
            scaled_nchw = ((images_nchw.double() / 255 - mean) / std).float().contiguous()
            logits_nk = network(scaled_nchw).double()
            parts.append(torch.softmax(logits_nk / spec.temperature, 1).float().numpy())
    return np.concatenate(parts)


def pixels(data: bytes, spec: InputSpec, name: str = "a picture") -> NDArray[np.uint8]:
    """Decode one picture and fit it, uint8 0-255, (height, width, 3).

    Raises:
        ExportError: It cannot be read.
    """
    try:
        try:
            upright_hwc = _upright(data, spec.jpeg_scale_margin * max(spec.height, spec.width))
        except Exception:  # lossless JPEGs cannot be decoded at a reduced scale
            upright_hwc = _upright(data, 0)
        return np.asarray(_fitted(Image.fromarray(upright_hwc.copy()), spec))
    except Exception as error:  # Pillow raises nine kinds on bad files, SyntaxError among them
        reason = " ".join(str(error).split())[:200]
        raise ExportError(
            f"{name} cannot be decoded ({reason}). Remove it from the pictures to verify on"
        ) from error


def _upright(data: bytes, side: int) -> NDArray[np.uint8]:
    """Decode, a JPEG at 1/2, 1/4 or 1/8 while no side is below the one given; 0 is in full."""
    opened = next((kind for start, kind in _KINDS.items() if data.startswith(start)), None)
    if not opened:
        raise ValueError("neither JPEG, PNG, GIF, WebP nor BMP")
    with opened(io.BytesIO(data)) as image:
        if opened is JpegImageFile and side:
            image.draft(None, (side, side))
        return _TURN.get(_orientation(image), lambda hwc: hwc)(_rgb(image))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # broken EXIF is none
        return 1


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Return 8-bit colours, (H, W, 3), what is clear over white."""
    if image.mode.startswith("I;16"):
        wide_hw = np.asarray(image)
        grey_hw = np.where(wide_hw == image.info.get("transparency", -1), 255, wide_hw // 256)
        return np.repeat(grey_hw.astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        paper = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(paper, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


def _fitted(image: Image.Image, spec: InputSpec) -> Image.Image:
    """Fit a picture to the input, antialiased as Pillow's filter of that name is."""
    chosen, size = Image.Resampling[spec.interpolation.upper()], (spec.width, spec.height)
    ratios = (spec.width / image.width, spec.height / image.height)
    if spec.fit == "pad":
        inner = [max(1, round(side * min(ratios))) for side in image.size]
        framed = Image.new("RGB", size, (0, 0, 0))
        corner = [(whole - part) // 2 for whole, part in zip(size, inner, strict=True)]
        framed.paste(image.resize((inner[0], inner[1]), chosen), (corner[0], corner[1]))
        return framed
    left = top = 0.0
    if spec.fit == "crop":
        left = max(0.0, (image.width - spec.width / max(ratios)) / 2)
        top = max(0.0, (image.height - spec.height / max(ratios)) / 2)
    return image.resize(size, chosen, box=(left, top, image.width - left, image.height - top))
