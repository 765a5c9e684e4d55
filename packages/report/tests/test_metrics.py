"""The statistics, against other ways to compute them."""

from __future__ import annotations

import statistics
from fractions import Fraction
from math import comb
from typing import Any

import pytest
from rows import make_failed_cell, make_noisy_samples, make_timed_cell
from test_published import BLOCK, read_lines

from ablation_report.load import load
from ablation_report.metrics import (
    Interval,
    aa_ratios,
    interval_rank,
    measure,
    median,
    median_interval,
    noise_floor,
    order_agreement,
    paired_ratio,
    rounds_ns,
    verdict,
)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 31])
def test_median_agrees_with_the_standard_library(n: int) -> None:
    values = make_noisy_samples(1000, n, seed=n)
    assert median(values) == statistics.median(values)


def test_median_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="median of no values"):
        median([])


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
    assert median_interval([7]).width is None
    assert median_interval([7, 9]).width == pytest.approx(2 / 8)


def test_samples_of_a_round_count_once() -> None:
    cell = make_timed_cell("a", [10, 30, 20, 50], sample_rounds=[0, 0, 0, 3])
    assert rounds_ns(cell) == {0: 20, 3: 50}


def test_ratios_are_paired_by_round() -> None:
    cell = make_timed_cell("a", [10, 40, 90], sample_rounds=[0, 1, 2])
    base = make_timed_cell("b", [90, 20, 20], sample_rounds=[2, 1, 5])
    # Common rounds 1 and 2: 40/20 and 90/90
    assert paired_ratio(cell, base) == Interval(1.5, 1.0, 2.0, 2)
    assert paired_ratio(cell, None) is None
    assert paired_ratio(cell, make_failed_cell()) is None
    assert paired_ratio(cell, make_timed_cell("c", [5], sample_rounds=[9])) is None


def test_sessions_are_not_paired() -> None:
    cell, later = make_timed_cell("a", [10, 20]), make_timed_cell("b", [10, 20], session=2)
    assert paired_ratio(cell, later) is None


def test_the_floor_holds_both_pairs() -> None:
    names = ("attention-fused-parallel", "layernorm-parallel")
    first, second = (
        make_timed_cell(name, make_noisy_samples(1000, 20, seed)) for seed, name in enumerate(names)
    )
    ratio = paired_ratio(first, second)
    floor = noise_floor([first, second])
    assert ratio is not None and floor is not None
    ratios = [a / b for a, b in zip(first["samples_ns"], second["samples_ns"], strict=True)]
    assert ratio.median == pytest.approx(statistics.median(ratios))
    assert abs(ratio.median - 1) <= floor
    assert verdict(ratio, floor) == "not resolved"

    # The second pair is off by a half in every round, which no interval shows
    flash = make_timed_cell("attention-flash-parallel", [1500] * 20)
    faster = make_timed_cell("flash-layernorm", [1000] * 20)
    assert noise_floor([flash, faster, first, second]) == 0.5
    assert set(aa_ratios([flash, faster, first, second])) == {
        "attention-fused-parallel",
        "attention-flash-parallel",
    }


def test_no_floor_without_a_pair() -> None:
    first = make_timed_cell("attention-fused-parallel", [1000] * 20)
    assert noise_floor([first]) is None
    assert noise_floor([first, make_failed_cell(variant="layernorm-parallel")]) is None
    once = make_timed_cell("layernorm-parallel", [900], sample_rounds=[3])
    assert noise_floor([first, once]) is None


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
        (None, 0.1, "not resolved"),
    ],
)
def test_verdicts(ratio: Interval | None, floor: float | None, expected: str) -> None:
    assert verdict(ratio, floor) == expected


def test_measures_of_a_small_run() -> None:
    samples: dict[str, Any] = {
        "torch-naive": make_noisy_samples(4000, 12, 3),
        "passes-none": make_noisy_samples(1000, 12, 4),
        "attention-fused-parallel": [2000] * 12,
        "layernorm-parallel": [2010] * 12,
    }
    cells = [make_timed_cell(name, values) for name, values in samples.items()]
    cells[1]["parent"] = "torch-naive"
    cells.append(make_failed_cell(variant="torch-sdpa"))
    by_variant = {row["variant"]: row for row in measure(cells).iter_rows(named=True)}

    row = by_variant["passes-none"]
    assert row["total_ns"] == statistics.median(samples["passes-none"])
    assert row["min_ns"] == min(samples["passes-none"])
    pairs = zip(samples["passes-none"], samples["torch-naive"], strict=True)
    assert row["vs_baseline"] == pytest.approx(statistics.median(a / b for a, b in pairs))
    assert (row["vs_parent"], row["verdict_vs_parent"]) == (row["vs_baseline"], "faster")
    assert row["is_noisy"]
    # Of 12 values two on each side may be left out: at most 2 heads in 12 throws, twice, is 3.9%
    ordered = sorted(samples["passes-none"])
    assert row["half_width"] == pytest.approx((ordered[9] - ordered[2]) / 2 / row["total_ns"])
    assert row["gflops"] == pytest.approx(3407872 / row["total_ns"])
    # Two profiled calls: 1000 and 1100 in all, 300 and 330 of attention, 100 and 110 of layer norm
    assert (row["attention_ns"], row["layer_norm_ns"], row["other_ns"]) == (315, 105, 630)
    assert row["attention_share"] == pytest.approx(0.3)
    assert row["layer_norm_share"] == pytest.approx(0.1)
    assert row["profile_over_total"] == pytest.approx(1050 / row["total_ns"])
    assert not by_variant["layernorm-parallel"]["is_noisy"]

    failed = by_variant["torch-sdpa"]
    assert failed["status"] == "oom"
    assert all(failed[name] is None for name in failed if name not in cells[-1])


def test_measures_of_the_published_run() -> None:
    lines = {(text["config"], text["variant"]): text for text in read_lines(BLOCK)}
    frame = load(BLOCK).collect()
    for config in frame["config"].unique().to_list():
        cells = [cell for cell in frame.to_dicts() if cell["config"] == config]
        for row in measure(cells).iter_rows(named=True):
            text = lines[config, row["variant"]]
            assert row["total_ns"] == int(text["total_ns"])
            assert row["other_ns"] == int(text["other_ns"])
            assert row["vs_baseline"] == pytest.approx(
                float(text["ratio_vs_torch_naive"]), abs=0.011
            )
            assert (row["half_width"], row["is_noisy"]) == (None, None)
            assert row["verdict_vs_parent"] is None


def make_order(first: int, second: int) -> list[dict[str, Any]]:
    """Make a run of two variants with these times, and the A/A pair."""
    times = {"passes-none": first, "passes-fold": second}
    times |= {"attention-fused-parallel": 500, "layernorm-parallel": 500}
    return [make_timed_cell(name, [time] * 8) for name, time in times.items()]


def test_runs_agree_where_the_order_is_the_same() -> None:
    found = order_agreement(make_order(1000, 900), make_order(2000, 1500))
    # Six pairs; the A/A pair is not resolved
    assert (found.said, found.same, found.contradicted) == (5, 5, [])


def test_a_pair_the_other_way_round_is_contradicted() -> None:
    found = order_agreement(make_order(1000, 900), make_order(900, 1000))
    assert (found.said, found.same) == (5, 4)
    assert found.contradicted == [("Toy", "passes-none", "passes-fold")]


def test_what_the_first_does_not_resolve_is_not_counted() -> None:
    found = order_agreement(make_order(1000, 1000), make_order(900, 1000))
    assert found.said == 4
    assert order_agreement(make_order(1000, 900), []).said == 0


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


def test_times_of_zero_make_no_ratio_and_no_width() -> None:
    cell, base = make_timed_cell("a", [10, 20, 30]), make_timed_cell("b", [0, 10, 0])
    ratio = paired_ratio(cell, base)
    assert ratio is not None and (ratio.median, ratio.n) == (2.0, 1)
    assert paired_ratio(cell, make_timed_cell("b", [0, 0, 0])) is None
    assert median_interval([0, 0, 5]).width is None
