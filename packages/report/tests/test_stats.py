"""The statistics, against other ways to compute them."""

from __future__ import annotations

import statistics
from fractions import Fraction
from math import comb

import pytest
from samples import make_noisy_samples

from ablation_report.stats import (
    Interval,
    floor_of,
    interval_rank,
    is_too_noisy,
    median,
    median_interval,
    paired_ratio,
    percentile,
    round_times,
    time_interval,
    verdict,
)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 31])
def test_median_agrees_with_the_standard_library(n: int) -> None:
    values = make_noisy_samples(1000, n, seed=n)
    assert median(values) == statistics.median(values)


def test_median_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="median of no values"):
        median([])


def test_percentiles_are_those_of_the_standard_library() -> None:
    values = make_noisy_samples(1000, 41, seed=3)
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    assert percentile(values, 0.05) == pytest.approx(cuts[0])
    assert percentile(values, 0.95) == pytest.approx(cuts[-1])


@pytest.mark.parametrize("n", range(1, 80))
def test_interval_is_the_narrowest_that_covers(n: int) -> None:
    interval = median_interval(list(range(n)))
    outside = int(interval.low)
    assert interval.high == n - 1 - outside

    def coverage(rank: int) -> Fraction:
        # The median lies between the order statistics when at least rank + 1 values are below it
        # and at least as many above
        return Fraction(sum(comb(n, below) for below in range(rank + 1, n - rank)), 2**n)

    limit = Fraction(95, 100)
    if n < 6:
        assert outside == 0
    else:
        assert coverage(outside) >= limit
        assert coverage(outside + 1) < limit


def test_interval_covers_the_median_as_often_as_it_says() -> None:
    hits = sum(
        interval.low <= 1000 <= interval.high
        for interval in (median_interval(make_noisy_samples(1000, 15, s)) for s in range(2000))
    )
    # 96.5% for 15 values; the few ties of whole numbers only add hits
    assert 0.95 <= hits / 2000 <= 0.985


def test_a_single_value_has_no_width() -> None:
    assert median_interval([7]).width is None and median_interval([7]).is_noisy is None
    assert median_interval([7, 9]).width == pytest.approx(2 / 8)
    assert median_interval([7, 9]).is_noisy and not median_interval([100, 101]).is_noisy


def test_samples_of_a_round_count_once() -> None:
    assert round_times([10, 30, 20, 50], [0, 0, 0, 3]) == {0: 20, 3: 50}
    assert time_interval([10, 30, 20, 50], [0, 0, 0, 3]) == Interval(35, 20, 50, 2)


def test_ratios_are_paired_by_round() -> None:
    times, base = {0: 10.0, 1: 40.0, 2: 90.0}, {2: 90.0, 1: 20.0, 5: 20.0}
    # Common rounds 1 and 2: 40/20 and 90/90
    assert paired_ratio(times, base) == Interval(1.5, 1.0, 2.0, 2)
    assert paired_ratio(times, {}) is None and paired_ratio(times, {9: 5.0}) is None


def test_times_of_zero_make_no_ratio_and_no_width() -> None:
    ratio = paired_ratio({0: 10, 1: 20, 2: 30}, {0: 0, 1: 10, 2: 0})
    assert ratio is not None and (ratio.median, ratio.n) == (2.0, 1)
    assert paired_ratio({0: 1}, {0: 0}) is None
    assert median_interval([0, 0, 5]).width is None


def test_the_floor_is_the_widest_of_the_twins() -> None:
    near, off = Interval(1.01, 0.98, 1.04, 10), Interval(1.5, 1.5, 1.5, 10)
    assert floor_of([near]) == pytest.approx(0.03)
    assert floor_of([near, off]) == 0.5
    # One round says nothing of noise
    assert floor_of([Interval(1.5, 1.5, 1.5, 1), None]) is None and floor_of([]) is None
    assert is_too_noisy(0.11) and not is_too_noisy(0.10) and not is_too_noisy(None)


@pytest.mark.parametrize(
    ("ratio", "floor", "expected"),
    [
        (Interval(0.8, 0.7, 0.9, 10), 0.1, "faster"),
        (Interval(0.8, 0.7, 0.9, 10), 0.25, "not resolved"),
        (Interval(0.8, 0.7, 1.01, 10), 0.1, "not resolved"),
        (Interval(1.3, 1.2, 1.4, 10), 0.1, "slower"),
        (Interval(1.3, 0.9, 1.4, 10), 0.1, "not resolved"),
        (Interval(0.1, 0.1, 0.1, 10), None, "not resolved"),
        (Interval(0.8, 0.7, 0.9, 6), 0.1, "faster"),
        (Interval(0.8, 0.7, 0.9, 5), 0.1, "not resolved"),
        (Interval(1.0, 0.99, 1.01, 10), 0.015, "same"),
        (Interval(1.0, 0.99, 1.03, 10), 0.015, "not resolved"),
        # A noisy run can never say "same"
        (Interval(1.0, 0.99, 1.01, 10), 0.02, "not resolved"),
        (Interval(1.14, 0.9, 1.3, 10), 0.36, "not resolved"),
        # In a case that is too noisy nothing is compared
        (Interval(0.1, 0.1, 0.1, 10), 0.11, "not resolved"),
        (None, 0.1, "not resolved"),
    ],
)
def test_verdicts(ratio: Interval | None, floor: float | None, expected: str) -> None:
    assert verdict(ratio, floor) == expected


def test_same_is_within_a_margin_that_can_be_set() -> None:
    ratio = Interval(1.03, 1.01, 1.04, 10)
    assert verdict(ratio, 0.035) == "not resolved"
    assert verdict(ratio, 0.035, margin=0.05) == "same"


def least_ranks(most: int) -> list[int]:
    """For each number of values to `most` how many lie outside, by whole numbers from below."""
    ranks = []
    for n in range(1, most + 1):
        total, rank = 1, 0
        while rank + 1 < n / 2 and 40 * (total + comb(n, rank + 1)) <= 2**n:
            total += comb(n, rank + 1)
            rank += 1
        ranks.append(rank)
    return ranks


def test_as_many_values_lie_outside_as_whole_numbers_say() -> None:
    assert [interval_rank(n) for n in range(1, 301)] == least_ranks(300)


@pytest.mark.parametrize("n", [1032, 1033, 1074, 1075, 1100, 3001, 10_000, 20_001])
def test_the_interval_of_many_values_is_exact(n: int) -> None:
    rank = interval_rank(n)
    # Sums of C(n, i) in whole numbers: floats end near 2^1024
    below = term = 1
    for i in range(1, rank + 1):
        term = term * (n - i + 1) // i
        below += term
    above = below + term * (n - rank) // (rank + 1)
    assert 40 * below <= 2**n < 40 * above


def test_the_interval_of_ten_thousand_values_is_theirs() -> None:
    values = list(range(1, 10_001))
    rank = interval_rank(10_000)
    assert median_interval(values) == Interval(5000.5, rank + 1.0, 10_000.0 - rank, 10_000)
    huge = median_interval([2**63 - 1] * 5000)
    assert huge.low == huge.high == huge.median == float(2**63 - 1) and huge.width == 0
