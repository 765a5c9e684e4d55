"""Statistics on hand-made values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ablation_executor.bench import stats


def test_median() -> None:
    assert stats.median([3, 1, 2]) == 2
    assert stats.median([4, 1, 2, 3]) == 2.5
    with pytest.raises(ValueError, match="no values"):
        stats.median([])


@pytest.mark.parametrize(
    ("n", "rank"),
    # From tables of the sign test: the largest r with 2 P(B(n, 1/2) < r + 1) <= 0.05.
    [(1, 0), (5, 0), (6, 0), (9, 1), (10, 1), (11, 1), (12, 2), (20, 5), (30, 9)],
)
def test_interval_rank(n: int, rank: int) -> None:
    assert stats.interval_rank(n) == rank


def exact_rank(n: int) -> int:
    """From the sums of whole-number binomial coefficients, each the last times a ratio."""
    total = term = 1
    for k in range(1, n // 2):
        term = term * (n - k + 1) // k
        total += term
        if 40 * total > 2**n:
            return k - 1
    return max(0, n // 2 - 1)


@pytest.mark.parametrize("n", [*range(6, 200), 1032, 1033, 1034, 3000, 9999, 10_000])
def test_interval_rank_is_exact_for_all_rounds_that_may_be_asked_for(n: int) -> None:
    assert stats.interval_rank(n) == exact_rank(n)


def test_interval_of_as_many_rounds_as_an_extended_run_has() -> None:
    interval = stats.median_interval(range(30_001))
    assert interval.median == 15_000
    # 15000 less 1.96 standard deviations of B(30001, 1/2), 86.6 each
    assert interval.low == pytest.approx(15_000 - 1.96 * 86.6, abs=1)
    assert interval.high == 30_000 - interval.low


@pytest.mark.parametrize("n", [6, 10, 17, 30])
def test_interval_covers_the_median(n: int) -> None:
    rng = np.random.default_rng(n)
    hits = 0
    for _ in range(2000):
        interval = stats.median_interval(rng.exponential(size=n).tolist())
        hits += interval.low <= math.log(2) <= interval.high
    assert hits / 2000 > 0.94


def test_interval_of_one_value_is_that_value() -> None:
    interval = stats.median_interval([7])
    assert (interval.median, interval.low, interval.high, interval.n) == (7, 7, 7, 1)


def test_round_medians_are_the_observations() -> None:
    samples, rounds = [1, 2, 30, 5, 7], [0, 0, 0, 1, 1]
    assert stats.round_medians(samples, rounds) == {0: 2, 1: 6}
    assert stats.cell_interval(samples, rounds).median == 4
    with pytest.raises(ValueError):
        stats.round_medians([1, 2], [0])


def test_paired_ratio_uses_common_rounds_only() -> None:
    ratio = stats.paired_ratio({0: 2.0, 1: 6.0, 2: 9.0}, {0: 1.0, 1: 3.0, 5: 1.0})
    assert ratio is not None
    assert (ratio.median, ratio.n) == (2.0, 2)
    assert stats.paired_ratio({0: 1.0}, {1: 1.0}) is None


def test_pairing_takes_out_a_drift_that_both_share() -> None:
    drift = [1.0, 1.5, 2.0, 3.0, 5.0, 8.0]
    base = dict(enumerate(drift))
    cell = {index: 0.9 * value for index, value in base.items()}
    ratio = stats.paired_ratio(cell, base)
    assert ratio is not None
    assert ratio.relative_width < 1e-9
    assert ratio.median == pytest.approx(0.9)


def test_noise_floor_is_the_larger_of_offset_and_half_width() -> None:
    assert stats.noise_floor(stats.Interval(1.02, 1.01, 1.03, 10)) == pytest.approx(0.02)
    assert stats.noise_floor(stats.Interval(1.0, 0.95, 1.07, 10)) == pytest.approx(0.06)
    assert stats.noise_floor(None) is None
    assert stats.noise_floor(stats.Interval(1.0, 1.0, 1.0, 1)) is None


@pytest.mark.parametrize(
    ("median", "low", "high", "floor", "expected"),
    [
        (0.90, 0.88, 0.92, 0.03, "faster"),
        (1.10, 1.08, 1.12, 0.03, "slower"),
        (0.98, 0.97, 0.99, 0.03, "not resolved"),
        (0.90, 0.80, 1.01, 0.03, "not resolved"),
        (1.10, 0.99, 1.20, 0.03, "not resolved"),
        (0.50, 0.49, 0.51, None, "not resolved"),
    ],
)
def test_verdict(
    median: float, low: float, high: float, floor: float | None, expected: str
) -> None:
    assert stats.verdict(stats.Interval(median, low, high, 10), floor) == expected


def test_verdict_without_a_ratio_or_with_few_rounds() -> None:
    assert stats.verdict(None, 0.01) == "not resolved"
    assert stats.verdict(stats.Interval(0.5, 0.5, 0.5, 5), 0.01) == "not resolved"
    assert stats.verdict(stats.Interval(0.5, 0.5, 0.5, 6), 0.01) == "faster"


def test_noisy() -> None:
    assert stats.is_noisy(stats.Interval(100, 97, 103, 10))
    assert not stats.is_noisy(stats.Interval(100, 98, 102, 10))
