"""Candidates for the ratio of two rows, the floor of a case and the rule of a verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ablation_report.run import Row
from ablation_report.stats import (
    CONFIDENCE_ODDS,
    MARGIN,
    MIN_ROUNDS,
    QUARTILE,
    Interval,
    Verdict,
    floor_of,
    is_too_noisy,
    median,
    median_interval,
    percentile,
    precedence_rank,
    ratio_interval,
    verdict,
)

# The samples of a row by round, and its time in each round.
Samples = Mapping[int, Sequence[int]]
Times = Mapping[int, float]


@dataclass(frozen=True)
class Candidate:
    """A definition: the time of a round, the ratio of two rows, the floor and the verdict.

    `is_whole` is True where the whole interval has to lie beyond the floor, False where the
    estimate does and the interval beyond 1. `counts_width` is True where half the width of a twins'
    interval is part of the floor.
    """

    title: str
    of_round: Callable[[Sequence[int]], float]
    ratio: Callable[[Times, Times], Interval | None]
    is_whole: bool = True
    counts_width: bool = False

    def times(self, samples: Samples) -> dict[int, float]:
        """Return the time of each round."""
        return {index: self.of_round(values) for index, values in samples.items()}

    def floor(self, twins: Iterable[Interval]) -> float | None:
        """Return the floor of a case by the ratios of its twins."""
        found = list(twins)
        floor = floor_of(found)
        if floor is None or not self.counts_width:
            return floor
        return max(floor, *((ratio.high - ratio.low) / 2 for ratio in found))

    def said(self, ratio: Interval, floor: float | None) -> Verdict:
        """Return the verdict of a ratio."""
        if self.is_whole or floor is None or is_too_noisy(floor) or ratio.n < MIN_ROUNDS:
            return verdict(ratio, floor)
        if ratio.high < 1 and 1 - ratio.value > floor:
            return "faster"
        if ratio.low > 1 and ratio.value - 1 > floor:
            return "slower"
        is_same = floor < MARGIN and ratio.low >= 1 - MARGIN and ratio.high <= 1 + MARGIN
        return "same" if is_same else "not resolved"


def samples_of(row: Row) -> dict[int, list[int]]:
    """Return the samples of a row by round."""
    found: dict[int, list[int]] = {}
    for sample, index in zip(row["samples_ns"], row["sample_rounds"], strict=True):
        found.setdefault(index, []).append(sample)
    return found


def _ratios(times: Times, base: Times) -> list[float]:
    return [times[index] / base[index] for index in times if base.get(index)]


def _median(times: Times, base: Times) -> Interval | None:
    """The median of the ratios of all common rounds, with its interval by order statistics."""
    ratios = _ratios(times, base)
    return median_interval(ratios) if ratios else None


@lru_cache
def signed_rank_outside(n: int) -> int:
    """Return how many averages of n values lie outside the 95 % interval of their middle, each
    side.

    Of n values that lie symmetrically about it, averaged in pairs and with themselves, at most k
    averages lie below it with the probability that the sum of a random subset of 1 .. n is at most
    k. (F. Wilcoxon, Individual Comparisons by Ranking Methods, 1945)
    """
    subsets = [1]
    for rank in range(1, n + 1):
        longer = [0] * rank
        subsets = [a + b for a, b in zip(subsets + longer, longer + subsets, strict=True)]
    below = 0
    for k, count in enumerate(subsets):
        below += count
        if 2 * CONFIDENCE_ODDS * below > 2**n:
            return max(k - 1, 0)
    return 0


def _signed_rank(times: Times, base: Times) -> Interval | None:
    """The signed-rank interval of the quieter two thirds of the rounds: those with the least
    product of both times, which does not depend on which of the two is the faster."""
    common = [(times[index], base[index]) for index in times if base.get(index)]
    if not common:
        return None
    n_quiet = max(-(-2 * len(common) // 3), MIN_ROUNDS)
    quiet = sorted(common, key=lambda pair: pair[0] * pair[1])[:n_quiet]
    ratios = [time / other for time, other in quiet]
    averages = sorted(math.sqrt(a * b) for i, a in enumerate(ratios) for b in ratios[i:])
    outside = signed_rank_outside(len(ratios))
    ends = averages[outside], averages[len(averages) - 1 - outside]
    return Interval(median(averages), *ends, len(common))


def _low_end(times: Times, base: Times) -> Interval | None:
    """The quotient of the first quartiles, with the interval by the low end, unpaired."""
    common = [index for index in times if base.get(index)]
    if not common:
        return None
    mine, theirs = (sorted(each[index] for index in common) for each in (times, base))
    rank = precedence_rank(len(common), CONFIDENCE_ODDS)
    quotient = percentile(mine, QUARTILE) / percentile(theirs, QUARTILE)
    return Interval(quotient, mine[0] / theirs[rank], mine[rank] / theirs[0], len(common))


# The definition before there was evidence.
EARLIER = Candidate(
    "paired, round medians; floor with half its width",
    median,
    _median,
    is_whole=False,
    counts_width=True,
)
CHOSEN = Candidate("paired and low end, round minima; whole interval", min, ratio_interval)
CANDIDATES = (
    EARLIER,
    Candidate("paired, round medians", median, _median, is_whole=False),
    Candidate("paired, round minima", min, _median, is_whole=False),
    Candidate("paired, round minima; whole interval", min, _median),
    Candidate("signed rank of quiet rounds, round minima; whole interval", min, _signed_rank),
    Candidate("low end, round minima; whole interval", min, _low_end),
    Candidate("paired and low end, round minima", min, ratio_interval, is_whole=False),
    CHOSEN,
)
