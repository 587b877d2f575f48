from collections.abc import Iterator

import pytest

from benchmarks.measuring import QUICK, Rule, in_turns, interval


class Counted:
    """A contender whose turns are prepared, and writes its name down for each."""

    def __init__(self, name: str, turns: Iterator[float], order: list[str]) -> None:
        self._name, self._turns, self._order = name, turns, order

    def __call__(self) -> float:
        self._order.append(self._name)
        return next(self._turns)


def same(value: float) -> Iterator[float]:
    while True:
        yield value


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
    found = in_turns({"a": Counted("a", same(2.0), order)}, Rule(most=25, warm_up=0))

    assert found["a"].rounds == [2.0] * 6
    assert found["a"].is_stable
    assert (found["a"].low, found["a"].high) == (2.0, 2.0)


def test_one_unsteady_contender_keeps_all_going_to_the_most():
    order: list[str] = []
    unsteady = (float(value) for value in range(1, 100))
    contenders = {"a": Counted("a", same(2.0), order), "b": Counted("b", unsteady, order)}

    found = in_turns(contenders, Rule(most=9, warm_up=0))

    assert [len(each.rounds) for each in found.values()] == [9, 9]
    assert (found["a"].is_stable, found["b"].is_stable) == (True, False)


def test_the_budget_ends_the_turns_once_the_least_are_done():
    order: list[str] = []
    unsteady = (float(value) for value in range(1, 100))

    found = in_turns({"a": Counted("a", unsteady, order)}, Rule(least=6, most=25, budget_s=0.0))

    assert len(found["a"].rounds) == 6


def test_turns_to_warm_up_do_not_count():
    order: list[str] = []
    turns = iter([99.0, 98.0, *[1.0] * 6])

    found = in_turns({"a": Counted("a", turns, order)}, Rule(warm_up=2))

    assert found["a"].rounds == [1.0] * 6


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


def test_a_median_is_stable_when_it_was_known_one_round_earlier_too():
    # Of seven rounds the interval reaches to the extremes; of eight it leaves one out at each end.
    turns = [1.0] * 5 + [9.0] + [1.0] * 3
    found = {
        rounds: in_turns(
            {"a": Counted("a", iter(turns), [])}, Rule(least=rounds, most=rounds, warm_up=0)
        )["a"]
        for rounds in (7, 8, 9)
    }

    assert [timing.high for timing in found.values()] == [9.0, 1.0, 1.0]
    assert [timing.is_stable for timing in found.values()] == [False, False, True]


def test_a_single_round_is_never_stable():
    order: list[str] = []

    found = in_turns({"a": Counted("a", same(1.0), order)}, QUICK)["a"]

    assert found.rounds == [1.0]
    assert not found.is_stable
