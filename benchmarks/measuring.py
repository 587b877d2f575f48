"""One way to time for every question: warm up, take turns, go on until the median is known.

Contenders take turns round by round, in an order drawn anew for each, so that a busy machine is as
unkind to one as to the other, and are compared by the ratios of each round. A figure is the median
of the rounds. Its interval is that of two order statistics around it, which assumes nothing of how
times are distributed (Conover, Practical Nonparametric Statistics, section 3.2).
"""

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

Contender: TypeAlias = Callable[[], Sequence[float]]
"""One turn: returns what it took, once or several times, in any one unit."""

_DOUBT = 0.1  # the interval misses the true median in at most one case of ten


@dataclass(frozen=True)
class Rule:
    """When to stop.

    Attributes:
        bound: The median is known when its interval reaches no further than this share of it.
        least: Rounds at least; below five an interval cannot be told.
        most: Rounds at most; a figure still unknown then is marked.
        budget_s: Start no further round after this many seconds, once `least` are done.
        warm_up: Turns of each that do not count.
    """

    bound: float = 0.03
    least: int = 5
    most: int = 25
    budget_s: float = math.inf
    warm_up: int = 1


QUICK = Rule(bound=math.inf, least=1, most=1, warm_up=0)
"""To see that a question can be asked, not for its answer."""


@dataclass(frozen=True)
class Timing:
    """What the turns of one contender took.

    Attributes:
        rounds: The median of each turn, in order.
        low: Lower end of the interval of the median of `rounds`; the smallest when unknown.
        high: Upper end.
        is_stable: The interval is within the bound of the rule.
        samples: How many single values there were.
        p50: Percentiles of the single values of all rounds.
        p95: Likewise.
        p99: Likewise.
    """

    rounds: list[float]
    low: float
    high: float
    is_stable: bool
    samples: int
    p50: float
    p95: float
    p99: float

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
    values: dict[str, list[list[float]]] = {name: [] for name in contenders}
    end = time.perf_counter() + rule.budget_s
    for number in range(1, rule.most + 1):
        for name in order.sample(list(contenders), len(contenders)):
            values[name].append(list(contenders[name]()))
        if number >= rule.least and (
            all(_is_known(_medians(turns), rule.bound) for turns in values.values())
            or time.perf_counter() > end
        ):
            break
    return {name: _timing(turns, rule.bound) for name, turns in values.items()}


def ratio(of: Timing, to: Timing) -> tuple[float, float, float]:
    """Return the median of the ratios of each round, and its interval."""
    ratios = [a / b for a, b in zip(of.rounds, to.rounds, strict=True)]
    return (statistics.median(ratios), *interval(ratios))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return an interval of the median at 90 % or more; the extremes when they are too few."""
    ordered = sorted(values)
    rank = max(1, _rank(len(ordered)))
    return ordered[rank - 1], ordered[-rank]


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def repeated(work: Callable[[], object], *, at_least_s: float, at_least: int = 3) -> list[float]:
    """Time calls until they have taken long enough for one turn; return the seconds of each."""
    taken: list[float] = []
    end = time.perf_counter() + at_least_s
    while len(taken) < at_least or time.perf_counter() < end:
        taken.append(seconds(work))
    return taken


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


def _is_known(values: Sequence[float], bound: float) -> bool:
    if math.isinf(bound):
        return True
    if _rank(len(values)) == 0:
        return False
    low, high = interval(values)
    middle = statistics.median(values)
    return max(high - middle, middle - low) <= bound * middle


def _medians(turns: list[list[float]]) -> list[float]:
    return [statistics.median(turn) for turn in turns]


def _timing(turns: list[list[float]], bound: float) -> Timing:
    rounds = _medians(turns)
    singles = sorted(value for turn in turns for value in turn)
    p50, p95, p99 = (singles[math.ceil(share * len(singles)) - 1] for share in (0.5, 0.95, 0.99))
    low, high = interval(rounds)
    is_stable = _rank(len(rounds)) > 0 and _is_known(rounds, bound)
    return Timing(rounds, low, high, is_stable, len(singles), p50, p95, p99)
