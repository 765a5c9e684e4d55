"""The definition of every figure: time, interval, ratio, floor, noise, verdict. Terminal, tables,
charts, findings and pages all take it from here.

- Time: the median over rounds of each round's median. The samples of a round follow each other
  closely, so the rounds are what is independent.
- Interval: order statistics over rounds, 95 %.
- Ratio: time over time, by rounds that both ran in; below 1 is faster.
- Noisy: an interval wider than 5 % of the time.
- Floor of a case: what the times of one program under two names differ by.
- Verdict: faster or slower beyond the floor; same where the whole interval lies within a practical
  margin and the floor is below that margin; otherwise not resolved.

Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

# One in twenty intervals may miss the median: 95 %.
CONFIDENCE_ODDS = 20
NOISY_WIDTH = 0.05
# The range of fewer rounds covers less than 95 %.
MIN_ROUNDS = 6
# Fewer rounds than this are no measurement.
MIN_ROUNDS_OK = 3
# Two times within this part of each other are the same for all practical purposes.
MARGIN = 0.02
# A case whose twins differ by more is too noisy to compare anything in it.
MOST_FLOOR = 0.10

Verdict = Literal["faster", "slower", "same", "not resolved"]


@dataclass(frozen=True)
class Interval:
    """A median with its 95 % interval, in the unit of its n values."""

    median: float
    low: float
    high: float
    n: int

    @property
    def width(self) -> float | None:
        """Width of the interval over the median; None for a single value, which has no interval,
        and for a median of 0."""
        return (self.high - self.low) / self.median if self.n > 1 and self.median else None

    @property
    def is_noisy(self) -> bool | None:
        """True where the interval is wider than `NOISY_WIDTH`; None where there is none."""
        return None if self.width is None else self.width > NOISY_WIDTH


def median(values: Sequence[float]) -> float:
    """Return the middle value, or the mean of the two in the middle; ValueError for no values."""
    if not values:
        raise ValueError("median of no values")
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return float(ordered[middle])
    return (ordered[middle - 1] + ordered[middle]) / 2


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of the values lies, between two neighbors linearly."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


@lru_cache
def interval_rank(n: int) -> int:
    """Return how many of n sorted values lie outside the 95 % interval of their median, each side.

    Of n independent values, at most r lie below the median with the probability of at most r heads
    in n throws, so that [x_(r+1), x_(n-r)] misses it with twice that; r is the largest for which
    this is at most 5 %. Below six values the whole range covers less than 95 % and is taken.

    In whole numbers: 20 * 2 sum(C(n, i), i <= r) <= 2^n. The sum is taken from the middle
    downwards, where it is half of 2^n, in about sqrt(n) steps.
    """
    rank = (n - 1) // 2
    term = math.comb(n, rank)
    below = (2**n - (math.comb(n, n // 2) if n % 2 == 0 else 0)) // 2
    while rank > 0 and CONFIDENCE_ODDS * 2 * below > 2**n:
        below -= term
        # C(n, r - 1) = C(n, r) r / (n - r + 1)
        term = term * rank // (n - rank + 1)
        rank -= 1
    return rank


def median_interval(values: Sequence[float]) -> Interval:
    """Return the median and its 95 % interval by order statistics; ValueError for no values."""
    ordered = sorted(values)
    n = len(ordered)
    middle = median(ordered)
    rank = interval_rank(n)
    return Interval(middle, float(ordered[rank]), float(ordered[n - 1 - rank]), n)


def round_times(samples: Sequence[int], rounds: Sequence[int]) -> dict[int, float]:
    """Return the time of each round: the median of its samples."""
    by_round: dict[int, list[int]] = {}
    for sample, index in zip(samples, rounds, strict=True):
        by_round.setdefault(index, []).append(sample)
    return {index: median(values) for index, values in by_round.items()}


def time_interval(samples: Sequence[int], rounds: Sequence[int]) -> Interval:
    """Return the time of a row with its interval; ValueError for no samples."""
    return median_interval(list(round_times(samples, rounds).values()))


def median_time(samples: Sequence[int], rounds: Sequence[int]) -> float:
    """Return the time of a row; ValueError for no samples."""
    return median(list(round_times(samples, rounds).values()))


def paired_ratio(times: Mapping[int, float], base: Mapping[int, float]) -> Interval | None:
    """Return the median over common rounds of a time over the base's, with its interval.

    None without a common round; one in which the base took no time gives no ratio.
    """
    ratios = [times[index] / base[index] for index in times if base.get(index)]
    return median_interval(ratios) if ratios else None


def floor_of(twins: Iterable[Interval | None]) -> float | None:
    """Return the floor of a case from the ratios of its twins, each one program under two names.

    For a pair, the larger of its ratio's distance from 1 and half the width of its interval; of the
    pairs the larger. None without a pair that has two rounds: one round tells nothing of noise.
    """
    floors = [
        max(abs(ratio.median - 1), (ratio.high - ratio.low) / 2)
        for ratio in twins
        if ratio is not None and ratio.n > 1
    ]
    return max(floors, default=None)


def verdict(ratio: Interval | None, floor: float | None, margin: float = MARGIN) -> Verdict:
    """Say "faster", "slower", "same" or "not resolved" of a paired ratio of times.

    A difference counts when the whole interval lies on one side of 1 and the median is further from
    1 than the floor. Fewer than `MIN_ROUNDS` rounds, no floor, or one above `MOST_FLOOR` resolve
    nothing.
    """
    if ratio is not None and floor is not None and ratio.n >= MIN_ROUNDS and floor <= MOST_FLOOR:
        if ratio.high < 1 and 1 - ratio.median > floor:
            return "faster"
        if ratio.low > 1 and ratio.median - 1 > floor:
            return "slower"
        if floor < margin and 1 - margin <= ratio.low and ratio.high <= 1 + margin:
            return "same"
    return "not resolved"


def is_different(said: Verdict) -> bool:
    """True for "faster" and "slower"."""
    return said in ("faster", "slower")


def is_too_noisy(floor: float | None) -> bool:
    """True where nothing can be compared in a case of this floor."""
    return floor is not None and floor > MOST_FLOOR
