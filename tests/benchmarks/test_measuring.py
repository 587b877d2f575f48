from collections.abc import Iterator
from math import inf

import pytest

from benchmarks.measuring import QUICK, Rule, Timing, in_turns, interval, ratio, repeated


class Counted:
    """A contender that returns prepared turns, and writes its name down for each."""

    def __init__(self, name: str, turns: Iterator[list[float]], order: list[str]) -> None:
        self._name, self._turns, self._order = name, turns, order

    def __call__(self) -> list[float]:
        self._order.append(self._name)
        return next(self._turns)


def same(value: float) -> Iterator[list[float]]:
    while True:
        yield [value]


def timing(*rounds: float) -> Timing:
    return Timing(list(rounds), min(rounds), max(rounds), True, len(rounds), 0, 0, 0)


# Ranks of the order statistics at 90 %: Conover, table A3 of the binomial with p = 0.5.
@pytest.mark.parametrize(
    ("count", "rank"), [(5, 1), (7, 1), (8, 2), (10, 2), (11, 3), (15, 4), (20, 6), (25, 8)]
)
def test_an_interval_reaches_from_one_rank_to_its_mirror(count: int, rank: int):
    values = [float(value) for value in range(count, 0, -1)]

    assert interval(values) == (rank, count + 1 - rank)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_too_few_values_have_their_extremes(count: int):
    assert interval([float(value) for value in range(count)]) == (0, count - 1)


def test_turns_end_when_every_median_is_known():
    order: list[str] = []
    found = in_turns({"a": Counted("a", same(2.0), order)}, Rule(least=5, most=25, warm_up=0))

    assert found["a"].rounds == [2.0] * 5
    assert found["a"].is_stable
    assert (found["a"].low, found["a"].high) == (2.0, 2.0)


def test_one_unsteady_contender_keeps_all_going_to_the_most():
    order: list[str] = []
    unsteady = ([float(value)] for value in range(1, 100))
    contenders = {"a": Counted("a", same(2.0), order), "b": Counted("b", unsteady, order)}

    found = in_turns(contenders, Rule(most=9, warm_up=0))

    assert [len(each.rounds) for each in found.values()] == [9, 9]
    assert (found["a"].is_stable, found["b"].is_stable) == (True, False)


def test_the_budget_ends_the_turns_once_the_least_are_done():
    order: list[str] = []
    unsteady = ([float(value)] for value in range(1, 100))

    found = in_turns({"a": Counted("a", unsteady, order)}, Rule(least=6, most=25, budget_s=0.0))

    assert len(found["a"].rounds) == 6


def test_turns_to_warm_up_do_not_count():
    order: list[str] = []
    turns = iter([[99.0], [98.0], *[[1.0]] * 5])

    found = in_turns({"a": Counted("a", turns, order)}, Rule(warm_up=2))

    assert found["a"].rounds == [1.0] * 5
    assert found["a"].samples == 5


def test_every_round_has_all_in_an_order_drawn_anew():
    names, order = ("a", "b", "c"), list[str]()
    contenders = {name: Counted(name, same(1.0), order) for name in names}

    in_turns(contenders, Rule(least=12, most=12, warm_up=0), seed=3)
    again, repeat = {n: Counted(n, same(1.0), order) for n in names}, len(order)
    in_turns(again, Rule(least=12, most=12, warm_up=0), seed=3)

    rounds = [tuple(order[start : start + 3]) for start in range(0, repeat, 3)]
    assert all(sorted(one) == list(names) for one in rounds)
    assert len(set(rounds)) > 2
    assert order[repeat:] == order[:repeat]


def test_a_turn_counts_by_its_median_and_its_values_by_percentiles():
    order: list[str] = []
    turns = iter([[1.0, 2.0, 100.0]] * 5)

    found = in_turns({"a": Counted("a", turns, order)}, Rule(warm_up=0))["a"]

    assert found.median == 2.0
    assert found.samples == 15
    assert (found.p50, found.p95, found.p99) == (2.0, 100.0, 100.0)


def test_a_single_round_is_never_stable():
    order: list[str] = []

    found = in_turns({"a": Counted("a", same(1.0), order)}, QUICK)["a"]

    assert found.rounds == [1.0]
    assert not found.is_stable


def test_a_ratio_is_of_each_round_and_not_of_the_medians():
    # The machine was twice as slow in the last three rounds, for both.
    slow, fast = timing(2, 2, 2, 4, 4), timing(1, 1, 1, 2, 2)

    assert ratio(slow, fast) == (2.0, 2.0, 2.0)


def test_a_ratio_of_other_rounds_is_refused():
    with pytest.raises(ValueError, match="zip"):
        ratio(timing(1, 2), timing(1, 2, 3))


def test_repeated_calls_are_as_many_as_asked_for_at_least():
    called: list[int] = []

    taken = repeated(lambda: called.append(1), at_least_s=0.0, at_least=4)

    assert len(taken) == len(called) == 4
    assert all(0 <= value < inf for value in taken)
