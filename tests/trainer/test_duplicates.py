import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

pytest.importorskip("torch")

from gclf_trainer.duplicates import near_pairs, same_pixels

Drawn = Callable[..., NDArray[np.uint8]]


def saved_again(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "JPEG", quality=60)
    return np.asarray(Image.open(file))


COPIES: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "saved again as JPEG": saved_again,
    "lighter": lambda picture: (picture * 1.1 + 10).clip(0, 255).astype(np.uint8),
    "less contrast": lambda picture: (picture * 0.6 + 40).astype(np.uint8),
    "shifted by one pixel": lambda picture: np.roll(picture, 1, axis=1),
    "shifted diagonally": lambda picture: np.roll(picture, (1, -1), axis=(0, 1)),
    "mirrored": lambda picture: np.ascontiguousarray(picture[:, ::-1]),
    "mirrored and saved again": lambda picture: saved_again(picture[:, ::-1]),
    "softened": lambda picture: np.asarray(
        Image.fromarray(picture).filter(ImageFilter.GaussianBlur(0.7))
    ),
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES.keys())
def test_a_changed_copy_is_found(
    drawn: Drawn, change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
):
    originals = drawn(300)
    copied = np.stack([change(picture) for picture in originals[:100]])

    found = near_pairs(np.concatenate([originals, copied]))

    expected = {(number, 300 + number) for number in range(100)}
    pairs = set(zip(found.first_k.tolist(), found.second_k.tolist(), strict=True))
    assert pairs <= expected
    assert len(pairs) >= 97  # measured: 98-100


@pytest.mark.parametrize(
    ("one", "other"), [(True, False), (False, True)], ids=["mirrored", "upright"]
)
def test_a_mirrored_copy_is_told_from_an_upright_one(drawn: Drawn, one: bool, other: bool):
    originals = drawn(50)
    change = COPIES["mirrored and saved again" if one else "saved again as JPEG"]
    found = near_pairs(np.concatenate([originals, np.stack([change(p) for p in originals[:20]])]))

    assert len(found.first_k) == 20
    assert found.mirrored_k.all() == one
    assert (~found.mirrored_k).all() == other


def test_different_pictures_of_one_kind_are_no_copies(drawn: Drawn):
    scene, detail = drawn(1)[0], drawn(200, seed=1)
    alike = (scene[None] * 0.5 + detail * 0.5).astype(np.uint8)

    assert len(near_pairs(alike).first_k) == 0


def test_dark_heads_before_a_white_wall_are_no_copies(drawn: Drawn):
    row, column = np.mgrid[:64, :64]
    down, right, across = (
        np.random.default_rng(2).normal((36, 32, 20), 1, (100, 3)).T[..., None, None]
    )
    heads_nhw = (row - down) ** 2 / 1.4 + (column - right) ** 2 < across**2
    heads = np.where(heads_nhw[..., None], drawn(100) // 2, 250).astype(np.uint8)
    flat = heads.reshape(100, -1).astype(np.float64)

    assert np.corrcoef(flat).mean() > 0.8
    assert len(near_pairs(heads).first_k) == 0


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_pictures_are_compared_too(drawn: Drawn, count: int):
    assert len(near_pairs(drawn(count + 1)[:count]).first_k) == 0


def test_two_pictures_that_are_copies_are_found(drawn: Drawn):
    one = drawn(1)[0]

    assert len(near_pairs(np.stack([one, saved_again(one)])).first_k) == 1


def test_pictures_of_one_colour_are_no_near_copies():
    levels = np.arange(0, 200, dtype=np.uint8)

    flat = np.broadcast_to(levels[:, None, None, None], (200, 64, 64, 3)).copy()

    assert len(near_pairs(flat).first_k) == 0


@pytest.mark.parametrize(("height", "width", "channels"), [(8, 8, 1), (200, 130, 3), (28, 28, 1)])
def test_any_shape_of_picture_is_compared(drawn: Drawn, height: int, width: int, channels: int):
    made = drawn(20, side=max(height, width))[:, :height, :width, :channels]
    lighter = (made[:5] * 0.9).astype(np.uint8)

    found = near_pairs(np.concatenate([made, lighter]))

    assert set(zip(found.first_k.tolist(), found.second_k.tolist(), strict=True)) == {
        (number, 20 + number) for number in range(5)
    }


@pytest.mark.parametrize("count", [0, 1, 5])
def test_equal_pixels_have_equal_digests(drawn: Drawn, count: int):
    made = drawn(5)[:count]

    digests = same_pixels(np.concatenate([made, made]))

    assert digests[:count] == digests[count:]
    assert len(set(digests)) == count
