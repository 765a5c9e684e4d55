"""From the rows of a run to what each factor is worth, with intervals and verdicts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import pytest
from attribution_samples import (
    BLOCK_FACTORS,
    SMALL_FACTORS,
    make_attribution_rows,
    make_attribution_run,
    points_of,
    run_of,
    text_of,
    usual_value,
)
from samples import make_run

from ablation_report.attribution import Attribution, Worth, attributions, why_not
from ablation_report.attribution.engine import Lattice, path_weights, phi, sample_orders
from ablation_report.rows import header_faults, place_faults, row_faults
from ablation_report.run import Run

THREE: Mapping[str, tuple[str, tuple[str, ...]]] = {
    name: (name.title(), ("off", "on")) for name in ("a", "b", "c")
}


def only(run: Run) -> Attribution:
    """The one attribution of a run."""
    (found,) = attributions(run)
    return found


def worth(found: Attribution, name: str) -> Worth:
    """The worth of a factor."""
    return next(each for each in found.worths if each.name == name)


def test_rows_of_the_fixture_are_sound() -> None:
    run = make_attribution_run(noise=0.02, missing={(0, 1, 0, 0): "incorrect"})
    assert header_faults(run.header) == {}
    for row in run.rows:
        columns = {name: value for name, value in row.items() if name not in ("path", "line")}
        assert row_faults(columns) == {} and place_faults(columns, run.header) == {}


def test_worths_are_those_of_the_value() -> None:
    found = only(make_attribution_run())
    points = points_of(SMALL_FACTORS)
    lattice = Lattice(points)
    named = [dict(zip(SMALL_FACTORS, point, strict=True)) for point in lattice.points]
    steps = phi(lattice, [usual_value(point) for point in named], path_weights(lattice))
    expected = dict.fromkeys(SMALL_FACTORS, 0.0)
    for step, value in zip(lattice.steps, steps, strict=True):
        expected[list(SMALL_FACTORS)[step.factor]] += value
    for name, value in expected.items():
        assert worth(found, name).phi.value == pytest.approx(value, abs=1e-6)
    assert found.is_complete and found.n_orders is None and found.n_points == len(points)
    assert found.base["variant"] == "base" and found.top["variant"] == "top"


def test_everything_sums_to_base_over_top() -> None:
    found = only(make_attribution_run(noise=0.05))
    total = math.log(found.base_ns / found.top_ns)
    assert found.total.value == pytest.approx(total, abs=1e-12)
    assert math.fsum(w.phi.value for w in found.worths) == pytest.approx(total, abs=1e-12)
    ns = math.fsum(w.ns.value for w in found.worths)
    assert ns == pytest.approx(found.base_ns - found.top_ns, rel=1e-12)
    firsts = [w.first for w in found.worths if w.first is not None]
    assert found.higher is not None and len(firsts) == len(found.worths)
    terms = [*firsts, *found.pairs.values(), found.higher]
    assert math.fsum(terms) == pytest.approx(total, abs=1e-12)
    for each in found.worths:
        assert math.fsum(s.phi for s in each.steps) == pytest.approx(each.phi.value, abs=1e-12)
        assert each.lowest <= each.phi.value <= each.highest
        assert each.phi.low <= each.phi.value <= each.phi.high
        assert each.ns.low <= each.ns.value <= each.ns.high


def test_first_in_and_last_in_and_range() -> None:
    def value(point: Mapping[str, int]) -> float:
        return 0.2 * point["a"] + 0.3 * point["a"] * point["b"]

    found = only(make_attribution_run(value, THREE))
    a = worth(found, "a")
    assert a.first == pytest.approx(0.2, abs=1e-6)
    assert a.last == pytest.approx(0.5, abs=1e-6)
    assert (a.lowest, a.highest) == (a.first, a.last)
    assert a.phi.value == pytest.approx(0.35, abs=1e-6)
    assert a.main == pytest.approx(0.35, abs=1e-6)
    assert found.pairs["a", "b"] == pytest.approx(0.3, abs=1e-6)
    assert found.higher == pytest.approx(0, abs=1e-6)


def test_a_factor_that_changes_no_program_has_no_effect() -> None:
    run = make_attribution_run(
        lambda p: 0.1 * p["a"] + 0.1 * p["b"], THREE, program=lambda p: (p["a"], p["b"])
    )
    found = only(run)
    assert found.no_effect == ("C",)
    assert [each.name for each in found.worths] == ["a", "b"]
    assert set(found.pairs) == {("a", "b")}
    assert len(found.programs) == 4 and found.n_points == 8
    assert found.programs[0][1] == (0, 0, 0)


def test_verdicts_against_the_twins() -> None:
    def value(point: Mapping[str, int]) -> float:
        return 0.5 * point["a"] - 0.4 * point["b"] + 0.001 * point["c"]

    found = only(make_attribution_run(value, THREE, noise=0.01, rounds=20))
    assert found.floor is not None and 0.001 < found.floor < 0.1
    said = {each.name: each.verdict for each in found.worths}
    assert said == {"a": "worth", "b": "costs", "c": "not resolved"}


def test_no_verdict_with_few_rounds_or_a_noisy_case() -> None:
    for options in ({"rounds": 5}, {"noise": 0.4, "rounds": 20}):
        found = only(make_attribution_run(lambda p: 0.5 * p["a"], THREE, **options))
        assert {each.verdict for each in found.worths} == {"not resolved"}
    found = only(make_attribution_run(lambda p: 0.5 * p["a"], THREE, rounds=6))
    assert worth(found, "a").verdict == "worth"


def test_programs_without_a_time_are_avoided_where_an_order_does() -> None:
    missing = {(0, 1, 0): "incorrect", (1, 1, 0): "oom"}
    run = make_attribution_run(lambda p: 0.2 * p["a"] + 0.1 * p["c"], THREE, missing=missing)
    found = only(run)
    assert not found.is_complete and found.pairs == {} and found.higher is None
    assert math.fsum(w.phi.value for w in found.worths) == pytest.approx(0.3, abs=1e-6)
    b = worth(found, "b")
    # Its earliest point was not measured, its latest was
    assert (b.first, b.main) == (None, None) and b.last == pytest.approx(0, abs=1e-6)
    assert why_not(run, found.case) is None


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ({(1, 1, 1): "incorrect"}, "top: incorrect, check"),
        ({(0, 0, 0): "oom"}, "base: oom, predicted"),
        (
            {(1, 0, 0): "oom", (0, 1, 0): "incorrect", (0, 0, 1): "error"},
            r"no order avoids p-001 \(error, Crash\), p-010 \(incorrect, check\), p-100 \(oom",
        ),
    ],
)
def test_a_case_without_an_answer_says_why(missing: dict[tuple[int, ...], str], told: str) -> None:
    run = make_attribution_run(factors=THREE, value=lambda p: 0.0, missing=missing)
    assert attributions(run) == ()
    assert re.match(told, why_not(run, run.cases[0]) or "")


def test_rows_that_contradict_the_header_are_no_points() -> None:
    for points, told in (
        (["000", "2x0"], "base: '2x0' is no point of 3 factors"),
        (["000", "020"], "base: '020' is no point of 3 factors"),
        (["000", "00"], "base: '00' is no point of 3 factors"),
        (["000", "100"], "100 is the point of base and p-100"),
    ):
        rows = make_attribution_rows(lambda p: 0.0, THREE)
        rows[0]["details"] = {"points": points}
        run = run_of(rows, THREE)
        assert attributions(run) == () and why_not(run, run.cases[0]) == told
    rows = make_attribution_rows(lambda p: 0.0, THREE, orders=["012", "2ü1", "210"])
    run = run_of(rows, THREE)
    assert why_not(run, run.cases[0]) == "base: '2ü1' is no order of 3 factors"


def test_orders_of_more_than_ten_factors_are_read() -> None:
    factors = {f"f{i}": (f"F{i}", ("off", "on")) for i in range(12)}
    texts = ["0123456789ab", "ba9876543210", "b0123456789a", "a9876543210b"]
    points = {
        tuple(int(f"{i:x}" in text[:n]) for i in range(12)) for text in texts for n in range(13)
    }
    found = only(make_attribution_run(factors=factors, points=sorted(points), orders=texts))
    assert found.n_orders == len(texts)


def test_a_run_without_factors_has_no_attribution() -> None:
    run = make_run(make_attribution_rows())
    assert attributions(run) == ()
    assert why_not(run, run.cases[0]) is not None
    assert attributions(run) is attributions(run)


def test_programs_of_several_sessions_have_no_interval() -> None:
    rows = make_attribution_rows(lambda p: 0.3 * p["a"], THREE, noise=0.01)
    rows[3]["session"] = 2
    found = only(run_of(rows, THREE))
    assert {each.phi.n for each in found.worths} == {1}
    assert {each.verdict for each in found.worths} == {"not resolved"}


def test_only_rounds_that_all_programs_ran_in_count() -> None:
    rows = make_attribution_rows(lambda p: 0.3 * p["a"], THREE, rounds=12)
    for row, kept in ((rows[1], 10), (rows[2], 11)):
        row["samples_ns"], row["sample_rounds"] = row["samples_ns"][:kept], list(range(kept))
    assert {each.phi.n for each in only(run_of(rows, THREE)).worths} == {10}


def sampled_run(count: int = 24, **options: Any) -> Run:
    points = points_of(BLOCK_FACTORS)
    orders = sample_orders(points, count, seed=2)
    kept = {points[0]}
    for order in orders:
        at = list(points[0])
        for factor in order:
            at[factor] += 1
            kept.add(tuple(at))
    texts = ["".join(map(str, order)) for order in orders]
    return make_attribution_run(factors=BLOCK_FACTORS, points=sorted(kept), orders=texts, **options)


def test_sampled_orders_tell_their_error() -> None:
    exact = {w.name: w.phi.value for w in only(make_attribution_run(factors=BLOCK_FACTORS)).worths}
    found = only(sampled_run())
    assert found.n_orders == 24 and not found.is_complete
    assert found.pairs == {} and found.higher is None
    assert math.fsum(w.phi.value for w in found.worths) == pytest.approx(found.total.value)
    for each in found.worths:
        assert (each.first, each.last, each.main) == (None, None, None)
        assert each.lowest <= each.phi.value <= each.highest
        # The value is nearly additive: its only interaction is between folding and threads
        assert abs(each.phi.value - exact[each.name]) <= 4 * each.sampling_error + 1e-6
        assert each.phi.high - each.phi.low >= 2 * each.sampling_error
    assert worth(found, "folding").sampling_error > 0
    assert worth(found, "simd").sampling_error == pytest.approx(0, abs=1e-7)


def test_sampled_pairs_with_a_program_without_a_time_are_left_out() -> None:
    whole = sampled_run()
    target = next(
        row
        for row in whole.rows
        if row["variant"].startswith("p-") and sum(map(int, row["variant"][2:])) == 6
    )
    point = tuple(map(int, target["variant"][2:]))
    found = only(sampled_run(missing={point: "incorrect"}))
    assert found.n_orders is not None and 2 < found.n_orders < 24 and found.n_orders % 2 == 0
    run = sampled_run(count=2)
    assert why_not(run, run.cases[0]) == "2 sampled orders, expected 3 or more"
    run = sampled_run(count=4, missing={point: "incorrect"})
    told = why_not(run, run.cases[0]) or ""
    assert re.match(r"\d of 4 sampled orders avoid p-\d+ \(incorrect, check\), expected 3", told)
    rows = make_attribution_rows(lambda p: 0.0, THREE, orders=["012", "210", "01"])
    told = "order [0, 1]: does not end at the highest point"
    assert why_not(run_of(rows, THREE), rows[0]["case"]) == told


def test_text_of_a_point_is_what_rows_hold() -> None:
    assert text_of((0, 2, 1)) == "021"
