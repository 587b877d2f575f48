import math

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from torch import Tensor

from gclf_trainer.augment import Augmenter
from gclf_trainer.recipe import Augmentation

OFF = {"pad": 0, "flip": False}


def pixels(count: int = 64, height: int = 12, width: int = 16):
    generator = torch.Generator().manual_seed(1)
    shape = (count, height, width, 3)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def augmenter(seed: int = 0, **recipe: float) -> Augmenter:
    return Augmenter(Augmentation(**(OFF | recipe)), torch.Generator().manual_seed(seed))  # pyright: ignore[reportArgumentType]


def plain(dataset: Tensor) -> Tensor:
    return dataset.permute(0, 3, 1, 2).float()


def test_nothing_asked_for_changes_nothing():
    dataset = pixels()
    rows = torch.tensor([3, 1, 1])

    batch = augmenter().pixels(dataset[rows])

    assert torch.equal(batch, plain(dataset)[rows])
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_flip_mirrors_about_half_of_the_pictures_and_nothing_else():
    dataset = pixels(400)
    batch = augmenter(flip=True).pixels(dataset)

    same = (batch == plain(dataset)).flatten(1).all(1)
    mirrored = (batch == plain(dataset).flip(3)).flatten(1).all(1)
    assert bool((same ^ mirrored).all())
    assert 140 < int(mirrored.sum()) < 260


def test_pad_shifts_each_picture_its_own_way_with_edges_repeated():
    dataset = pixels(200)
    batch = augmenter(pad=2).pixels(dataset)
    padded = torch.nn.functional.pad(plain(dataset), (2, 2, 2, 2), mode="replicate")

    shifts = set()
    for number in range(200):
        found = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if torch.equal(batch[number], padded[number, :, y : y + 12, x : x + 16])
        ]
        assert len(found) == 1
        shifts.add(found[0])
    assert len(shifts) == 25


def test_a_seed_repeats_a_batch_and_another_does_not():
    everything = {
        "pad": 4,
        "rotate": 10,
        "zoom": 0.1,
        "crop_scale": 0.5,
        "brightness": 0.2,
        "contrast": 0.2,
        "saturation": 0.2,
        "hue": 0.1,
        "erase": 0.5,
    }
    dataset = pixels()
    first, again, other = (augmenter(seed, **everything).pixels(dataset) for seed in (0, 0, 1))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_turning_keeps_the_middle_and_no_turn_keeps_everything():
    dataset = pixels(8, 15, 15)
    barely = augmenter(rotate=1e-6).pixels(dataset)
    turned = augmenter(rotate=45).pixels(dataset)

    torch.testing.assert_close(barely, plain(dataset), rtol=0, atol=1e-2)
    torch.testing.assert_close(turned[:, :, 7, 7], plain(dataset)[:, :, 7, 7], rtol=0, atol=1e-2)
    assert not torch.allclose(turned, plain(dataset))


@pytest.mark.parametrize("size", [(32, 96), (96, 32), (64, 64)], ids=str)
def test_a_disc_stays_a_disc_however_it_is_turned(size: tuple[int, int]):
    y, x = torch.meshgrid(*(torch.arange(side) - side / 2 + 0.5 for side in size), indexing="ij")
    long, short = (x, y) if size[1] >= size[0] else (y, x)
    disc = (((long - 20) ** 2 + short**2 < 64)[..., None] * 255).to(torch.uint8)
    turned = augmenter(rotate=10).pixels(disc.expand(200, -1, -1, 3))[:, 0] / 255

    mass = turned.sum((1, 2))
    at_long, at_short = ((turned * at).sum((1, 2)) / mass for at in (long, short))
    from_long, from_short = long - at_long[:, None, None], short - at_short[:, None, None]
    for product, expected in (
        (from_long**2, 16),  # a quarter of the squared radius, and somewhat more by interpolation
        (from_short**2, 16),
        (from_long * from_short, 0),
    ):
        spread = (turned * product).sum((1, 2)) / mass
        assert float((spread - expected).abs().max()) < 1
    torch.testing.assert_close(
        torch.hypot(at_long, at_short), torch.full_like(mass, 20), rtol=0, atol=0.2
    )
    assert float(at_short.abs().max()) == pytest.approx(20 * math.sin(math.radians(10)), abs=0.2)


def test_zoom_scales_each_axis_within_its_reach():
    y, x = torch.meshgrid(torch.arange(64) - 31.5, torch.arange(96) - 47.5, indexing="ij")
    disc = ((x**2 + y**2 < 256)[..., None] * 255).to(torch.uint8).expand(1000, -1, -1, 3)
    zoomed = augmenter(zoom=0.2).pixels(disc)[:, 0] / 255

    mass = zoomed.sum((1, 2))
    factor_x, factor_y = (((zoomed * at**2).sum((1, 2)) / mass / 64).sqrt().log() for at in (x, y))
    size, shape = (factor_x + factor_y) / 2, (factor_x - factor_y) / 2
    for reach, drawn in ((0.2, size), (0.1, shape)):
        assert float(drawn.abs().max()) < reach + 0.02
        assert float(drawn.max()) > reach - 0.02
        assert float(drawn.min()) < -reach + 0.02


def test_a_turned_picture_is_mirrored_and_shifted_too():
    dataset = pixels(200)
    batch = augmenter(rotate=1e-6, flip=True).pixels(dataset)

    def is_close(one: Tensor, other: Tensor) -> Tensor:
        return ((one - other).abs() < 0.1).flatten(1).all(1)

    same, mirrored = is_close(batch, plain(dataset)), is_close(batch, plain(dataset).flip(3))
    assert bool((same ^ mirrored).all())
    assert 70 < int(mirrored.sum()) < 130

    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(16.0), indexing="ij")
    ramps = torch.stack([10 * x, 10 * y, y], -1).to(torch.uint8).expand(500, -1, -1, 3)
    shifted = augmenter(rotate=1e-6, pad=2).pixels(ramps)[:, :2, 6, 8] / 10
    for axis, middle in enumerate((8, 6)):
        assert middle - 2.01 <= float(shifted[:, axis].min()) < middle - 1.9
        assert middle + 1.9 < float(shifted[:, axis].max()) <= middle + 2.01


@pytest.mark.parametrize(
    "recipe",
    [{"rotate": 5.0}, {"zoom": 0.1, "erase": 0.5}, {"crop_scale": 0.5, "hue": 0.1}],
    ids=str,
)
def test_channels_are_last_in_memory_whatever_was_done(recipe: dict[str, float]):
    batch = augmenter(0, **recipe).pixels(pixels())

    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_brightness_and_contrast_stay_within_their_reach():
    grey = torch.full((500, 4, 4, 3), 100, dtype=torch.uint8)
    batch = augmenter(brightness=0.2).pixels(grey)

    assert 80 <= float(batch.min()) < 85
    assert 115 < float(batch.max()) <= 120
    two_levels = torch.tensor([0, 200], dtype=torch.uint8).view(1, 1, 2, 1).expand(9, 1, 2, 3)
    lighter = augmenter(brightness=0.5).pixels(two_levels)
    assert not bool(lighter[:, :, 0, 0].any())  # black stays black
    assert 10 < float((lighter[:, 0, 0, 1] - 200).abs().max()) <= 100
    contrasted = augmenter(contrast=0.5).pixels(pixels())
    torch.testing.assert_close(
        contrasted.mean((1, 2, 3)), plain(pixels()).mean((1, 2, 3)), rtol=1e-4, atol=1e-2
    )


def test_a_crop_is_an_enlarged_part_of_its_picture():
    ramp = torch.arange(240, dtype=torch.uint8).view(1, 1, 240, 1).expand(300, 8, 240, 3)
    batch = augmenter(crop_scale=0.25).pixels(ramp)

    left, right = batch[:, 0, 4, 0], batch[:, 0, 4, -1]
    width = (right - left) / 239
    assert float(left.min()) >= 0
    assert float(right.max()) <= 239
    assert float(width.min()) > 0.5 * 0.75**0.5 - 0.02  # half as wide, at the narrowest shape
    assert float(width.max()) > 0.95
    middle = (left + right) / 2
    assert float(middle.min()) < 80
    assert float(middle.max()) > 160
    torch.testing.assert_close(batch[:, 0, 4, 120] - middle, width / 2, rtol=0, atol=0.05)


@pytest.mark.parametrize("crop_scale", [0.05, 0.3, 0.9, 0.99])
@pytest.mark.parametrize("pad", [0, 4])
def test_the_areas_of_crops_go_evenly_from_the_least_to_all(crop_scale: float, pad: int):
    height, width = 32, 48
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(48.0), indexing="ij")
    ramps = torch.stack([5 * x, 5 * y, y], -1).to(torch.uint8).expand(4000, -1, -1, 3)
    batch = augmenter(crop_scale=crop_scale, pad=pad).pixels(ramps) / 5

    # Between pixels that lie within the picture, so that no edge is repeated there.
    step_x = (batch[:, 0, 16, 32] - batch[:, 0, 16, 16]) / 16
    step_y = (batch[:, 1, 24, 24] - batch[:, 1, 8, 24]) / 16
    area = step_x * step_y
    assert float(area.min()) == pytest.approx(crop_scale, abs=0.01)
    assert float(area.max()) == pytest.approx(1, abs=0.01)
    assert float(area.mean()) == pytest.approx((1 + crop_scale) / 2, abs=0.02)
    ratio = (step_x / step_y).log()
    assert float(ratio.abs().max()) < math.log(4 / 3) + 0.01
    for step, axis, size in ((step_x, 0, width), (step_y, 1, height)):
        middle = batch[:, axis, 15:17, 23:25].mean((1, 2))  # of the part that was cut out
        assert float((middle - step * size / 2).min()) > -0.51
        assert float((middle + step * size / 2).max()) < size - 0.49


@pytest.mark.parametrize("crop_scale", [0.0, 1.5, -1.0])
def test_a_crop_of_nothing_or_of_more_than_the_picture_is_refused(crop_scale: float):
    with pytest.raises(ValueError, match="crop_scale must be above 0 and at most 1"):
        augmenter(crop_scale=crop_scale)


@pytest.mark.parametrize("recipe", [{"saturation": 0.5}, {"hue": 0.5}], ids=str)
def test_colours_change_while_brightness_and_grey_do_not(recipe: dict[str, float]):
    dataset = pixels(40)
    batch = augmenter(0, **recipe).pixels(dataset)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)

    torch.testing.assert_close(
        (batch * luma).sum(1), (plain(dataset) * luma).sum(1), rtol=0, atol=0.5
    )
    assert float((batch - plain(dataset)).abs().mean((1, 2, 3)).min()) < 5
    assert float((batch - plain(dataset)).abs().mean((1, 2, 3)).max()) > 15
    grey = dataset[..., :1].expand(-1, -1, -1, 3)
    torch.testing.assert_close(augmenter(0, **recipe).pixels(grey), plain(grey), rtol=0, atol=0.5)


@pytest.mark.parametrize(
    ("hue", "furthest"),
    [(1 / 3, {(0, 1, 0), (0, 0, 1)}), (0.05, {(1, 0, 0)})],
    ids=["a third of a turn", "a twentieth"],
)
def test_a_third_of_a_turn_takes_red_to_green_and_to_blue(
    hue: float, furthest: set[tuple[int, ...]]
):
    red = torch.tensor([200, 0, 0], dtype=torch.uint8).expand(2000, 2, 2, 3)
    batch = augmenter(hue=hue).pixels(red)[:, :, 0, 0]

    ends = batch[
        [int((batch[:, 1] - batch[:, 2]).argmax()), int((batch[:, 2] - batch[:, 1]).argmax())]
    ]
    largest = {tuple((end == end.max()).int().tolist()) for end in ends}
    assert largest == furthest


def test_saturation_is_the_distance_to_grey():
    dataset = pixels(1)
    batch = augmenter(saturation=0.9).pixels(dataset)
    grey = (plain(dataset) * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, True)

    distance = plain(dataset) - grey
    factor = ((batch - grey) * distance).sum() / distance.square().sum()
    assert 0.1 <= float(factor) <= 1.9
    torch.testing.assert_close(batch, grey + factor * distance, rtol=0, atol=1)


def test_erasing_takes_one_rectangle_from_about_its_share():
    white = torch.full((400, 32, 32, 3), 255, dtype=torch.uint8)
    white[0] = 0  # so that the mean that is painted differs from white
    batch = augmenter(erase=0.5).pixels(white)[1:]

    erased = (batch != 255).any(1)
    hit = erased.flatten(1).any(1)
    assert 150 < int(hit.sum()) < 250
    share = erased.float().mean((1, 2))[hit]
    assert float(share.min()) > 0.01
    assert float(share.max()) < 0.2


def test_mixup_blends_pictures_and_targets_alike():
    dataset = torch.zeros(2, 4, 4, 3)
    dataset[1] = 1
    targets = torch.eye(2)
    mixed, mixed_targets = augmenter(mixup=0.4).mix(dataset.permute(0, 3, 1, 2), targets)

    torch.testing.assert_close(mixed[:, 0, 0, 0], mixed_targets[:, 1])
    torch.testing.assert_close(mixed_targets.sum(1), torch.ones(2))
    assert bool((mixed_targets.diagonal() >= 0.5).all())


def test_cutmix_pastes_a_rectangle_and_shares_the_target_by_its_area():
    count, size = 400, 16
    stripes = (torch.arange(count) % 2).float()[:, None, None, None].expand(-1, 3, size, size)
    targets = torch.eye(2)[torch.arange(count) % 2]
    mixed, mixed_targets = augmenter(cutmix=1.0).mix(stripes, targets)

    assert set(mixed.unique().tolist()) == {0.0, 1.0}
    pasted = mixed[:, 0] != stripes[:, 0]
    area = pasted.float().mean((1, 2))
    assert torch.equal(area, pasted.any(2).float().mean(1) * pasted.any(1).float().mean(1))
    torch.testing.assert_close(mixed_targets.amin(1), torch.minimum(area, 1 - area))
    torch.testing.assert_close(mixed_targets[:, 1], mixed[:, 0].mean((1, 2)))
    assert len(area.unique()) > 30
    assert 0.2 < float(area.mean()) < 0.5


def test_with_both_each_picture_is_either_blended_or_pasted_into():
    count = 400
    stripes = (torch.arange(count) % 2).float()[:, None, None, None].expand(-1, 3, 8, 8)
    mixed, _ = augmenter(mixup=20.0, cutmix=1.0).mix(stripes, torch.zeros(count, 2))

    blended = ((mixed > 0) & (mixed < 1)).flatten(1).all(1)
    pasted = ((mixed == 0) | (mixed == 1)).flatten(1).all(1)
    assert bool((blended ^ pasted).all())
    assert 140 < int(blended.sum()) < 260


@pytest.mark.parametrize("parameter", [0.2, 1.0, 20.0])
def test_the_shares_of_mixup_follow_the_beta_distribution(parameter: float):
    count = 20_000
    whole = torch.arange(count)[:, None, None, None] % 2 * 1.0  # neighbours are 0 and 1
    mixed, _ = augmenter(mixup=parameter).mix(whole, torch.zeros(count, 2))
    larger = torch.maximum(mixed, 1 - mixed)

    expected = np.random.default_rng(0).beta(parameter, parameter, 200_000)
    expected = np.maximum(expected, 1 - expected)
    assert float(larger.mean()) == pytest.approx(expected.mean(), abs=0.01)
    assert float(larger.std()) == pytest.approx(expected.std(), abs=0.01)
