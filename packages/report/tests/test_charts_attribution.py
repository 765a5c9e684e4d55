"""The charts of attribution: their frames against sums over the lattice, and what they refuse."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any

import pytest
from attribution_samples import (
    SMALL_FACTORS,
    block_is_feasible,
    make_attribution_rows,
    make_attribution_run,
    run_of,
    usual_value,
)
from ladder_samples import lattice_run
from samples import make_run, make_timed
from test_brackets import folding

from ablation_report import charts
from ablation_report.attribution.brackets import rungs, shapes_of
from ablation_report.attribution.worths import attribution_of
from ablation_report.charts.attribution import bars, interactions, strip, waterfall
from ablation_report.run import Run

PER_CASE = (bars, waterfall, interactions, strip)
KEYS = ("worths", "savings", "interactions", "programs")
# What each level is worth: folding and threads, on together, lose 0.1
BASE_NS = 10_000_000
TOP = {"folding": 1, "attention": 3, "simd": 1, "threads": 1}
FEW = {name: SMALL_FACTORS[name] for name in ("folding", "simd", "threads")}


def spec(key: str) -> charts.ChartSpec:
    """A chart by its key."""
    (found,) = (each for each in charts.CHARTS if each.key == key)
    return found


def rows_of(module: Any, run: Run) -> list[dict[str, Any]]:
    """The frame of a chart of the first case."""
    return list(module.rows(run, run.cases[0]).iter_rows(named=True))


def sampled_run(**options: Any) -> Run:
    """A run of four sampled orders of three factors."""
    orders = ["012", "210", "120", "021"]
    points = {(0, 0, 0)}
    for order in orders:
        point = [0, 0, 0]
        for factor in map(int, order):
            point[factor] += 1
            points.add(tuple(point))  # type: ignore[arg-type]
    return make_attribution_run(usual_value, FEW, points=sorted(points), orders=orders, **options)


def brute_force(value: Any, factors: Mapping[str, Any], name: str) -> list[float]:
    """What a factor adds in each order of switching two-level factors on."""
    found = []
    for order in itertools.permutations(factors):
        before = dict.fromkeys(factors, 0)
        for each in order[: order.index(name)]:
            before[each] = 1
        found.append(value(before | {name: 1}) - value(before))
    return found


def test_the_bars_have_the_mean_over_all_orders_and_its_range() -> None:
    run = make_attribution_run(usual_value, FEW)
    frame = {row["factor"]: row for row in rows_of(bars, run)}
    # The largest first
    assert list(frame) == ["threads", "folding", "simd"]
    for name, row in frame.items():
        logs = brute_force(usual_value, FEW, name)
        assert row["worth"] == pytest.approx(math.exp(fmean(logs)), rel=1e-5)
        assert row["lowest"] == pytest.approx(math.exp(min(logs)), rel=1e-5)
        assert row["highest"] == pytest.approx(math.exp(max(logs)), rel=1e-5)
        assert row["low"] <= row["worth"] <= row["high"]
        assert row["verdict"] == "worth"
    folding = frame["folding"]
    assert folding["first_in"] == pytest.approx(math.exp(0.3), rel=1e-5)
    assert folding["last_in"] == pytest.approx(math.exp(0.2), rel=1e-5)
    assert folding["label"] == f"{math.exp(0.25):.2f}x"


def test_the_waterfall_closes() -> None:
    run = make_attribution_run(usual_value, noise=0.02, seed=3)
    rows = rows_of(waterfall, run)
    suffix = next(name for name in rows[0] if name.startswith("start_")).removeprefix("start_")
    starts, ends = ([row[f"{end}_{suffix}"] for row in rows] for end in ("start", "end"))
    assert [row["kind"] for row in (rows[0], rows[-1])] == [waterfall.WHOLE] * 2
    assert starts[0] == starts[-1] == 0
    # Each step begins where the one before it ended, and the last ends at the time of top
    assert starts[1:-1] == pytest.approx(ends[:-2])
    assert ends[-1] == pytest.approx(ends[-2])
    scale = {"us": 1e3, "ms": 1e6, "s": 1e9}[suffix]
    times = [run.time(run.row(run.cases[0], name)) for name in ("base", "top")]
    assert all(times)
    assert [ends[0], ends[-1]] == pytest.approx([time.value / scale for time in times if time])
    assert rows[1]["label"].startswith("−") and rows[1]["label"].endswith("ms")


def test_interactions_have_every_pair_once() -> None:
    run = make_attribution_run(usual_value, FEW)
    frame = {(row["other"], row["printed_name"]): row for row in rows_of(interactions, run)}
    assert set(frame) >= {("Folding", "Threads")}
    assert all((second, first) not in frame for first, second in frame)
    both = frame["Folding", "Threads"]
    assert both["interaction"] == pytest.approx(-0.1, abs=1e-5)
    assert both["together"] == pytest.approx(math.exp(-0.1), rel=1e-5)
    assert (both["verdict"], both["text"]) == ("they save the same time", "0.90")
    noisy = make_attribution_run(usual_value, FEW, noise=0.2)
    (both,) = (
        row
        for row in rows_of(interactions, noisy)
        if row["other"] == "Folding" and row["printed_name"] == "Threads"
    )
    assert both["verdict"] == "not resolved" and both["text"].endswith(" ~")


def test_the_strip_has_every_program_fastest_first() -> None:
    run = make_attribution_run()
    rows = rows_of(strip, run)
    expected = [
        "".join(map(str, point))
        for point in itertools.product(
            *(range(len(levels)) for _, levels in SMALL_FACTORS.values())
        )
        if block_is_feasible(dict(zip(SMALL_FACTORS, point, strict=True)))
    ]
    assert sorted(row["point"] for row in rows) == sorted(expected)
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    times = [row["time_ms"] for row in rows]
    assert times == sorted(times)
    assert rows[-1]["point"] == "0000" and rows[0]["point"] == "1311"
    assert rows[-1]["time_ms"] == pytest.approx(BASE_NS / 1e6)


def test_a_program_without_a_time_is_counted_and_not_drawn() -> None:
    run = make_attribution_run(missing={(1, 0, 0, 0): "incorrect"})
    points = [row["point"] for row in rows_of(strip, run)]
    assert "1000" not in points
    drawn = charts.draw(spec("programs"), run, run.cases[0])
    assert "Programs without a time: 1" in str(drawn["title"])
    for key in ("worths", "savings", "programs"):
        assert charts.needs(spec(key), run, run.cases[0]) is None
    why_not = charts.needs(spec("interactions"), run, run.cases[0])
    assert why_not == (
        "Interactions take the time of every program; Toy has only orders that avoid programs "
        "without a time."
    )


def test_of_sampled_orders_no_interaction_is_drawn_and_the_error_is_told() -> None:
    run = sampled_run()
    assert charts.needs(spec("interactions"), run, run.cases[0]) == (
        "Interactions take the time of every program; Toy has only 4 sampled orders."
    )
    frame = rows_of(bars, run)
    assert any(row["sampling_error"] > 0 for row in frame)
    assert all(row["first_in"] is None for row in frame)
    assert "4 sampled orders" in str(charts.draw(spec("worths"), run, run.cases[0])["title"])


def test_counters_alone_draw_nothing_and_say_so() -> None:
    missing = dict.fromkeys(itertools.product((0, 1), repeat=3), "skipped")
    rows = make_attribution_rows(
        usual_value, FEW, missing=missing, counters=lambda point: {**COUNTERS}
    )
    run = run_of([row for row in rows if row["details"]], FEW)
    for key in KEYS:
        why_not = charts.needs(spec(key), run, run.cases[0])
        assert why_not == "No worth at Toy: only counters were recorded, no time."
        assert charts.rows(spec(key), run, run.cases[0]).is_empty()


COUNTERS = {
    **dict.fromkeys(("launches", "flops", "bytes_read", "bytes_written"), 7),
    **dict.fromkeys(("packed_bytes", "arena_bytes", "scratch_bytes", "allocations"), 7),
}


def test_a_factor_without_effect_stands_last_and_costs_nothing() -> None:
    def program(point: Mapping[str, int]) -> Any:
        return tuple(level for name, level in point.items() if name != "simd")

    run = make_attribution_run(
        lambda point: usual_value({**point, "simd": 0}), FEW, program=program
    )
    rows = rows_of(bars, run)
    assert (rows[-1]["printed_name"], rows[-1]["verdict"]) == ("SIMD", bars.NO_EFFECT)
    assert rows[-1]["worth"] is None
    assert "SIMD" not in [row["printed_name"] for row in rows_of(waterfall, run)]
    assert bars.NO_EFFECT in json.dumps(charts.draw(spec("worths"), run, run.cases[0]))


def test_a_noisy_run_resolves_nothing() -> None:
    run = make_attribution_run(usual_value, FEW, noise=0.8)
    assert {row["verdict"] for row in rows_of(bars, run)} == {"not resolved"}
    drawn = charts.draw(spec("worths"), run, run.cases[0])
    assert "too noisy to compare" in str(drawn["title"])


def test_the_chart_of_a_factor_that_costs_time_reaches_below_1() -> None:
    run = make_attribution_run(lambda point: -0.3 * point["simd"] + usual_value(point) * 0.5, FEW)
    (costing,) = (row for row in rows_of(bars, run) if row["factor"] == "simd")
    assert costing["verdict"] == "costs" and costing["high"] < 1
    rows = {row["printed_name"]: row for row in rows_of(waterfall, run)}
    assert rows["SIMD"]["end_ms"] > rows["SIMD"]["start_ms"]
    assert rows["SIMD"]["label"].startswith("+")


def inside(lattice: Run, *ladders: Run) -> charts.ChartSpec:
    """The chart of ladders inside the brackets of a run."""
    found = attribution_of(lattice, lattice.cases[0])
    assert found is not None
    return charts.inside_brackets(rungs(lattice, found, ladders, shapes_of(ladders)))


def test_a_ladder_stands_inside_the_brackets() -> None:
    lattice = lattice_run(usual_value)
    shown = inside(lattice, make_run(folding(800), "ladder"))
    (rung,) = charts.rows(shown, lattice, lattice.cases[0]).iter_rows(named=True)
    assert (rung["ladder"], rung["printed_name"], rung["over"]) == ("ladder", "folded", "none")
    assert rung["step"] == "Folding: folded" and rung["figure"] == pytest.approx(1.25)
    assert rung["lowest"] == pytest.approx(math.exp(0.2), rel=1e-5)
    assert rung["highest"] == pytest.approx(math.exp(0.3), rel=1e-5)
    assert rung["said"] == "inside"
    drawn = charts.draw(shown, lattice, lattice.cases[0])
    assert "1 figures of rungs: 1 inside" in str(drawn["title"])


def test_without_a_ladder_the_brackets_say_so() -> None:
    lattice = lattice_run(usual_value)
    case = lattice.cases[0]
    assert charts.needs(inside(lattice), lattice, case) == (
        "No ladder of the block was recorded on this machine at Toy."
    )
    flat = make_run([make_timed("passes-none", [1000] * 6, parent="torch-naive")], "flat")
    assert charts.needs(inside(lattice, flat), lattice, case) == (
        "No rung of a ladder at Toy is a single step."
    )


def test_an_attribution_has_its_own_charts_alone() -> None:
    run = make_attribution_run(others={"torch-naive": 4.0})
    assert [each.key for each in charts.charts_of(run)] == list(KEYS)
    for key in KEYS:
        drawn = charts.draw(spec(key), run, run.cases[0])
        assert drawn["title"]["text"] == "Toy, run"


def test_markup_in_names_stays_text() -> None:
    name = '<b>"x"</b>\u202e\\\''
    factors = {
        key: (f"{printed}{name}", tuple(f"{level}{name}" for level in levels))
        for key, (printed, levels) in FEW.items()
    }
    run = make_attribution_run(usual_value, factors)
    for key in KEYS:
        text = json.dumps(charts.draw(spec(key), run, run.cases[0]), ensure_ascii=False)
        assert "\u202e" not in text
    pytest.importorskip("vl_convert")
    svg = charts.to_svg(charts.draw(spec("programs"), run, run.cases[0]))
    assert "<b>" not in svg and "Folding&lt;b&gt;" in svg
