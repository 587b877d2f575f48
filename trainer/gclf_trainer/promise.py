"""What a model will promise: its classes, its input, how its pixels are normalised.

Axes: n pictures, h height, w width, c channels (RGB).
"""

from dataclasses import replace
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from torch import nn

from gclf_runtime import InputSpec, ModelSpec
from gclf_trainer.errors import RunError
from gclf_trainer.pixels import Dataset
from gclf_trainer.run import Run
from gclf_trainer.transfer import load_weights


def promise_of(dataset: Dataset, spec: InputSpec, license: str) -> ModelSpec:
    """Promise what follows from the pictures; they are normalised by their own statistics."""
    mean, std = pixel_statistics(dataset.train.pixels_nhwc)
    names = ("gclf-trainer", "torch", "pillow", "numpy")
    return ModelSpec(
        label_names=dataset.label_names,
        input=spec,
        mean=(mean, mean, mean),
        std=(std, std, std),
        dataset_sha256=dataset.sha256,
        versions={name: version(name) for name in names},
        license=license,
    )


def transferred(promise: ModelSpec, model: nn.Module, network: str, weights: str) -> ModelSpec:
    """Fill the network; pixels are then normalised as its weights were trained with."""
    loaded = load_weights(model, network, weights, promise.label_names)
    if loaded.normalisation is None:
        return promise
    mean, std = loaded.normalisation
    return replace(promise, mean=mean, std=std)


def as_begun(promise: ModelSpec, run: Run) -> ModelSpec:
    """Normalise as the run did when it began: its weights file may be another one now.

    Raises:
        RunError: Its config.json does not say how.
    """
    try:
        red, green, blue = run.config["mean"]
        mean = (float(red), float(green), float(blue))
        red, green, blue = run.config["std"]
        std = (float(red), float(green), float(blue))
        return replace(promise, mean=mean, std=std)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{run.folder / 'config.json'} has no mean and std of three channels. "
            f"Remove {run.folder} and train anew"
        ) from error


def pixel_statistics(pixels_nhwc: NDArray[np.uint8]) -> tuple[float, float]:
    """Compute mean and standard deviation of all pixels, scaled to 0-1.

    One pair serves all channels, and the mean is a whole level of 255: then an int8 graph takes
    the pixels as they are, its zero point being the mean, and normalises them for nothing
    (per-channel constants cost 70 of 320 µs per picture).

    Args:
        pixels_nhwc: uint8 0-255, shape (N, H, W, 3), N at least 1.

    Returns:
        The mean, and the standard deviation, at least 1/255 also for pictures of one colour.
    """
    levels = np.arange(256)
    counts = sum(np.bincount(picture.ravel(), minlength=256) for picture in pixels_nhwc)
    shares = counts / np.sum(counts)
    mean = round(float(shares @ levels))
    deviation = float(shares @ (levels - mean) ** 2) ** 0.5
    return mean / 255, max(round(deviation), 1) / 255
