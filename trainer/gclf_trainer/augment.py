"""Augmentation: whole batches on the device, each picture changed in its own way.

Axes: n batch, h height, w width, c channels (RGB), k classes.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name every PyTorch reader knows

from gclf_trainer.evaluation import to_nchw
from gclf_trainer.recipe import Augmentation

# Brightness and two axes of colour; grey has 0 on both (NTSC).
_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


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
        if recipe.saturation or recipe.hue:  # once: on a GPU, a copy and an inverse wait for it
            self._to_yiq = torch.tensor(_YIQ, device=generator.device)
            self._from_yiq = torch.linalg.inv(self._to_yiq)

    def pixels(self, pixels_nhwc: Tensor) -> Tensor:
        """Change each picture of a batch in its own way.

        Args:
            pixels_nhwc: uint8 0-255, shape (B, H, W, 3), on the generator's device.

        Returns:
            float32, 0-255 or (jitter of light and colour) somewhat beyond, shape (B, 3, H, W),
            channels last in memory.
        """
        recipe = self._recipe
        if recipe.rotate or recipe.zoom or recipe.crop_scale < 1:
            batch = self._warp(to_nchw(pixels_nhwc))
        else:
            batch = to_nchw(self._crop_flip(pixels_nhwc))
        if recipe.saturation or recipe.hue:
            batch = self._recolour(batch)
        if recipe.brightness or recipe.contrast:
            batch = self._jitter(batch)
        return self._erase(batch) if recipe.erase else batch

    def mix(self, pixels_nchw: Tensor, targets_nk: Tensor) -> tuple[Tensor, Tensor]:
        """Mix each picture and its target with another's of the batch (mixup, CutMix)."""
        mixup, cutmix = self._recipe.mixup, self._recipe.cutmix
        if not mixup and not cutmix:
            return pixels_nchw, targets_nk
        # What stays of each picture: a share of every pixel, or every pixel outside a rectangle.
        count, _, height, width = pixels_nchw.shape
        kept = torch.ones(count, 1, 1, device=pixels_nchw.device)
        if mixup:
            drawn = self._beta(mixup, count)
            kept = torch.maximum(drawn, 1 - drawn)
        if cutmix:
            is_cut = self._uniform(count, 1, 1) < (0.5 if mixup else 1.0)
            outside = self._outside(self._beta(cutmix, count), height, width)
            kept = torch.where(is_cut, outside, kept)
        pixels_nchw = torch.lerp(pixels_nchw.flip(0), pixels_nchw, kept[:, None])
        return pixels_nchw, torch.lerp(targets_nk.flip(0), targets_nk, kept.mean((1, 2))[:, None])

    def _beta(self, parameter: float, count: int) -> Tensor:
        drawn = torch.from_numpy(self._shares.beta(parameter, parameter, (count, 1, 1))).float()
        device = self._generator.device
        return drawn.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else drawn

    def _outside(self, kept_n11: Tensor, height: int, width: int) -> Tensor:
        """Return 0 within a rectangle of about 1 - kept of the area, cut off at edges, else 1."""
        inside: list[Tensor] = []
        for size in (height, width):
            middle = self._uniform(len(kept_n11), 1)
            at = (torch.arange(size, device=kept_n11.device) + 0.5) / size
            inside.append((at - middle).abs() < (1 - kept_n11[:, 0]).sqrt() / 2)
        return (~(inside[0][:, :, None] & inside[1][:, None, :])).float()

    def _crop_flip(self, pixels_nhwc: Tensor) -> Tensor:
        """Shift and mirror by one gather: padding is an index held at the edge."""
        count, height, width, _ = pixels_nhwc.shape
        y = self._shifted(count, height)
        x = self._shifted(count, width)
        if self._recipe.flip:
            x = torch.where(self._uniform(count, 1) < 0.5, x.flip(1), x)
        rows = torch.arange(count, device=pixels_nhwc.device)
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
        height, width = batch.shape[2:]
        if recipe.crop_scale < 1:
            area = 1 - (1 - recipe.crop_scale) * self._uniform(count)
            # So that neither side is longer than the picture's, and the area is what was drawn.
            reach = (-area.log() / 2).clamp(max=math.log(4 / 3) / 2)
            shape = (self._spread(count, 1) * reach).exp()
            side_x, side_y = area.sqrt() * shape, area.sqrt() / shape
            scale_x, scale_y = scale_x * side_x, scale_y * side_y
            shift_x = self._spread(count, 1) * (1 - side_x)
            shift_y = self._spread(count, 1) * (1 - side_y)
        else:
            shift_x, shift_y = (self._spread(count, 2 * recipe.pad / s) for s in (width, height))
        # The grid goes from -1 to 1 along both axes, however long they are: a turn mixes them.
        turn_x, turn_y = angle.sin() * height / width, angle.sin() * width / height
        matrix = torch.stack(
            [
                torch.stack([scale_x * angle.cos(), -scale_y * turn_x, shift_x], 1),
                torch.stack([scale_x * turn_y, scale_y * angle.cos(), shift_y], 1),
            ],
            1,
        )
        grid = F.affine_grid(matrix, list(batch.shape), align_corners=False)
        sampled = F.grid_sample(batch, grid, padding_mode="border", align_corners=False)
        # Sampling leaves channels first; the first convolution would turn them round anyway.
        return sampled.contiguous(memory_format=torch.channels_last)

    def _recolour(self, batch: Tensor) -> Tensor:
        """Turn and stretch colours around grey, brightness kept, by one matrix per picture."""
        count = len(batch)
        angle = self._spread(count, self._recipe.hue * 2 * math.pi)
        stretch = 1 + self._spread(count, self._recipe.saturation)
        cosine, sine = stretch * angle.cos(), stretch * angle.sin()
        one, zero = torch.ones_like(angle), torch.zeros_like(angle)
        rows = ((one, zero, zero), (zero, cosine, -sine), (zero, sine, cosine))
        matrix_n33 = torch.stack([torch.stack(row, 1) for row in rows], 1)
        matrix_n33 = self._from_yiq @ matrix_n33 @ self._to_yiq
        coloured_nhwc = batch.permute(0, 2, 3, 1).flatten(1, 2) @ matrix_n33.mT
        return coloured_nhwc.unflatten(1, batch.shape[2:]).permute(0, 3, 1, 2)

    def _jitter(self, batch: Tensor) -> Tensor:
        shape = (len(batch), 1, 1, 1)
        contrast = 1 + self._spread(len(batch), self._recipe.contrast).view(shape)
        brightness = 1 + self._spread(len(batch), self._recipe.brightness).view(shape)
        mean = batch.mean((1, 2, 3), keepdim=True)
        return ((batch - mean) * contrast + mean) * brightness

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
