"""The definition of every figure: time, interval, ratio, floor, noise, verdict. Terminal, tables,
charts, findings and pages all take it from here.

The noise of a shared machine is one-sided: a sample is never faster than the program, and often
slower. The samples of a round follow each other closely, so the rounds are what is independent.

- Time of a round: the least of its samples.
- Time: the first quartile over rounds; its 95 % interval by order statistics of that quantile.
- Ratio: time over time by the rounds that both ran in, below 1 is faster; its 95 % interval is
  what one by pairs of rounds and one by the low end have in common.
- Noisy: an interval wider than 5 % of the time.
- Floor of a case: what the times of one program under two names differ by.
- Verdict: faster or slower where the whole interval lies beyond the floor; same where it lies
  within a practical margin and the floor is below that margin; otherwise not resolved.

`evidence` holds the candidates that these were chosen from, and how often each is wrong.

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
QUARTILE = 0.25
# Fewer rounds than this are no measurement.
MIN_ROUNDS_OK = 3
# Two times within this part of each other are the same for all practical purposes.
MARGIN = 0.02
# A case whose twins differ by more is too noisy to compare anything in it.
MOST_FLOOR = 0.10

# A run is too noisy where this share of its times is noisy and of its ratios not resolved.
MOST_NOISY = 0.5
# A run is disturbed where other programs use this share of the processors before a case.
BUSY_SHARE = 0.1

Verdict = Literal["faster", "slower", "same", "not resolved"]


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval, in the unit of its n values."""

    value: float
    low: float
    high: float
    n: int

    @property
    def width(self) -> float | None:
        """Width of the interval over the estimate; None for a single value, which has no interval,
        and for an estimate of 0."""
        return (self.high - self.low) / self.value if self.n > 1 and self.value else None

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
def interval_rank(n: int, odds: int = CONFIDENCE_ODDS) -> int:
    """Return how many of n sorted values lie outside the interval of their median, each side.

    One in `odds` intervals may miss it: 20 for 95 %, and 20 m for m intervals that shall all hold
    their medians with 95 % (Bonferroni).

    Of n independent values, at most r lie below the median with the probability of at most r heads
    in n throws, so that [x_(r+1), x_(n-r)] misses it with twice that; r is the largest for which
    this is at most 1 in `odds`. Where even the whole range covers less (below six values for 95 %)
    it is taken.

    In whole numbers: odds * 2 sum(C(n, i), i <= r) <= 2^n. The sum is taken from the middle
    downwards, where it is half of 2^n, in about sqrt(n) steps.
    """
    rank = (n - 1) // 2
    term = math.comb(n, rank)
    below = (2**n - (math.comb(n, n // 2) if n % 2 == 0 else 0)) // 2
    while rank > 0 and odds * 2 * below > 2**n:
        below -= term
        # C(n, r - 1) = C(n, r) r / (n - r + 1)
        term = term * rank // (n - rank + 1)
        rank -= 1
    return rank


def median_interval(values: Sequence[float], odds: int = CONFIDENCE_ODDS) -> Interval:
    """Return the median and its interval by order statistics; ValueError for no values.

    One in `odds` intervals misses it, 5 % by default.
    """
    ordered = sorted(values)
    n = len(ordered)
    middle = median(ordered)
    rank = interval_rank(n, odds)
    return Interval(middle, float(ordered[rank]), float(ordered[n - 1 - rank]), n)


@lru_cache
def quartile_ranks(n: int) -> tuple[int, int]:
    """Return which of n sorted values, counted from 0, are the ends of the interval of their first
    quartile.

    Of n independent values, i lie below it with the probability C(n, i) 3^(n-i) / 4^n. The lower
    end misses it in at most 2.5 % of all cases, the upper end in at most what 5 % have left. From
    eleven values on the interval covers 95 %. Of fewer even the least lies too often above the
    quartile: ten cover 92 %, six 82 %.
    """
    total, term = 4**n, 3**n
    below = missed = term
    lower = upper = 0
    while True:
        # The value of this rank lies above the quartile with below / total, and below it otherwise.
        if 2 * CONFIDENCE_ODDS * below <= total:
            lower, missed = upper, below
        left = total - CONFIDENCE_ODDS * missed
        if 2 * CONFIDENCE_ODDS * (total - below) <= (2 * left if left > 0 else total):
            return lower, min(upper, n - 1)
        # C(n, i + 1) 3^(n-i-1) = C(n, i) 3^(n-i) (n - i) / (3 (i + 1))
        term = term * (n - upper) // (3 * (upper + 1))
        below += term
        upper += 1


@lru_cache
def precedence_rank(n: int, odds: int) -> int:
    """Return the rank, from 0, of the one of n sorted values that the least of n others exceeds at
    most once in 2 `odds` times, where all 2 n are of one distribution.

    The j least of both are all of the n with C(n, j) / C(2n, j). (N. Balakrishnan and H. K. T. Ng,
    Precedence-Type Tests and Applications, 2006)
    """
    mine = both = 1
    for rank in range(n):
        mine, both = mine * (n - rank), both * (2 * n - rank)
        if 2 * odds * mine <= both:
            return rank
    return n - 1


def round_times(samples: Sequence[int], rounds: Sequence[int]) -> dict[int, float]:
    """Return the time of each round: the least of its samples."""
    return {index: min(values) for index, values in _by_round(samples, rounds).items()}


def _by_round(samples: Sequence[int], rounds: Sequence[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for sample, index in zip(samples, rounds, strict=True):
        found.setdefault(index, []).append(sample)
    return found


def quartile_interval(values: Sequence[float]) -> Interval:
    """Return the first quartile and its interval by order statistics; ValueError for no values."""
    if not values:
        raise ValueError("quartile of no values")
    ordered = sorted(values)
    lower, upper = quartile_ranks(len(ordered))
    ends = float(ordered[lower]), float(ordered[upper])
    return Interval(percentile(ordered, QUARTILE), *ends, len(ordered))


def time_interval(samples: Sequence[int], rounds: Sequence[int]) -> Interval:
    """Return the time of a row with its interval; ValueError for no samples."""
    return quartile_interval(list(round_times(samples, rounds).values()))


def row_time(samples: Sequence[int], rounds: Sequence[int]) -> float:
    """Return the time of a row; ValueError for no samples."""
    return percentile(list(round_times(samples, rounds).values()), QUARTILE)


def median_time(samples: Sequence[int], rounds: Sequence[int]) -> float:
    """Return the median over rounds of each round's median; ValueError for no samples.

    Ratios and verdicts do not use it.
    """
    return median([median(values) for values in _by_round(samples, rounds).values()])


def ratio_interval(times: Mapping[int, float], base: Mapping[int, float]) -> Interval | None:
    """Return a time over the base's, by the rounds that both ran in.

    The estimate is the quotient of the first quartiles. The interval is what two have in common,
    each of which misses once in 40 times, so that 95 % hold the ratio (Bonferroni):

    - by pairs: the median of the ratios of each round, by order statistics. It is narrow where what
      slows the machine lasts longer than a round;
    - by the low end: x(1) / y(j) to x(j) / y(1), of the sorted times x and y (`precedence_rank`).
      It is narrow where some rounds of each are quiet, whichever these are.

    Both ask of the noise only that it is the same for either program, apart from its scale. Where
    they have nothing in common the interval is what lies between them; an estimate outside is set
    to its end. None without a common round; one in which either took no time gives no ratio.
    """
    common = [index for index in times if times[index] and base.get(index)]
    n = len(common)
    if not n:
        return None
    mine, theirs = (sorted(each[index] for index in common) for each in (times, base))
    pairs = median_interval([times[index] / base[index] for index in common], 2 * CONFIDENCE_ODDS)
    rank = precedence_rank(n, 2 * CONFIDENCE_ODDS)
    ends = (
        max(pairs.low, mine[0] / theirs[rank]),
        min(pairs.high, mine[rank] / theirs[0]),
    )
    low, high = min(ends), max(ends)
    quotient = percentile(mine, QUARTILE) / percentile(theirs, QUARTILE)
    return Interval(min(max(quotient, low), high), low, high, n)


def floor_of(twins: Iterable[Interval | None]) -> float | None:
    """Return the floor of a case from the ratios of its twins, each one program under two names.

    It is the largest distance of a ratio from 1: by that much two names of one program differ,
    however often they are timed. The spread of the rounds is in every interval already. A pair of
    fewer than `MIN_ROUNDS` rounds counts with the farther end of its interval. None without a pair
    that has two rounds: one round says nothing of noise.
    """
    floors = []
    for ratio in twins:
        if ratio is not None and ratio.n > 1:
            asked = (ratio.value,) if ratio.n >= MIN_ROUNDS else (ratio.low, ratio.high)
            floors.append(max(abs(value - 1) for value in asked))
    return max(floors, default=None)


def verdict(ratio: Interval | None, floor: float | None, margin: float = MARGIN) -> Verdict:
    """Return the verdict of a paired ratio of times: faster, slower, same or not resolved.

    A difference counts when the whole interval lies beyond the floor. Fewer than `MIN_ROUNDS`
    rounds, no floor, or a floor above `MOST_FLOOR` resolve nothing.
    """
    if ratio is not None and floor is not None and ratio.n >= MIN_ROUNDS and floor <= MOST_FLOOR:
        if ratio.high < 1 - floor:
            return "faster"
        if ratio.low > 1 + floor:
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
