"""The numbers behind the charts against arithmetic on the rows that owes them nothing."""

from __future__ import annotations

import math
from statistics import quantiles
from typing import Any

import pytest
from samples import SIZES, make_attention_row, make_run, make_timed, make_untimed
from test_published import BLOCK, read_lines

from ablation_report.charts.attention import rate
from ablation_report.charts.block import ceiling, league, published, scaling
from ablation_report.charts.ladder import breakdown, heatmap, ratio, waterfall
from ablation_report.fit import slope
from ablation_report.load import read_one
from ablation_report.run import Run

TIMES = {
    "torch-naive": [4000, 4400, 4100, 3900, 4200, 4300],
    "torch-sdpa": [3000, 3300, 3100, 2900, 3200, 3250],
    "passes-none": [2000, 2210, 2040, 1950, 2120, 2150],
    "attention-fused-parallel": [1000, 1100, 1020, 980, 1050, 1080],
    "layernorm-parallel": [1001, 1099, 1021, 979, 1051, 1079],
    "beyond-packed": [800, 870, 830, 790, 850, 860],
}
# The rung below; those that were left out of the run stand between
PARENTS = {
    "torch-sdpa": "torch-naive",
    "passes-none": "torch-naive",
    "passes-fold": "passes-none",
    "attention-fused-parallel": "attention-fused-simd",
    "layernorm-parallel": "layernorm-simd",
    "beyond-packed": "flash-layernorm",
}
# Toy: 24 * 32 * 64^2 + 4 * 32^2 * 64
TOY_FLOPS = 3_407_872
SMALL = {"B": 1, "H": 4, "Nq": 64, "Nk": 64, "d": 32, "causal": False, "config": "Small"}
SMALL_FLOPS = 24 * 64 * 128**2 + 4 * 64**2 * 128


def make_rung(variant: str, samples: list[int], **changes: Any) -> dict[str, Any]:
    """A row of the ladder: PyTorch's, or ours."""
    known: dict[str, Any] = {"parent": PARENTS.get(variant)}
    if variant.startswith("torch"):
        known |= {"origin": "torch", "factors": {"executor": "torch"}}
    return make_timed(variant, samples, **(known | changes))


def make_ladder(*more: dict[str, Any], **header: Any) -> Run:
    """The rungs of `TIMES`, and more rows."""
    rungs = [make_rung(name, samples) for name, samples in TIMES.items()]
    return make_run([*rungs, *more], **header)


def make_other(variant: str, samples: list[int], **changes: Any) -> dict[str, Any]:
    """A runtime of the league, which gives no profile."""
    known: dict[str, Any] = {
        "group": "League",
        "origin": variant,
        "factors": {},
        "ops": None,
        "profile": None,
    }
    return make_timed(variant, samples, **(known | changes))


def paired(first: str, second: str) -> list[float]:
    return [a / b for a, b in zip(TIMES[first], TIMES[second], strict=True)]


def quartile(values: list[int]) -> float:
    """The first quartile, by the standard library."""
    return quantiles(values, method="inclusive")[0]


def quotient(first: str, second: str) -> float:
    """The ratio of two rows whose rounds agree on it."""
    return quartile(TIMES[first]) / quartile(TIMES[second])


def by(frame: Any, column: str) -> dict[str, dict[str, Any]]:
    return {row[column]: row for row in frame.iter_rows(named=True)}


def read_ladder() -> Run:
    """The published ladder."""
    (run,) = read_one(BLOCK)
    return run


def case_of(run: Run, config: str) -> str:
    """The case of a config."""
    return next(c for c, rows in run.by_case.items() if rows[0]["sizes"]["config"] == config)


def test_the_parts_of_a_breakdown() -> None:
    run = make_ladder(make_other("jax", [1500] * 6))
    frame = breakdown.rows(run, run.cases[0])
    none = frame.filter(variant="passes-none")
    parts = by(none, "part")
    assert list(parts) == [
        *("attention", "layer norm", "linear", "element-wise", "movement", "dispatch"),
        "wall time",
    ]
    # Two profiled calls: 300 and 330 ns of 1000 and 1100
    assert parts["attention"]["time_us"] == pytest.approx(0.315)
    assert parts["attention"]["share"] == pytest.approx(315 / 1050)
    assert parts["movement"]["time_us"] == pytest.approx(0.065)
    wall = parts["wall time"]
    assert wall["time_us"] == pytest.approx(quartile(TIMES["passes-none"]) / 1e3)
    # Of six rounds the fifth is above the quartile in 99.5% of all cases
    assert (wall["low_us"], wall["high_us"]) == pytest.approx((1.95, 2.15))
    assert wall["share"] is None
    assert frame.filter(variant="jax")["part"].to_list() == ["wall time"]


def test_a_published_breakdown_has_the_rest_undivided() -> None:
    (line,) = [
        line
        for line in read_lines(BLOCK)
        if (line["config"], line["variant"]) == ("Toy", "torch-sdpa")
    ]
    run = read_ladder()
    frame = breakdown.rows(run, case_of(run, "Toy"))
    parts = by(frame.filter(variant="torch-sdpa"), "part")
    assert list(parts) == ["attention", "layer norm", "other", "wall time"]
    for part, column in (("attention", "attention_ns"), ("layer norm", "layernorm_ns")):
        assert parts[part]["time_us"] == pytest.approx(float(line[column]) / 1e3)
    assert parts["other"]["time_us"] == pytest.approx(float(line["other_ns"]) / 1e3)
    assert parts["wall time"]["time_us"] == pytest.approx(float(line["total_ns"]) / 1e3)
    assert parts["wall time"]["low_us"] is None


def test_the_unit_follows_the_times() -> None:
    run = make_run([make_rung("torch-naive", [4_000_000_000] * 6)])
    frame = breakdown.rows(run, run.cases[0])
    assert frame.filter(part="wall time")["time_s"].to_list() == [4.0]


def test_the_steps_of_a_waterfall() -> None:
    fold = make_untimed(make_rung("passes-fold", [1] * 6))
    variants = [*list(TIMES)[:3], "passes-fold", *list(TIMES)[3:]]
    run = make_ladder(fold, variants=variants)
    steps = by(waterfall.rows(run, run.cases[0]), "variant")
    assert list(steps) == [
        *("torch-naive", "passes-none", "passes-fold", "attention-fused-parallel"),
        *("layernorm-parallel", "beyond-packed"),
    ]
    assert steps["torch-naive"]["from_variant"] is None
    # The rungs between have no time, and the step leads from the nearest that has
    before = {"attention-fused-parallel": "passes-none", "beyond-packed": "layernorm-parallel"}
    for variant, base in before.items():
        step = steps[variant]
        assert step["from_variant"] == base
        assert step["from_time_us"] == pytest.approx(quartile(TIMES[base]) / 1e3)
        assert step["time_us"] == pytest.approx(quartile(TIMES[variant]) / 1e3)
        assert step["ratio"] == pytest.approx(quotient(variant, base))
        assert step["ratio_low"] == pytest.approx(min(paired(variant, base)))
        assert step["verdict"] == "faster"
    assert steps["attention-fused-parallel"]["label"] == "▼ 0.50x"
    assert steps["layernorm-parallel"]["label"] == "= 1.00x"
    assert steps["passes-fold"]["time_us"] is None and steps["passes-fold"]["label"] is None


def test_the_path_is_the_longest_chain_of_parents() -> None:
    path = waterfall.main_path(read_ladder())
    assert path[:2] == ("torch-naive", "passes-none") and path[-1] == "flash-layernorm"
    assert "torch-sdpa" not in path and "attention-flash-parallel" not in path
    assert not any(name.startswith("percall") for name in path)
    assert path.index("layernorm-scalar") == path.index("attention-fused-parallel") + 1


def test_rows_that_name_each_other_as_parent_end_the_path() -> None:
    run = make_run([make_rung("a", [1] * 6, parent="b"), make_rung("b", [1] * 6, parent="a")])
    assert set(waterfall.main_path(run)) == {"a", "b"}


def test_a_new_rung_stands_in_every_chart_of_the_ladder() -> None:
    new = make_rung("toy-rung", [500] * 6, parent="beyond-packed", printed_name="+ toy")
    run = make_ladder(new)
    case = run.cases[0]
    step = by(waterfall.rows(run, case), "variant")["toy-rung"]
    assert (step["from_variant"], step["printed_name"]) == ("beyond-packed", "+ toy")
    assert "toy-rung" in by(ratio.rows(run, case), "variant")
    assert "toy-rung" in by(heatmap.rows(run), "variant")
    assert "toy-rung" in by(breakdown.rows(run, case), "variant")


def test_the_squares_of_the_heatmap() -> None:
    squares = by(heatmap.rows(make_ladder()), "variant")
    assert squares["torch-naive"]["text"] == "1.00x"
    ratios = paired("beyond-packed", "torch-naive")
    expected = quotient("beyond-packed", "torch-naive")
    assert squares["beyond-packed"]["ratio"] == pytest.approx(expected)
    assert squares["beyond-packed"]["text"] == f"{expected:.2f}x"
    assert squares["beyond-packed"]["ratio_high"] == pytest.approx(max(ratios))
    lines = [line for line in read_lines(BLOCK) if line["config"] == "7B"]
    frame = heatmap.rows(read_ladder()).filter(case="7B")
    assert frame["ratio"].to_list() == pytest.approx(
        [float(line["ratio_vs_torch_naive"]) for line in lines], abs=0.0101
    )


def test_the_heatmap_falls_back_to_sdpa() -> None:
    rows = [make_rung("torch-sdpa", [3000] * 6), make_rung("passes-none", [1500] * 6)]
    frame = heatmap.rows(make_run(rows))
    assert set(frame["base"]) == {"torch-sdpa"}
    assert frame["ratio"].to_list() == [1.0, 0.5]
    assert frame["text"].to_list() == ["1.00x", "0.50x ~"]


def test_cases_of_one_name_are_told_apart() -> None:
    rows = [make_rung("torch-naive", [1000] * 6, threads=threads) for threads in (1, 2)]
    rows.append(make_rung("torch-naive", [1000] * 6, sizes=SMALL, flops=SMALL_FLOPS))
    cases = heatmap.rows(make_run(rows))["case"].to_list()
    assert cases == ["Toy, 1 thread", "Toy, 2 threads", "Small"]


def test_the_slope_over_sizes() -> None:
    larger = make_rung("passes-none", [12_000] * 6, sizes=SMALL, flops=SMALL_FLOPS)
    frame = scaling.rows(make_ladder(larger)).filter(variant="passes-none")
    small = quartile(TIMES["passes-none"])
    expected = math.log(12_000 / small) / math.log(SMALL_FLOPS / TOY_FLOPS)
    assert frame["case"].to_list() == ["Toy", "Small"]
    assert frame["slope"].to_list() == pytest.approx([expected] * 2)
    assert frame["gflop"].to_list() == pytest.approx([TOY_FLOPS / 1e9, SMALL_FLOPS / 1e9])
    assert frame["time_ms"].to_list() == pytest.approx([small / 1e6, 0.012])
    assert frame["gflop_per_s"].to_list() == pytest.approx(
        [TOY_FLOPS / small, SMALL_FLOPS / 12_000]
    )
    assert frame["series"][0] == f"passes-none, slope {expected:.2f}"


def test_a_slope_of_three_points_is_the_least_squares_one() -> None:
    # log10 y is 0, 1, 4 over 0, 1, 2: the line of least squares rises by 2
    assert slope([(1, 1), (10, 10), (100, 10_000)]) == pytest.approx(2)
    assert slope([(1, 1), (10, 100), (100, 10_000)]) == pytest.approx(2)
    assert slope([(5, 1), (5, 2)]) is None and slope([]) is None


def test_the_ratios_to_pytorch() -> None:
    run = make_ladder()
    points = by(ratio.rows(run, run.cases[0]), "variant")
    assert "torch-sdpa" not in points
    ratios = paired("passes-none", "torch-sdpa")
    row = points["passes-none"]
    assert (row["ratio"], row["ratio_low"], row["ratio_high"]) == pytest.approx(
        (quotient("passes-none", "torch-sdpa"), min(ratios), max(ratios))
    )
    assert (row["base"], row["n_rounds"], row["verdict"]) == ("torch-sdpa", 6, "faster")
    assert points["torch-naive"]["verdict"] == "slower"
    twins = quotient("attention-fused-parallel", "layernorm-parallel")
    assert row["floor"] == pytest.approx(abs(twins - 1))


def test_the_share_of_the_ceiling() -> None:
    rates = {"2": {"provider": "avx2", "multiply_add_flops_per_s": 5e12}}
    run = make_ladder(make_other("jax", [1500] * 6), ceilings=rates)
    shares = by(ceiling.rows(run), "series")
    assert {name: row["variant"] for name, row in shares.items()} == {
        "best of ours": "beyond-packed",
        "PT SDPA": "torch-sdpa",
        "best of the league": "jax",
    }
    ours = shares["best of ours"]
    assert ours["gflop_per_s"] == pytest.approx(TOY_FLOPS / quartile(TIMES["beyond-packed"]))
    assert ours["share"] == pytest.approx(TOY_FLOPS / quartile(TIMES["beyond-packed"]) * 1e9 / 5e12)
    # The end of the interval is the smallest share
    assert ours["share_low"] == pytest.approx(TOY_FLOPS / 860 * 1e9 / 5e12)
    assert shares["best of the league"]["share"] == pytest.approx(TOY_FLOPS / 1500 / 5000)


def test_without_a_ceiling_there_is_no_share() -> None:
    frame = ceiling.rows(make_ladder())
    assert frame["share"].null_count() == frame.height
    assert frame.filter(series="best of the league")["gflop_per_s"].to_list() == [None]


def test_the_best_of_ours_stands_over_the_league() -> None:
    times = [1600, 1740, 1660, 1580, 1700, 1720]
    rows = by(league.rows(make_ladder(make_other("jax", times))), "variant")
    assert list(rows) == ["torch-naive", "torch-sdpa", "jax"]
    assert {row["ours"] for row in rows.values()} == {"beyond-packed"}
    # Half of it in every round: ours is faster, and that is what the color says
    assert rows["jax"]["ratio"] == pytest.approx(0.5) and rows["jax"]["label"] == "0.50x ▼"
    assert rows["jax"]["verdict"] == "faster"
    assert rows["torch-sdpa"]["ratio"] == pytest.approx(quotient("beyond-packed", "torch-sdpa"))


def test_published_and_recorded_ratios_are_each_their_own() -> None:
    run = make_ladder()
    frame = published.rows(run, read_ladder(), run.cases[0])
    pair = by(frame.filter(variant="passes-none"), "source")
    ours, theirs = pair["run"], pair["Published: block_ablation_m4max"]
    assert ours["ratio"] == pytest.approx(quotient("passes-none", "torch-naive"))
    totals = {
        line["variant"]: float(line["total_ns"])
        for line in read_lines(BLOCK)
        if line["config"] == "Toy"
    }
    assert theirs["ratio"] == pytest.approx(totals["passes-none"] / totals["torch-naive"])
    assert theirs["ratio_low"] is None and ours["ratio_low"] is not None
    assert ours["printed_name"] == theirs["printed_name"] == "passes-none"
    assert (ours["is_published"], theirs["is_published"]) == (False, True)
    assert "torch-naive" not in frame["variant"].to_list()


def test_the_rates_of_attention_alone() -> None:
    times = {"torch-sdpa": 1000, "kernels-materialized": 2000, "flash": 500}
    sizes = SIZES | {"H": 2, "Nq": 100, "Nk": 100, "d": 8}
    del sizes["config"]
    rows = [
        make_attention_row(name, [time] * 6, tier="crossover", sizes=sizes, flops=640_000)
        for name, time in times.items()
    ]
    rows.append(make_attention_row("torch-sdpa", tier="cpu"))
    found = by(rate.rows(make_run(rows, baseline="torch-sdpa")), "variant")
    # 4 * 2 heads * 8 * 100^2 FLOPs in 500 ns
    assert found["flash"]["gflop_per_s"] == pytest.approx(640_000 / 500)
    assert found["flash"]["ratio"] == pytest.approx(0.5)
    assert found["kernels-materialized"]["ratio"] == pytest.approx(2)
    assert found["flash"]["panel"] == "full, 2 heads, 1 thread"
    assert {row["seq_len"] for row in found.values()} == {100}
