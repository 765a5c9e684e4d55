"""Intervals by drawing rounds: Student's t against its integral, and what the draws do."""

from __future__ import annotations

import math

import pytest

from ablation_report.attribution.spread import drawn_times, interval_of, student_quantile


def student_share(t: float, freedom: int) -> float:
    """The share of Student's t below a value, by Simpson's rule over its density."""
    scale = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2)
    scale /= math.sqrt(freedom * math.pi)
    n = 20_000
    width = t / n
    density = [
        scale * (1 + (i * width) ** 2 / freedom) ** (-(freedom + 1) / 2) for i in range(n + 1)
    ]
    inner = 4 * math.fsum(density[1:-1:2]) + 2 * math.fsum(density[2:-1:2])
    return float(0.5 + (density[0] + inner + density[-1]) * width / 3)


@pytest.mark.parametrize("freedom", [5, 9, 14, 29])
@pytest.mark.parametrize("share", [0.975, 0.99, 0.998])
def test_the_quantile_is_that_of_students_t(share: float, freedom: int) -> None:
    low, high = (
        student_share(student_quantile(share, freedom) * part, freedom) for part in (0.99, 1.01)
    )
    assert low < share < high


def test_rounds_are_drawn_for_all_programs_at_once() -> None:
    steady, twice = [float(i) for i in range(100, 112)], [2.0 * i for i in range(100, 112)]
    draws = drawn_times([steady, twice])
    assert len(draws) == 100 and draws == drawn_times([steady, twice])
    assert all(other == pytest.approx(2 * one) for one, other in draws)
    assert len({one for one, _ in draws}) > 5
    assert drawn_times([[1.0], [2.0]]) == [] and drawn_times([]) == []


def test_an_interval_has_the_error_of_rounds_and_that_of_orders() -> None:
    found = interval_of(1.0, [0.9, 1.1] * 50, n_rounds=10, odds=20)
    # 2.262 is the quantile of t for 95 % with nine degrees of freedom
    assert found.high - 1 == pytest.approx(0.2262, rel=1e-3) == 1 - found.low
    wider = interval_of(1.0, [0.9, 1.1] * 50, n_rounds=10, odds=20, sampling_error=0.1)
    assert wider.high - found.high == pytest.approx(0.196, rel=1e-3)
    alone = interval_of(1.0, [], n_rounds=1, odds=20)
    assert (alone.low, alone.value, alone.high, alone.n) == (1.0, 1.0, 1.0, 1)
