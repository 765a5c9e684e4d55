"""The statistics, against other ways to compute them."""

from __future__ import annotations

import random
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
    median_time,
    percentile,
    precedence_rank,
    quartile_interval,
    quartile_ranks,
    ratio_interval,
    round_times,
    row_time,
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


def test_the_time_is_the_first_quartile_of_the_least_of_each_round() -> None:
    samples, rounds = [10, 30, 20, 50, 18], [0, 0, 2, 3, 2]
    assert round_times(samples, rounds) == {0: 10, 2: 18, 3: 50}
    assert time_interval(samples, rounds) == Interval(14, 10, 50, 3)
    assert row_time(samples, rounds) == 14
    # The second figure: medians 20, 19 and 50
    assert median_time(samples, rounds) == 20


@pytest.mark.parametrize("n", [11, 12, 13, 20, 30, 57])
def test_the_interval_of_the_first_quartile_covers_it(n: int) -> None:
    def below(most: int) -> Fraction:
        return Fraction(sum(comb(n, i) * 3 ** (n - i) for i in range(most + 1)), 4**n)

    lower, upper = quartile_ranks(n)
    # The quartile lies between two of them where more than `lower` and at most `upper` are below
    assert below(upper) - below(lower) >= Fraction(95, 100)
    assert below(upper - 1) - below(lower) < Fraction(95, 100)
    assert lower == 0 or below(lower) <= Fraction(25, 1000)
    interval = quartile_interval(list(range(n)))
    assert (interval.low, interval.high) == (lower, upper)


def test_the_interval_of_few_rounds_begins_at_the_least_and_says_what_it_covers() -> None:
    assert [quartile_ranks(n) for n in (1, 2, 6, 10)] == [(0, 0), (0, 1), (0, 4), (0, 5)]

    def coverage(n: int) -> Fraction:
        _, upper = quartile_ranks(n)
        return Fraction(sum(comb(n, i) * 3 ** (n - i) for i in range(1, upper + 1)), 4**n)

    assert float(coverage(10)) == pytest.approx(0.924, abs=5e-4)
    assert float(coverage(6)) == pytest.approx(0.817, abs=5e-4)


def test_the_quartile_of_many_rounds_is_found_at_once() -> None:
    lower, upper = quartile_ranks(10_000)
    # Within 1.96 standard deviations, sqrt(n 3) / 4, of a quarter
    assert 2500 - lower == pytest.approx(1.96 * 43.3, abs=2)
    assert upper - 2500 == pytest.approx(1.96 * 43.3, abs=2)


@pytest.mark.parametrize(("n", "odds"), [(6, 20), (6, 40), (10, 20), (10, 40), (30, 40)])
def test_the_least_of_one_exceeds_a_low_one_of_the_other_as_often_as_it_says(
    n: int, odds: int
) -> None:
    rank = precedence_rank(n, odds)

    def chance(rank: int) -> Fraction:
        # All of the first rank + 1 of 2 n are of the one program
        return Fraction(comb(n, rank + 1), comb(2 * n, rank + 1))

    assert chance(rank) <= Fraction(1, 2 * odds) < chance(rank - 1)


def test_a_ratio_is_of_common_rounds() -> None:
    times, base = {0: 10.0, 1: 40.0, 2: 90.0}, {2: 90.0, 1: 20.0, 5: 20.0}
    # Common rounds 1 and 2: 40/20 and 90/90, first quartiles 52.5 and 37.5
    assert ratio_interval(times, base) == Interval(1.4, 1.0, 2.0, 2)
    assert ratio_interval(times, {}) is None and ratio_interval(times, {9: 5.0}) is None


def test_what_slows_whole_rounds_leaves_a_ratio_narrow() -> None:
    slow = make_noisy_samples(1000, 12, seed=1)
    base = {i: float(value) for i, value in enumerate(slow)}
    times = {i: 1.5 * value for i, value in base.items()}
    ratio = ratio_interval(times, base)
    assert ratio is not None
    assert ratio.low == pytest.approx(1.5) and ratio.high == pytest.approx(1.5)


def test_quiet_rounds_leave_a_ratio_narrow_whichever_they_are() -> None:
    # Each is slowed in other rounds: no pair of a round says anything
    base = {i: 1000.0 if i % 2 else 9000.0 for i in range(20)}
    times = {i: 9000.0 if i % 2 else 1500.0 for i in range(20)}
    ratio = ratio_interval(times, base)
    assert ratio is not None and (ratio.value, ratio.low, ratio.high) == (1.5, 1.5, 1.5)


def test_an_interval_of_two_that_do_not_meet_is_what_lies_between_them() -> None:
    # In ten rounds of sixty twice the time, in forty the same: 1 by pairs, 2 by the low end
    base = dict(enumerate([10.0] * 10 + [100.0] * 10 + [1000.0] * 40))
    times = dict(enumerate([20.0] * 10 + [190.0] * 10 + [1000.0] * 40))
    assert ratio_interval(times, base) == Interval(1.9, 1.0, 2.0, 60)


@pytest.mark.parametrize("n", [6, 10, 20])
def test_an_interval_of_a_ratio_holds_it_as_often_as_it_says(n: int) -> None:
    draw = random.Random(n)

    def slowed(time: float) -> float:
        # One-sided and skewed
        return time * (1 + draw.expovariate(2))

    missed = 0
    for _ in range(1000):
        base = {i: slowed(1000) for i in range(n)}
        ratio = ratio_interval({i: slowed(1300) for i in range(n)}, base)
        assert ratio is not None
        missed += not ratio.low <= 1.3 <= ratio.high
    # Both that it is made of are asked to miss once in 40 times, and often miss together
    assert 5 <= missed <= 50


def test_times_of_zero_make_no_ratio_and_no_width() -> None:
    ratio = ratio_interval({0: 10, 1: 20, 2: 30}, {0: 0, 1: 10, 2: 0})
    assert ratio is not None and (ratio.value, ratio.n) == (2.0, 1)
    assert ratio_interval({0: 1}, {0: 0}) is None and ratio_interval({0: 0}, {0: 1}) is None
    assert median_interval([0, 0, 5]).width is None


def test_the_floor_is_the_furthest_of_the_twins() -> None:
    near, off = Interval(1.01, 0.98, 1.04, 10), Interval(1.5, 1.5, 1.5, 10)
    assert floor_of([near]) == pytest.approx(0.01)
    assert floor_of([near, off]) == 0.5
    # Of too few rounds for a verdict it is the further end of the interval
    assert floor_of([Interval(1.01, 0.98, 1.04, 5)]) == pytest.approx(0.04)
    # One round says nothing of noise
    assert floor_of([Interval(1.5, 1.5, 1.5, 1), None]) is None and floor_of([]) is None
    assert is_too_noisy(0.11) and not is_too_noisy(0.10) and not is_too_noisy(None)


@pytest.mark.parametrize(
    ("ratio", "floor", "expected"),
    [
        (Interval(0.8, 0.7, 0.85, 10), 0.1, "faster"),
        # Its upper end is within the floor
        (Interval(0.8, 0.7, 0.91, 10), 0.1, "not resolved"),
        (Interval(0.8, 0.7, 0.9, 10), 0.25, "not resolved"),
        (Interval(0.8, 0.7, 1.01, 10), 0.1, "not resolved"),
        (Interval(1.3, 1.2, 1.4, 10), 0.1, "slower"),
        (Interval(1.3, 0.9, 1.4, 10), 0.1, "not resolved"),
        (Interval(0.1, 0.1, 0.1, 10), None, "not resolved"),
        (Interval(0.8, 0.7, 0.85, 6), 0.1, "faster"),
        (Interval(0.8, 0.7, 0.85, 5), 0.1, "not resolved"),
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
    assert huge.low == huge.high == huge.value == float(2**63 - 1) and huge.width == 0
