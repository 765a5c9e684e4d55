"""The numbers behind the charts against arithmetic on the rows that owes them nothing."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from rows import make_failed_cell, make_header, make_timed_cell, write_run
from test_attention import three_ways, write_attention
from test_published import BLOCK, read_lines

from ablation_report.attention_rows import load_attention
from ablation_report.charts import (
    attention,
    breakdown,
    ceiling,
    heatmap,
    league,
    published,
    ratio,
    scaling,
    waterfall,
)
from ablation_report.fit import slope
from ablation_report.sources import Source, read_source

TIMES = {
    "torch-naive": [4000, 4400, 4100, 3900, 4200, 4300],
    "torch-sdpa": [3000, 3300, 3100, 2900, 3200, 3250],
    "passes-none": [2000, 2210, 2040, 1950, 2120, 2150],
    "attention-fused-parallel": [1000, 1100, 1020, 980, 1050, 1080],
    "layernorm-parallel": [1001, 1099, 1021, 979, 1051, 1079],
    "beyond-packed": [800, 870, 830, 790, 850, 860],
}
# Toy: 24 * 32 * 64^2 + 4 * 32^2 * 64
TOY_FLOPS = 3_407_872


def make_cells() -> list[dict[str, Any]]:
    return [make_timed_cell(name, samples) for name, samples in TIMES.items()]


def make_source(folder: Path, *more: dict[str, Any], **header: Any) -> Source:
    run = write_run(folder, [*make_cells(), *more], make_header(**header))
    return read_source(run)


def without_profile(variant: str, samples: list[int], **changes: Any) -> dict[str, Any]:
    """A runtime of the league, which gives no profile."""
    cell = make_timed_cell(variant, samples, group="League", ops=None, **changes)
    return cell | {name: None for name in cell if name.startswith("profile_")}


def paired(first: str, second: str) -> list[float]:
    return [a / b for a, b in zip(TIMES[first], TIMES[second], strict=True)]


def by(frame: Any, column: str) -> dict[str, dict[str, Any]]:
    return {row[column]: row for row in frame.iter_rows(named=True)}


def test_the_parts_of_a_breakdown(tmp_path: Path) -> None:
    source = make_source(tmp_path / "run", without_profile("jax", [1500] * 6))
    frame = breakdown.rows(source, "Toy")
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
    assert wall["time_us"] == pytest.approx(median(TIMES["passes-none"]) / 1e3)
    # Of six rounds the 95% interval is the range
    assert (wall["low_us"], wall["high_us"]) == pytest.approx((1.95, 2.21))
    assert wall["share"] is None
    assert frame.filter(variant="jax")["part"].to_list() == ["wall time"]


def test_a_published_breakdown_has_the_rest_undivided() -> None:
    (line,) = [
        line
        for line in read_lines(BLOCK)
        if (line["config"], line["variant"]) == ("Toy", "torch-sdpa")
    ]
    frame = breakdown.rows(read_source(BLOCK), "Toy")
    parts = by(frame.filter(variant="torch-sdpa"), "part")
    assert list(parts) == ["attention", "layer norm", "other", "wall time"]
    for part, column in (("attention", "attention_ns"), ("layer norm", "layernorm_ns")):
        assert parts[part]["time_us"] == pytest.approx(float(line[column]) / 1e3)
    assert parts["other"]["time_us"] == pytest.approx(float(line["other_ns"]) / 1e3)
    assert parts["wall time"]["time_us"] == pytest.approx(float(line["total_ns"]) / 1e3)
    assert parts["wall time"]["low_us"] is None


def test_the_unit_follows_the_times(tmp_path: Path) -> None:
    cells = [make_timed_cell("torch-naive", [4_000_000_000] * 6)]
    source = read_source(write_run(tmp_path / "run", cells))
    frame = breakdown.rows(source, "Toy")
    assert frame.filter(part="wall time")["time_s"].to_list() == [4.0]


def test_the_steps_of_a_waterfall(tmp_path: Path) -> None:
    source = make_source(tmp_path / "run", make_failed_cell(variant="passes-fold"))
    steps = by(waterfall.rows(source, "Toy"), "variant")
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
        assert step["from_time_us"] == pytest.approx(median(TIMES[base]) / 1e3)
        assert step["time_us"] == pytest.approx(median(TIMES[variant]) / 1e3)
        assert step["ratio"] == pytest.approx(median(paired(variant, base)))
        assert step["ratio_low"] == pytest.approx(min(paired(variant, base)))
        assert step["verdict"] == "faster"
    assert steps["attention-fused-parallel"]["label"] == "▼ 0.50×"
    assert steps["layernorm-parallel"]["label"] == "~ 1.00×"
    assert steps["passes-fold"]["time_us"] is None and steps["passes-fold"]["label"] is None


def test_the_path_leads_from_pytorch_to_the_tuned_default() -> None:
    path = waterfall.main_path()
    assert path[:2] == ("torch-naive", "passes-none") and path[-1] == "beyond-default"
    assert "torch-sdpa" not in path and "attention-flash-parallel" not in path
    assert path.index("flash-layernorm") == path.index("beyond-packed") - 1


def test_the_cells_of_the_heatmap(tmp_path: Path) -> None:
    cells = by(heatmap.rows(make_source(tmp_path / "run")), "variant")
    assert cells["torch-naive"]["text"] == "1.00"
    ratios = paired("beyond-packed", "torch-naive")
    assert cells["beyond-packed"]["ratio"] == pytest.approx(median(ratios))
    assert cells["beyond-packed"]["text"] == f"{median(ratios):.2f}"
    assert cells["beyond-packed"]["ratio_high"] == pytest.approx(max(ratios))
    lines = [line for line in read_lines(BLOCK) if line["config"] == "7B"]
    frame = heatmap.rows(read_source(BLOCK)).filter(config="7B")
    assert frame["ratio"].to_list() == pytest.approx(
        [float(line["ratio_vs_torch_naive"]) for line in lines], abs=0.0101
    )


def test_the_heatmap_falls_back_to_sdpa(tmp_path: Path) -> None:
    cells = [make_timed_cell("torch-sdpa", [3000] * 6), make_timed_cell("passes-none", [1500] * 6)]
    frame = heatmap.rows(read_source(write_run(tmp_path / "run", cells)))
    assert set(frame["base"]) == {"torch-sdpa"}
    assert frame["ratio"].to_list() == [1.0, 0.5]
    assert frame["text"].to_list() == ["1.00", "0.50 ~"]


def test_the_slope_over_sizes(tmp_path: Path) -> None:
    flops = 24 * 64 * 128**2 + 4 * 64**2 * 128
    size = {"config": "Small", "d_model": 128, "seq_len": 64, "flops": flops}
    larger = make_timed_cell("passes-none", [12_000] * 6, **size)
    frame = scaling.rows(make_source(tmp_path / "run", larger)).filter(variant="passes-none")
    small = median(TIMES["passes-none"])
    expected = math.log(12_000 / small) / math.log(flops / TOY_FLOPS)
    assert frame["config"].to_list() == ["Toy", "Small"]
    assert frame["slope"].to_list() == pytest.approx([expected] * 2)
    assert frame["gflop"].to_list() == pytest.approx([TOY_FLOPS / 1e9, flops / 1e9])
    assert frame["time_ms"].to_list() == pytest.approx([small / 1e6, 0.012])
    assert frame["gflop_per_s"].to_list() == pytest.approx([TOY_FLOPS / small, flops / 12_000])
    assert frame["series"][0] == f"passes-none, slope {expected:.2f}"


def test_a_slope_of_three_points_is_the_least_squares_one() -> None:
    # log10 y is 0, 1, 4 over 0, 1, 2: the line of least squares rises by 2
    assert slope([(1, 1), (10, 10), (100, 10_000)]) == pytest.approx(2)
    assert slope([(1, 1), (10, 100), (100, 10_000)]) == pytest.approx(2)
    assert slope([(5, 1), (5, 2)]) is None and slope([]) is None


def test_the_ratios_to_pytorch(tmp_path: Path) -> None:
    points = by(ratio.rows(make_source(tmp_path / "run"), "Toy"), "variant")
    assert "torch-sdpa" not in points
    ratios = paired("passes-none", "torch-sdpa")
    row = points["passes-none"]
    assert (row["ratio"], row["ratio_low"], row["ratio_high"]) == pytest.approx(
        (median(ratios), min(ratios), max(ratios))
    )
    assert (row["base"], row["n_rounds"], row["verdict"]) == ("torch-sdpa", 6, "faster")
    assert points["torch-naive"]["verdict"] == "slower"
    pair = paired("attention-fused-parallel", "layernorm-parallel")
    floor = max(abs(median(pair) - 1), (max(pair) - min(pair)) / 2)
    assert row["floor"] == pytest.approx(floor)


def test_the_share_of_the_ceiling(tmp_path: Path) -> None:
    rates = {"multiply_add_flops_per_s": 5e12, "memory_bytes_per_s": 1e10}
    ceilings = {"provider": "avx2", "threads": 2, **rates}
    jax = without_profile("jax", [1500] * 6)
    source = make_source(tmp_path / "run", jax, ceilings=ceilings)
    shares = by(ceiling.rows(source), "series")
    assert {name: row["variant"] for name, row in shares.items()} == {
        "best of ours": "beyond-packed",
        "PT SDPA": "torch-sdpa",
        "best of the league": "jax",
    }
    ours = shares["best of ours"]
    assert ours["gflop_per_s"] == pytest.approx(TOY_FLOPS / median(TIMES["beyond-packed"]))
    assert ours["share"] == pytest.approx(TOY_FLOPS / median(TIMES["beyond-packed"]) * 1e9 / 5e12)
    # The longest time is the smallest share
    assert ours["share_low"] == pytest.approx(TOY_FLOPS / 870 * 1e9 / 5e12)
    assert shares["best of the league"]["share"] == pytest.approx(TOY_FLOPS / 1500 / 5000)


def test_without_a_ceiling_there_is_no_share(tmp_path: Path) -> None:
    frame = ceiling.rows(make_source(tmp_path / "run"))
    assert frame["share"].null_count() == frame.height
    assert frame.filter(series="best of the league")["gflop_per_s"].to_list() == [None]


def test_the_league_stands_over_the_best_of_ours(tmp_path: Path) -> None:
    times = [1600, 1740, 1660, 1580, 1700, 1720]
    rows = by(league.rows(make_source(tmp_path / "run", without_profile("jax", times))), "variant")
    assert list(rows) == ["torch-naive", "torch-sdpa", "jax"]
    assert {row["ours"] for row in rows.values()} == {"beyond-packed"}
    # Twice ours in every round
    assert rows["jax"]["ratio"] == pytest.approx(2) and rows["jax"]["label"] == "2.00 ▲"
    assert rows["torch-sdpa"]["ratio"] == pytest.approx(
        median(paired("torch-sdpa", "beyond-packed"))
    )


def test_published_and_recorded_ratios_are_each_their_own(tmp_path: Path) -> None:
    source = make_source(tmp_path / "run")
    frame = published.rows(source, read_source(BLOCK), "Toy")
    pair = by(frame.filter(variant="passes-none"), "source")
    ours, theirs = pair["run"], pair["Apple M4 Max (published)"]
    assert ours["ratio"] == pytest.approx(median(paired("passes-none", "torch-naive")))
    totals = {
        line["variant"]: float(line["total_ns"])
        for line in read_lines(BLOCK)
        if line["config"] == "Toy"
    }
    assert theirs["ratio"] == pytest.approx(totals["passes-none"] / totals["torch-naive"])
    assert theirs["ratio_low"] is None and ours["ratio_low"] is not None
    assert ours["printed_name"] == theirs["printed_name"] == "passes-none"
    assert "torch-naive" not in frame["variant"].to_list()


def test_the_rates_of_attention_alone(tmp_path: Path) -> None:
    run = load_attention(write_attention(tmp_path / "run", three_ways(500)))
    rows = by(attention.rows(run), "impl")
    # 4 * 2 heads * 8 * 100^2 FLOPs in 500 ns
    assert rows["flash"]["gflop_per_s"] == pytest.approx(640_000 / 500)
    assert rows["flash"]["over_sdpa"] == pytest.approx(0.5)
    assert rows["kernels-materialized"]["over_sdpa"] == pytest.approx(2)
    assert rows["flash"]["panel"] == "full, 2 heads, 1 thread"
