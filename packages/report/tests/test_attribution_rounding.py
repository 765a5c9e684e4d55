"""Printed worths multiply to the printed total, printed times sum to the printed difference."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablation_report.attribution.rounding import shares, times, worths

LOGS = st.lists(st.floats(-2.5, 2.5), min_size=1, max_size=12)
# However busy the machine
any_time = settings(deadline=None)


@any_time
@given(LOGS)
def test_printed_worths_multiply_to_the_printed_total(logs: list[float]) -> None:
    texts, total = worths(logs)
    product = math.prod(map(Decimal, texts), start=Decimal(1))
    assert str(product.quantize(Decimal(total), ROUND_HALF_UP)) == total
    assert float(total) == pytest.approx(math.exp(math.fsum(logs)), rel=0.006)
    for text, log in zip(texts, logs, strict=True):
        assert len(text.split(".")[1]) >= 3
        last = 10.0 ** -len(text.split(".")[1])
        assert abs(float(text) - math.exp(log)) <= last * (1 + 1e-9)


@any_time
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12))
def test_shares_sum_to_the_total_and_stay_next_to_their_parts(parts: list[float]) -> None:
    total = round(math.fsum(parts))
    found = shares(parts, total)
    assert sum(found) == total
    assert all(abs(share - part) < 2 for share, part in zip(found, parts, strict=True))


@any_time
@given(LOGS, st.floats(1e3, 1e12))
def test_printed_times_sum_to_the_printed_difference(logs: list[float], base: float) -> None:
    total = math.fsum(logs)
    top = base * math.exp(-total)
    mean = (base - top) / total if abs(total) > 1e-9 else base
    shown = times(base, top, [mean * log for log in logs])
    parts = sum(map(Decimal, shown.parts))
    assert parts == Decimal(shown.difference) == Decimal(shown.base) - Decimal(shown.top)


def test_the_largest_remainder_is_raised() -> None:
    assert shares([1.2, 2.7, 3.6], 8) == [1, 3, 4]
    assert shares([1.2, 2.7, 3.6], 7) == [1, 3, 3]
    assert shares([0.9, 0.9], 0) == [0, 0]
    assert shares([1.0, 1.0], 5) == [3, 2]
    assert shares([1.0, 2.0], 2) == [0, 2]
    assert shares([], 0) == []


def test_how_worths_and_times_are_written() -> None:
    assert worths([math.log(1.5), math.log(2.0)]) == (["1.500", "2.000"], "3.00")
    assert worths([]) == ([], "1.00")
    texts, total = worths([math.log(7.123456), math.log(2.345678)])
    assert (texts, total) == (["7.123", "2.346"], "16.7")
    shown = times(4_210_000.0, 1_203_000.0, [2_000_000.0, 1_007_000.0])
    assert (shown.unit, shown.base, shown.top) == ("ms", "4.210", "1.203")
    assert shown.parts == ("2.000", "1.007")
    assert times(412_345.0, 400_000.0, [12_345.0]).parts == ("12.3",)
    assert times(412_345.0, 400_000.0, [12_345.0]).unit == "µs"
    assert times(400_000.0, 412_345.0, [-12_345.0]).difference == "-12.3"
