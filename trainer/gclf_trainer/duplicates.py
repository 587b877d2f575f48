"""Which pictures of a set are the same, or nearly: re-encoded, lightened, shifted, mirrored.

Every pair cannot be compared (5 billion at 100,000 pictures). Pictures are described by 64 low
frequencies, whose signs are hashed a few at a time; those that share a hash and are alike in
all 64 are compared by their edges, at nine shifts of up to one pixel. Plain correlation of pixels
does not tell: any two dark heads before a white wall reach 0.97.
Axes: n pictures, h height, w width, c channels, d frequencies, k pairs.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gclf_trainer.chosen import Pictures

_FREQUENCIES = [(s - u, u) for s in range(1, 11) for u in range(s + 1)][:64]
_ROWS, _COLUMNS = (np.array(axis) for axis in zip(*_FREQUENCIES, strict=True))
# A shift by one pixel along both axes flips 9 % of the 32 lowest signs (faces of 64 pixels); one
# of 12 hashes of up to 15 signs is then left whole for 98 % of copies.
_TABLES, _STEADIEST = 12, 32
_WINDOW = 24  # compared within one hash; a set of near-equal pictures must not cost its square
_ALIKE_FREQUENCIES = 0.92  # correlation; copies shifted by one pixel: 1 % are below 0.95
_NEIGHBOURS = 3  # compared by their edges, per picture
# Copies saved as JPEG of quality 30, halved or shifted reach 0.84-1 in their edges. Of 39,914 faces
# all pairs above 0.8 were seen to be one photo, below 0.7 most were two people.
_COPY = 0.8
_SURE_COPY = 0.98  # what a set whose pictures are all alike (Fashion-MNIST) is asked for
_COMPARED_PX = 64  # larger pictures are averaged down to it: cost, and a shift is then less
_FLAT = 2.0  # standard deviation, levels of 255: nothing to compare by


@dataclass(frozen=True)
class NearPairs:
    """Pairs of pictures that are nearly the same.

    Attributes:
        first_k: int64 indices.
        second_k: int64 indices, each larger than its first.
        likeness_k: float32 correlation of edges, 0.8-1.
        mirrored_k: bool, whether one is the mirror image of the other.
    """

    first_k: NDArray[np.int64]
    second_k: NDArray[np.int64]
    likeness_k: NDArray[np.float32]
    mirrored_k: NDArray[np.bool_]


def same_pixels(pixels_nhwc: NDArray[np.uint8]) -> list[bytes]:
    """Digest each picture's pixels: equal digests are equal pictures. N may be 0."""
    return [
        hashlib.blake2b(np.ascontiguousarray(picture).data, digest_size=16).digest()
        for picture in pixels_nhwc
    ]


def near_pairs(pixels_nhwc: Pictures) -> NearPairs:
    """Find nearly equal pictures, those of a single colour aside.

    Args:
        pixels_nhwc: uint8 0-255, shape (N, H, W, C), C 1 or 3, H and W at least 8. N may be 0;
            exactly equal pictures should have been left out, they crowd out the nearly equal.

    Returns:
        Each pair once, the likest first. A picture with more than three others like it may miss
        some of them.
    """
    described_nd, is_flat_n = _describe(pixels_nhwc)
    kept = np.flatnonzero(~is_flat_n)
    first_k, second_k, mirrored_k = _candidates(described_nd[kept])
    first_k, second_k = kept[first_k], kept[second_k]
    likeness_k = _likeness(pixels_nhwc, first_k, second_k, mirrored_k)
    wanted = _threshold(len(kept), first_k, second_k, likeness_k)
    order = np.argsort(-likeness_k, kind="stable")
    near = order[likeness_k[order] >= wanted]
    return NearPairs(first_k[near], second_k[near], likeness_k[near], mirrored_k[near])


def _describe(pixels_nhwc: Pictures) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return 64 low frequencies of each picture, of length 1, and whether it is of one colour."""
    count, height, width = pixels_nhwc.shape[:3]
    across, down = _cosines(height), _cosines(width).T
    described_nd = np.zeros((count, len(_FREQUENCIES)), np.float32)
    is_flat_n = np.zeros(count, bool)
    for part in _parts(count, 512):
        grey_nhw = pixels_nhwc[part].mean(axis=3, dtype=np.float32)
        is_flat_n[part] = grey_nhw.std(axis=(1, 2)) < _FLAT
        described_nd[part] = (across @ grey_nhw @ down)[:, _ROWS, _COLUMNS]
    lengths = np.linalg.norm(described_nd, axis=1, keepdims=True)
    return described_nd / np.maximum(lengths, 1e-6), is_flat_n


def _cosines(length: int) -> NDArray[np.float32]:
    """Return the 11 lowest cosines (DCT-II) over so many pixels."""
    angles = np.pi * (2 * np.arange(length) + 1) * np.arange(11)[:, None] / (2 * length)
    return np.sqrt(2 / length) * np.cos(angles).astype(np.float32)


def _parts(count: int, size: int) -> Iterator[slice]:
    yield from (slice(start, start + size) for start in range(0, count, size))


def _candidates(
    described_nd: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return pairs worth a comparison: the few likest of each picture."""
    count = len(described_nd)
    # Mirroring changes the sign of the odd horizontal frequencies.
    mirror_d = np.where(_COLUMNS % 2, -1, 1).astype(np.float32)
    both_nd = np.concatenate([described_nd, described_nd * mirror_d])
    codes: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    likeness: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]
    for key_n in _hashes(both_nd):
        for first_k, second_k in _sharing(key_n, both_nd[:, 0], count):
            alike_k = np.einsum("kd,kd->k", both_nd[first_k], both_nd[second_k])
            good = alike_k >= _ALIKE_FREQUENCIES
            codes.append(_code(first_k[good], second_k[good], count))
            likeness.append(alike_k[good])
    unique_k, at = np.unique(np.concatenate(codes), return_index=True)
    alike_k = np.concatenate(likeness)[at]
    mirrored_k = unique_k % 2 == 1
    first_k, second_k = np.divmod(unique_k // 2, max(count, 1))
    best = _likest(first_k, second_k, alike_k)
    return first_k[best], second_k[best], mirrored_k[best]


def _hashes(both_nd: NDArray[np.float32]) -> Iterator[NDArray[np.int64]]:
    """Yield one key per picture, many times: signs against the set's mean, which halves it."""
    signs_nd = both_nd > both_nd.mean(axis=0) if len(both_nd) else both_nd > 0
    # About eight pictures share a key; so few that one window holds them are all compared.
    bits = 0 if len(both_nd) <= _WINDOW else min(max(len(both_nd).bit_length() - 3, 4), 15)
    generator = np.random.default_rng(0)
    for _ in range(_TABLES):
        chosen = generator.permutation(_STEADIEST)[:bits]
        yield signs_nd[:, chosen] @ (1 << np.arange(bits))


def _sharing(
    key_n: NDArray[np.int64], tie_n: NDArray[np.float32], count: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield pairs of equal key, of pictures or of a picture and a mirrored one."""
    order = np.lexsort((tie_n, key_n))
    sorted_n = key_n[order]
    for step in range(1, min(_WINDOW, len(order) - 1) + 1):
        at = np.flatnonzero(sorted_n[step:] == sorted_n[:-step])
        first_k, second_k = order[at], order[at + step]
        is_new = (np.minimum(first_k, second_k) < count) & (first_k % count != second_k % count)
        for part in _parts(int(np.count_nonzero(is_new)), 200_000):
            yield first_k[is_new][part], second_k[is_new][part]


def _code(first_k: NDArray[np.int64], second_k: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Write a pair as one number: smaller index, larger index, mirrored or not."""
    mirrored_k = (first_k >= count) != (second_k >= count)
    low_k = np.minimum(first_k % count, second_k % count)
    return 2 * (low_k * count + np.maximum(first_k % count, second_k % count)) + mirrored_k


def _likest(
    first_k: NDArray[np.int64], second_k: NDArray[np.int64], alike_k: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Return which pairs are among the likest of one of their pictures."""
    rank_k = np.minimum(*_ranks(first_k, second_k, alike_k))
    return np.flatnonzero(rank_k < _NEIGHBOURS)


def _ranks(
    first_k: NDArray[np.int64], second_k: NDArray[np.int64], alike_k: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Rank each pair among those of its first and of its second picture, likest 0."""
    owner = np.concatenate([first_k, second_k])
    order = np.lexsort((-np.concatenate([alike_k, alike_k]), owner))
    starts = np.searchsorted(owner[order], owner[order])
    rank = np.empty(len(owner), np.int64)
    rank[order] = np.arange(len(owner)) - starts
    return rank.reshape(2, -1)


def _threshold(
    count: int,
    first_k: NDArray[np.int64],
    second_k: NDArray[np.int64],
    likeness_k: NDArray[np.float32],
) -> float:
    """Choose how alike edges must be: a copy stands out from what is usual in its set.

    The third neighbour of a picture says what is usual: its own copies are the first and second.
    """
    owner = np.concatenate([first_k, second_k])
    is_third = _ranks(first_k, second_k, likeness_k).ravel() == _NEIGHBOURS - 1
    third_n = np.zeros(count, np.float32)  # most pictures of most sets have none
    third_n[: np.count_nonzero(is_third)] = np.concatenate([likeness_k, likeness_k])[is_third]
    usual = 1 - float(np.median(third_n)) if len(owner) else 1.0
    return min(1 - (1 - _COPY) * usual**2, _SURE_COPY)


def _likeness(
    pixels_nhwc: Pictures,
    first_k: NDArray[np.int64],
    second_k: NDArray[np.int64],
    mirrored_k: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Correlate the edges of pairs at the best of nine shifts by up to one pixel."""
    likeness_k = np.zeros(len(first_k), np.float32)
    for part in _parts(len(first_k), 256):
        one = _small(pixels_nhwc, first_k[part])
        other = _small(pixels_nhwc, second_k[part])
        other = np.where(mirrored_k[part, None, None], other[:, :, ::-1], other)
        likeness_k[part] = _best_shift(one, other)
    return likeness_k


def _best_shift(
    one_khw: NDArray[np.float32], other_khw: NDArray[np.float32]
) -> NDArray[np.float32]:
    height, width = one_khw.shape[1:]
    edges_kd = _edges(one_khw[:, 1:-1, 1:-1])
    shifted = (
        _edges(other_khw[:, down : height - 2 + down, right : width - 2 + right])
        for down in range(3)
        for right in range(3)
    )
    found: Sequence[NDArray[np.float32]] = [
        np.einsum("kd,kd->k", edges_kd, shifted_kd) for shifted_kd in shifted
    ]
    return np.max(found, axis=0)


def _small(pixels_nhwc: Pictures, index_k: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return grey pictures, averaged down to about 64 pixels."""
    grey_khw = pixels_nhwc[index_k].mean(axis=3, dtype=np.float32)
    count, height, width = grey_khw.shape
    by = max(1, min(height, width) // _COMPARED_PX)
    rows, columns = height // by, width // by
    trimmed = grey_khw[:, : rows * by, : columns * by]
    return trimmed.reshape(count, rows, by, columns, by).mean(axis=(2, 4))


def _edges(grey_khw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return differences to the right and down of 2×2 means, as vectors of length 1."""
    tall = grey_khw[:, 1:] + grey_khw[:, :-1]
    soft = tall[:, :, 1:] + tall[:, :, :-1]
    right, down = np.diff(soft, axis=2), np.diff(soft, axis=1)
    edges_kd = np.concatenate([e.reshape(len(e), -1) for e in (right, down)], axis=1)
    return edges_kd / np.maximum(np.linalg.norm(edges_kd, axis=1, keepdims=True), 1e-6)
