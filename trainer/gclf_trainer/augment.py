"""Augmentation: whole batches on the device, each picture changed in its own way.

Axes: n batch, h height, w width, c channels (RGB), k classes.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name every PyTorch reader knows

from gclf_trainer.evaluation import to_nchw


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far a training picture may be changed; every default but the first two is off.

    Attributes:
        pad: Shift by up to this many pixels each way, edges repeated (pad + random crop).
        flip: Mirror half of the pictures.
        rotate: Turn by up to this many degrees each way.
        zoom: Scale by up to a factor e**zoom each way, width and height apart by as much again.
        brightness: Lighten or darken by up to this share of the picture's mean.
        contrast: Multiply the distance to the picture's mean by 1 ± up to this.
        erase: Fraction of pictures that lose a rectangle (sides 15-40 % of the picture's).
        mixup: Beta parameter of mixup (Zhang et al. 2018); 0 is off.
    """

    pad: int = 4
    flip: bool = True
    rotate: float = 0.0
    zoom: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    erase: float = 0.0
    mixup: float = 0.0


class Augmenter:
    """Draws from its own generator, so that a seed repeats a run.

    Args:
        recipe: How far pictures may be changed.
        generator: Source of randomness, on the device of the pixels.
    """

    def __init__(self, recipe: Augmentation, generator: torch.Generator) -> None:
        self._recipe = recipe
        self._generator = generator
        self._shares = np.random.default_rng(generator.initial_seed())  # torch has no seeded beta

    def pixels(self, pixels_nhwc: Tensor, rows: Tensor) -> Tensor:
        """Cut a batch out of the dataset and change each picture in its own way.

        Args:
            pixels_nhwc: The dataset: uint8 0-255, shape (N, H, W, 3).
            rows: int64 indices of the batch, shape (B,).

        Returns:
            float32, 0-255 or (brightness, contrast) somewhat beyond, shape (B, 3, H, W),
            channels last in memory.
        """
        recipe = self._recipe
        if recipe.rotate or recipe.zoom:
            batch = self._warp(to_nchw(pixels_nhwc[rows]))
        else:
            batch = to_nchw(self._crop_flip(pixels_nhwc, rows))
        if recipe.brightness or recipe.contrast:
            batch = self._jitter(batch)
        return self._erase(batch) if recipe.erase else batch

    def mix(self, pixels_nchw: Tensor, targets_nk: Tensor) -> tuple[Tensor, Tensor]:
        """Blend each picture and its target with another's of the batch (mixup)."""
        if not self._recipe.mixup:
            return pixels_nchw, targets_nk
        alpha = self._recipe.mixup
        drawn = torch.from_numpy(self._shares.beta(alpha, alpha, len(pixels_nchw)))
        share = torch.maximum(drawn, 1 - drawn).to(pixels_nchw)
        pixels_nchw = torch.lerp(pixels_nchw.flip(0), pixels_nchw, share[:, None, None, None])
        return pixels_nchw, torch.lerp(targets_nk.flip(0), targets_nk, share[:, None])

    def _crop_flip(self, pixels_nhwc: Tensor, rows: Tensor) -> Tensor:
        """Shift and mirror by one gather: padding is an index held at the edge."""
        _, height, width, _ = pixels_nhwc.shape
        y = self._shifted(len(rows), height)
        x = self._shifted(len(rows), width)
        if self._recipe.flip:
            x = torch.where(self._uniform(len(rows), 1) < 0.5, x.flip(1), x)
        return pixels_nhwc[rows[:, None, None], y[:, :, None], x[:, None, :]]

    def _shifted(self, count: int, size: int) -> Tensor:
        pad, device = self._recipe.pad, self._generator.device
        shift = torch.randint(-pad, pad + 1, (count, 1), generator=self._generator, device=device)
        return (torch.arange(size, device=device) + shift).clamp(0, size - 1)

    def _warp(self, batch: Tensor) -> Tensor:
        """Turn, scale, shift and mirror by one bilinear sampling, edges repeated."""
        recipe, count = self._recipe, len(batch)
        angle = self._spread(count, recipe.rotate * math.pi / 180)
        zoom = self._spread(count, recipe.zoom).exp()
        stretch = self._spread(count, recipe.zoom / 2).exp()
        mirror = torch.ones_like(angle)
        if recipe.flip:
            mirror = torch.where(self._uniform(count) < 0.5, -mirror, mirror)
        scale_x, scale_y = zoom * stretch * mirror, zoom / stretch
        shift_y, shift_x = (self._spread(count, 2 * recipe.pad / size) for size in batch.shape[2:])
        matrix = torch.stack(
            [
                torch.stack([scale_x * angle.cos(), -scale_y * angle.sin(), shift_x], 1),
                torch.stack([scale_x * angle.sin(), scale_y * angle.cos(), shift_y], 1),
            ],
            1,
        )
        grid = F.affine_grid(matrix, list(batch.shape), align_corners=False)
        return F.grid_sample(batch, grid, padding_mode="border", align_corners=False)

    def _jitter(self, batch: Tensor) -> Tensor:
        shape = (len(batch), 1, 1, 1)
        contrast = 1 + self._spread(len(batch), self._recipe.contrast).view(shape)
        brightness = 1 + self._spread(len(batch), self._recipe.brightness).view(shape)
        mean = batch.mean((1, 2, 3), keepdim=True)
        return (batch - mean) * contrast + mean * brightness

    def _erase(self, batch: Tensor) -> Tensor:
        """Paint a rectangle with the batch's mean (random erasing, Zhong et al. 2020)."""
        count = len(batch)
        hit = self._uniform(count, 1, 1) < self._recipe.erase
        inside: list[Tensor] = []
        for size in batch.shape[2:]:
            side = 0.15 + 0.25 * self._uniform(count, 1)
            start = self._uniform(count, 1) * (1 - side)
            at = (torch.arange(size, device=batch.device) + 0.5) / size
            inside.append((at >= start) & (at < start + side))
        mask = inside[0][:, :, None] & inside[1][:, None, :] & hit
        return torch.where(mask[:, None], batch.mean(), batch)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._generator, device=self._generator.device)

    def _spread(self, count: int, reach: float) -> Tensor:
        return (self._uniform(count) * 2 - 1) * reach
