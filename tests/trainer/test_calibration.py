import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from gclf_trainer.calibration import calibrate, fit_temperature, measure_reliability


def drawn(count: int, classes: int = 4, *, stretch: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return logits whose labels were drawn from their own probabilities, then stretched."""
    generator = torch.Generator().manual_seed(0)
    logits_nk = 2 * torch.randn(count, classes, generator=generator)
    labels_n = torch.multinomial(torch.softmax(logits_nk, 1), 1, generator=generator)[:, 0]
    return logits_nk * stretch, labels_n


@pytest.mark.parametrize("stretch", [0.5, 1.0, 3.0])
def test_the_factor_that_logits_were_stretched_by_is_found(stretch: float):
    logits_nk, labels_n = drawn(20_000, stretch=stretch)

    # Its standard error at 20,000 pictures is about 1 %.
    assert fit_temperature(logits_nk, labels_n) == pytest.approx(stretch, rel=0.04)


def test_no_other_temperature_has_a_lower_cross_entropy():
    logits_nk, labels_n = drawn(300, stretch=2.2)
    best = fit_temperature(logits_nk, labels_n)

    def loss(temperature: float) -> float:
        return float(F.cross_entropy(logits_nk.double() / temperature, labels_n))

    assert loss(best) <= min(loss(float(t)) for t in np.linspace(0.05, 20, 2000)) + 1e-9


def test_a_fit_repeats_itself():
    logits_nk, labels_n = drawn(500)

    assert len({fit_temperature(logits_nk, labels_n) for _ in range(3)}) == 1


def test_answers_without_a_mistake_leave_the_temperature_at_one():
    logits_nk = torch.eye(3) * 0.1

    assert fit_temperature(logits_nk, torch.arange(3)) == 1
    assert fit_temperature(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)) == 1


def test_a_network_worse_than_chance_gets_the_highest_temperature():
    assert fit_temperature(torch.eye(2), torch.tensor([1, 0])) == pytest.approx(20)


def test_logits_that_are_not_numbers_are_refused():
    with pytest.raises(ValueError, match="finite numbers"):
        fit_temperature(torch.tensor([[1.0, float("nan")]]), torch.tensor([1]))


def test_the_error_is_the_weighted_gap_of_the_bins():
    confidence_n = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    probabilities_nk = np.stack([confidence_n, 1 - confidence_n], 1)
    labels_n = np.array([0, 0, 0, 1, 0, 1])

    measured = measure_reliability(probabilities_nk, labels_n)

    assert measured.error == pytest.approx((4 * (0.95 - 0.75) + 2 * (0.55 - 0.5)) / 6)
    assert measured.count_b[[8, 14]].tolist() == [2, 4]
    assert measured.right_b[[8, 14]].tolist() == [1, 3]
    assert measured.confidence_b[14] == pytest.approx(0.95)


def test_a_bin_ends_with_its_upper_edge():
    probabilities_nk = np.array([[0.0, 1 / 3, 2 / 3], [0.0, 0.0, 1.0]])

    measured = measure_reliability(probabilities_nk, np.array([2, 2]))

    assert measured.count_b.nonzero()[0].tolist() == [9, 14]


def test_nothing_measured_has_no_error():
    assert measure_reliability(np.zeros((0, 3)), np.zeros(0, np.int64)).error == 0


def test_a_network_that_is_too_sure_is_mended():
    measured = calibrate(*drawn(4000, stretch=3))

    assert measured.is_kept
    assert measured.temperature == pytest.approx(3, rel=0.1)
    assert measured.before.error > 0.1
    assert measured.error == measured.after.error < 0.03
    assert measured.loss_after < measured.loss_before


def test_exact_probabilities_measure_about_the_least_error():
    measured = calibrate(*drawn(1000))

    assert 0.01 < measured.least_error < 0.04
    assert measured.before.error == pytest.approx(measured.least_error, rel=0.5)


def test_no_picture_is_judged_with_a_temperature_that_it_had_a_part_in():
    logits_nk, labels_n = drawn(400, stretch=2)
    first_n = torch.zeros(400, dtype=torch.bool)
    first_n[labels_n.argsort(stable=True)[::2]] = True

    crossed_nk = logits_nk.double()
    crossed_nk[first_n] /= fit_temperature(logits_nk[~first_n], labels_n[~first_n])
    crossed_nk[~first_n] /= fit_temperature(logits_nk[first_n], labels_n[first_n])

    measured = calibrate(logits_nk, labels_n)
    assert measured.loss_after == pytest.approx(float(F.cross_entropy(crossed_nk, labels_n)))


def test_a_temperature_that_does_not_help_is_not_kept():
    # The half that holds the one mistake asks to be less sure, which the other has to pay for.
    logits_nk = torch.tensor([[4.0, 0.0]]).repeat(40, 1)
    labels_n = torch.zeros(40, dtype=torch.int64)
    labels_n[-1] = 1

    measured = calibrate(logits_nk, labels_n)

    assert not measured.is_kept
    assert measured.temperature == 1
    assert measured.error == measured.before.error


def test_one_picture_is_enough():
    assert calibrate(torch.tensor([[2.0, 0.0]]), torch.tensor([1])).fitted == pytest.approx(20)
