"""Medians, their intervals, paired ratios, and what may be said of them."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# One in twenty intervals may miss the median: 95%
CONFIDENCE_ODDS = 20
NOISY_WIDTH = 0.05
# The range of fewer samples covers less than 95%.
MIN_ROUNDS = 6


@dataclass(frozen=True)
class Interval:
    """A median with its 95% interval, in the unit of the values."""

    median: float
    low: float
    high: float
    n: int

    @property
    def relative_width(self) -> float:
        """Width of the interval over the median."""
        return (self.high - self.low) / self.median if self.median else math.inf

    @property
    def half_width(self) -> float:
        """Half the width of the interval over the median: what follows a plus-minus sign."""
        return self.relative_width / 2


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two in the middle; ValueError when there is none."""
    if not values:
        raise ValueError("median of no values")
    ordered = sorted(values)
    half = len(ordered) // 2
    return float(ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2)


@functools.cache
def interval_rank(n: int) -> int:
    """How many order statistics lie outside the 95% interval of a median on each side.

    The largest r for which [x_(r+1), x_(n-r)] covers the median of any continuous distribution with
    that probability: r = max k with 2 P(B(n, 1/2) <= k) <= 1/20; 0 when even the full range does
    not cover it (n < 6). In whole numbers, so that it is exact for every n: all 2^n outcomes less
    those between k and n - k are taken from the middle outwards, some sqrt(n) steps.
    """
    below = (n - 1) // 2
    term = math.comb(n, below) if n else 0
    # Outcomes of at most `below`, times two: all but the middle one of an even n
    tails = 2**n - (math.comb(n, n // 2) if n % 2 == 0 else 0)
    while below > 0 and CONFIDENCE_ODDS * tails > 2**n:
        tails -= 2 * term
        term = term * below // (n - below + 1)
        below -= 1
    return max(0, below)


def median_interval(values: Sequence[float]) -> Interval:
    """Median and 95% interval by order statistics; ValueError when there is no value."""
    ordered = sorted(values)
    rank = interval_rank(len(ordered))
    middle = median(ordered)
    return Interval(middle, float(ordered[rank]), float(ordered[-1 - rank]), len(ordered))


def round_medians(samples: Sequence[int], rounds: Sequence[int]) -> dict[int, float]:
    """Median of each round's samples, by round: the independent observations of a cell."""
    by_round: dict[int, list[float]] = {}
    for value, index in zip(samples, rounds, strict=True):
        by_round.setdefault(index, []).append(value)
    return {index: median(values) for index, values in by_round.items()}


def cell_interval(samples: Sequence[int], rounds: Sequence[int]) -> Interval:
    """Median over rounds of a cell's time, with its interval."""
    return median_interval(list(round_medians(samples, rounds).values()))


def paired_ratio(cell: Mapping[int, float], base: Mapping[int, float]) -> Interval | None:
    """Median over common rounds of cell / base, with its interval; None without common rounds."""
    ratios = [cell[index] / base[index] for index in cell if base.get(index)]
    return median_interval(ratios) if ratios else None


def noise_floor(pair: Interval | None) -> float | None:
    """The A/A floor of a pair that should be equal.

    The larger of the distance of its ratio from one and half the width of its interval. None
    without two rounds in common: one tells nothing of noise.
    """
    if pair is None or pair.n < 2:
        return None
    return max(abs(pair.median - 1), (pair.high - pair.low) / 2)


def verdict(ratio: Interval | None, floor: float | None) -> str:
    """'faster', 'slower' or 'not resolved', for a paired ratio of times.

    A difference counts only when the whole interval lies on one side of one and the median is
    further from one than the noise floor. Without a floor, or with fewer rounds than a 95% interval
    takes, nothing is resolved.
    """
    if ratio is None or floor is None or ratio.n < MIN_ROUNDS:
        return "not resolved"
    if ratio.high < 1 and 1 - ratio.median > floor:
        return "faster"
    if ratio.low > 1 and ratio.median - 1 > floor:
        return "slower"
    return "not resolved"


def is_noisy(interval: Interval) -> bool:
    """True when the interval is wider than a twentieth of the median."""
    return interval.relative_width > NOISY_WIDTH
