import numpy as np

from gclf_trainer.chosen import Chosen


def test_chosen_pictures_are_those_of_one_array():
    parts = [np.arange(n * 6, dtype=np.uint8).reshape(n, 1, 2, 3) + n for n in (4, 0, 3)]
    one = np.concatenate(parts)
    rows = np.array([6, 0, 3, 4, 4])
    chosen = Chosen(parts, rows)

    assert chosen.shape == (5, 1, 2, 3)
    for index in (slice(0, 2), slice(4, 9), slice(5, 6), np.array([4, 0, 0]), np.zeros(0, int)):
        np.testing.assert_array_equal(chosen[index], one[rows][index])
