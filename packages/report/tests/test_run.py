"""What a run answers for a case, a variant and a phase."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
from samples import (
    make_attention_row,
    make_noisy_samples,
    make_run,
    make_timed,
    make_untimed,
)

from ablation_report.run import Run, is_other, is_ours
from ablation_report.stats import Interval

FIRST, SECOND = "attention-fused-parallel", "layernorm-parallel"


def pair(first: list[int], second: list[int]) -> Run:
    """A run of the twins with these times."""
    return make_run([make_timed(FIRST, first), make_timed(SECOND, second)])


def test_a_ratio_is_paired_by_round_and_its_floor_is_the_twins() -> None:
    first, second = (make_noisy_samples(1000, 20, seed) for seed in (0, 1))
    run = pair(first, second)
    (case,) = run.cases
    found = run.compare(run.row(case, FIRST), SECOND)
    assert found is not None and found.case == case
    low, other = (statistics.quantiles(x, method="inclusive")[0] for x in (first, second))
    assert found.ratio.value == pytest.approx(low / other)
    assert found.floor is not None and abs(found.ratio.value - 1) <= found.floor
    assert found.verdict == "not resolved" and not found.is_resolved


def test_a_difference_counts_beyond_the_floor_alone() -> None:
    twins = [make_timed(FIRST, [1000] * 8), make_timed(SECOND, [1100] * 8)]
    near, far = make_timed("a", [1050] * 8), make_timed("b", [1300] * 8)
    run = make_run([*twins, near, far])
    (case,) = run.cases
    assert run.floor(case) == pytest.approx(1 - 1000 / 1100)
    found = {row["variant"]: run.compare(row, FIRST) for row in run.by_case[case]}
    said = {variant: each.verdict for variant, each in found.items() if each}
    # The same program once more is "slower" by the floor itself, and no more than that
    assert said == {FIRST: "not resolved", SECOND: "slower", "a": "not resolved", "b": "slower"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Interval(2.0, 2.0, 2.0, 4)),
        ({"session": 2}, Interval(2.0, 2.0, 2.0, 1)),
        ({"interleaved": False}, Interval(2.0, 2.0, 2.0, 1)),
        ({"sample_rounds": [7, 8, 9, 10]}, Interval(2.0, 2.0, 2.0, 1)),
    ],
)
def test_rows_without_common_rounds_give_a_quotient_that_resolves_nothing(
    changes: dict[str, object], expected: Interval
) -> None:
    run = make_run([make_timed("a", [20] * 4, **changes), make_timed("b", [10] * 4)])
    first, second = run.rows
    assert run.ratio(first, second) == expected


def test_no_floor_without_twins_and_none_from_one_round() -> None:
    run = make_run([make_timed(FIRST, [1000] * 8)])
    assert run.floor(run.cases[0]) is None
    once = make_run([make_timed(FIRST, [1000] * 8), make_timed(SECOND, [900], sample_rounds=[3])])
    assert once.floor(once.cases[0]) is None
    assumed = make_run([make_timed(FIRST, [1000] * 8)], assumed_floor=0.05)
    assert assumed.floor(assumed.cases[0]) == 0.05


def test_a_row_without_a_time_has_no_ratio() -> None:
    run = make_run([make_timed("a", [10] * 4), make_untimed(make_timed("b", [10] * 4))])
    first, second = run.rows
    assert run.time(second) is None and run.ratio(first, second) is None
    assert run.compare(first, "b") is None and run.compare(first, "c") is None
    assert run.select(timed=True) == [first]


def test_cases_and_rows_stand_in_the_order_of_the_header() -> None:
    rows = [make_attention_row(name, n=n) for n in (2048, 256) for name in ("b", "a")]
    header: Any = {"variants": ["a", "b"], "cases": [rows[2]["case"], rows[0]["case"]]}
    run = make_run(rows, baseline="a", twins=[], **header)
    assert run.cases == (rows[2]["case"], rows[0]["case"])
    assert [run.variants(case) for case in run.cases] == [("a", "b"), ("a", "b")]


def test_rates_are_over_the_ceiling_of_as_many_threads() -> None:
    row = make_attention_row(samples=[10_000_000] * 6)
    ceilings = {"1": {"multiply_add_flops_per_s": 107.3741824e9}}
    run = make_run([row], ceilings=ceilings)
    assert run.gflops(run.rows[0]) == pytest.approx(row["flops"] / 1e7)
    assert run.of_ceiling(run.rows[0]) == pytest.approx(row["flops"] / 1e7 / 107.3741824)
    short = make_run([row | {"dtype": "bfloat16"}], ceilings=ceilings)
    assert short.of_ceiling(short.rows[0]) is None


def test_the_best_is_of_those_that_are_wanted() -> None:
    rows = [
        make_timed("torch-naive", [900] * 4, origin="torch", factors={"executor": "torch"}),
        make_timed("percall-native", [100] * 4, factors={"executor": "per_op"}),
        make_timed("percall-numpy", [50] * 4, origin="numpy"),
        make_timed("a", [800] * 4),
        make_timed("b", [700] * 4),
        # The second name of a program is its luck, not a program
        make_timed("b_again", [690] * 4),
        make_timed("other", [600] * 4, factors={"executor": "compiled", "arithmetic": "other"}),
    ]
    run = make_run(rows, twins=[["b", "b_again"]])
    (case,) = run.cases
    ours, other = run.best(case, is_ours), run.best(case, is_other)
    assert ours is not None and ours["variant"] == "b"
    assert other is not None and other["variant"] == "torch-naive"
    assert run.best(case, lambda row: False) is None


def test_a_copy_of_a_row_has_a_time_of_its_own() -> None:
    run = make_run([make_timed(FIRST, [1000] * 8)])
    for time_ns in range(1, 200):
        copy = {**run.rows[0], "samples_ns": [time_ns] * 8}
        time, ratio = run.time(copy), run.ratio(copy, run.rows[0])
        assert time is not None and time.value == time_ns
        assert ratio is not None and ratio.value == time_ns / 1000
