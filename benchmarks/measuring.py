"""One way to time for every question: warm up, take turns, go on until the median is known.

Contenders take turns round by round, in an order drawn anew for each, so that a busy machine is as
unkind to one as to the other, and are compared by the ratios of each round. A figure is the median
of the rounds. Its interval is that of two order statistics around it (Conover, Practical
Nonparametric Statistics, section 3.2): whatever the distribution of times, of all figures it holds
the true median in nine cases of ten, if rounds do not depend on each other. A machine that is slow
for minutes breaks that, for ratios less. To stop when it is narrow prefers those that are so by
chance, so a figure is stable only if its interval was narrow one round earlier too.
"""

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

Contender: TypeAlias = Callable[[], float]
"""One turn: returns what it took, in any one unit."""

_DOUBT = 0.1  # the interval misses the true median in at most one case of ten


@dataclass(frozen=True)
class Rule:
    """When to stop.

    Attributes:
        bound: The median is known when its interval reaches no further than this share of it, and
            did so one round earlier.
        least: Rounds at least; an interval can be told from the fifth on, so twice from the sixth.
        most: Rounds at most; a figure still unknown then is marked.
        budget_s: Start no further round after this many seconds, once `least` are done.
        warm_up: Turns of each that do not count.
    """

    bound: float = 0.03
    least: int = 6
    most: int = 25
    budget_s: float = math.inf
    warm_up: int = 1


QUICK = Rule(bound=math.inf, least=1, most=1, warm_up=0)
"""To see that a question can be asked, not for its answer."""


@dataclass(frozen=True)
class Timing:
    """What the turns of one contender took.

    Attributes:
        rounds: What each turn took, in order.
        low: Lower end of the interval of the median of `rounds`; the smallest when unknown.
        high: Upper end.
        is_stable: The interval is within the bound of the rule, and was one round earlier.
    """

    rounds: list[float]
    low: float
    high: float
    is_stable: bool

    @property
    def median(self) -> float:
        """Median of the rounds."""
        return statistics.median(self.rounds)

    def record(self) -> dict[str, Any]:
        """Return what a result file keeps."""
        return {"median": self.median, **asdict(self)}


def in_turns(
    contenders: Mapping[str, Contender], rule: Rule, *, seed: int = 0
) -> dict[str, Timing]:
    """Let contenders take turns until every median is known, or the rule says enough."""
    order = random.Random(seed)
    for _ in range(rule.warm_up):
        for contender in contenders.values():
            contender()
    rounds: dict[str, list[float]] = {name: [] for name in contenders}
    end = time.perf_counter() + rule.budget_s
    for number in range(1, rule.most + 1):
        for name in order.sample(list(contenders), len(contenders)):
            rounds[name].append(contenders[name]())
        if number >= rule.least and (
            all(is_stable(values, rule.bound) for values in rounds.values())
            or time.perf_counter() > end
        ):
            break
    return {
        name: Timing(values, *interval(values), is_stable(values, rule.bound))
        for name, values in rounds.items()
    }


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return an interval of the median at 90 % or more; the extremes when they are too few."""
    ordered = sorted(values)
    rank = max(1, _rank(len(ordered)))
    return ordered[rank - 1], ordered[-rank]


def _rank(count: int) -> int:
    """Return the largest r for which the r-th smallest and largest hold the median surely enough.

    Each value is below the median with probability a half, so r is a binomial quantile.
    """
    missed, rank = 0.0, 0
    while rank < count // 2:
        missed += math.comb(count, rank) / 2**count
        if 2 * missed > _DOUBT:
            break
        rank += 1
    return rank


def is_stable(rounds: Sequence[float], bound: float) -> bool:
    """Tell whether the median is known within a share of it, and was one round earlier."""
    return _is_known(rounds, bound) and _is_known(rounds[:-1], bound)


def _is_known(values: Sequence[float], bound: float) -> bool:
    if _rank(len(values)) == 0:
        return False
    low, high = interval(values)
    middle = statistics.median(values)
    return max(high - middle, middle - low) <= bound * middle
