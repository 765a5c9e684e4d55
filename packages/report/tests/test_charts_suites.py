"""Charts of suites without a ladder: the rows that they draw, and pictures of exactly those."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from samples import make_attention_row, make_run, make_untimed

from ablation_report import charts
from ablation_report.charts import ChartSpec, to_svg, to_table
from ablation_report.charts.bars import MOST_PANELS
from ablation_report.charts.cases import shared_parts, two_or_three_digits
from ablation_report.charts.panels import color_by_variant
from ablation_report.charts.theme import BLUE, ORANGE
from ablation_report.load import gather
from ablation_report.run import Run

PUBLISHED = Path(__file__).parents[3] / "data/published"
GIB = 2**30
BACKWARD, PARTS, STEP = "attention-backward", "attention-parts", "lm-step"
MODEL: dict[str, Any] = {"B": 4, "H": 4, "Nq": 128, "Nk": 128, "d": 64, "causal": True}
MODEL |= {"size": "tiny", "layers": 4, "d_ff": 1024, "vocab": 2000, "autocast": "none"}


def with_memory(row: dict[str, Any], **memory: Any) -> dict[str, Any]:
    """The row with entries of its memory set anew."""
    return row | {"memory": row["memory"] | memory}


def sweep() -> Run:
    """Three lengths of two forms; one does not fit at the longest."""
    rows: list[dict[str, Any]] = []
    for n in (1024, 2048, 4096):
        memory: dict[str, Any] = {"method": "hwm", "disagree": False}
        memory |= {"peak": n * 100, "predicted": n * 200}
        quick = make_attention_row("torch_sdpa_flash", [n**2] * 6, n)
        slow = make_attention_row("torch_unfused_einsum", [3 * n**2] * 6, n)
        if n == 4096:
            slow, memory_of_slow = make_untimed(slow), {"predicted": GIB}
        else:
            memory_of_slow = memory
        rows += [with_memory(quick, **memory), with_memory(slow, **memory_of_slow)]
    return make_run(rows, baseline="torch_sdpa_flash")


def make_step(variant: str, **changes: Any) -> dict[str, Any]:
    """A row of a step of training."""
    known: dict[str, Any] = {"suite": STEP, "phase": "step", "sizes": MODEL, "flops": None}
    return make_attention_row(variant, [1_000_000] * 6, **(known | changes))


def steps() -> Run:
    """A step with its parts, and one that was not tried."""
    parts = {"parts_ns": {"fwd": [300_000], "bwd": [600_000], "opt": [100_000]}}
    refused = make_untimed(make_step("ablation"), "unsupported", "no_kernel")
    return make_run([make_step("sdpa", details=parts), refused])


def parts() -> Run:
    """Two forms with their scratch, and one without."""
    scratch = {"ablation_naive": 4_194_304, "ablation_flash_course": 695_296}
    rows = [
        with_memory(make_attention_row(name, suite=PARTS, flops=None), scratch=size)
        for name, size in scratch.items()
    ]
    return make_run([*rows, make_attention_row(suite=PARTS, flops=None)])


@dataclass(frozen=True)
class Bound:
    """A chart with the run that it is of."""

    spec: ChartSpec
    run: Run

    def rows(self) -> pl.DataFrame:
        """The frame behind it."""
        return charts.rows(self.spec, self.run)

    def draw(self) -> dict[str, Any]:
        """The picture."""
        return charts.draw(self.spec, self.run)

    def needs(self) -> str | None:
        """Why it cannot be drawn."""
        return charts.needs(self.spec, self.run)


def charts_of(run: Run) -> list[Bound]:
    """Every chart of a run."""
    return [Bound(spec, run) for spec in charts.charts_of(run)]


def chart_of(run: Run, key: str) -> Bound:
    """The chart of a run by the beginning of its key."""
    return next(chart for chart in charts_of(run) if chart.spec.key.startswith(key))


def published_runs() -> list[Run]:
    """The published figures of suites without a ladder."""
    return [run for run in gather(PUBLISHED).runs if run.suite != "block"]


def drawn_rows(chart: Bound) -> list[dict[str, Any]]:
    """The rows that the picture holds."""
    drawn = chart.draw()
    (rows,) = drawn["datasets"].values()
    return list(rows)


def test_bars_have_the_ends_of_their_intervals_and_no_bar_without_a_time() -> None:
    samples = [1_000_000 * value for value in (10, 11, 12, 13, 14, 15)]
    naive_row = make_untimed(make_attention_row("naive"))
    chart = chart_of(make_run([make_attention_row(samples=samples), naive_row]), "bars")
    assert chart.spec.title == "Times of attention-sweep/cpu, 1 thread"
    timed, naive = chart.rows().iter_rows(named=True)
    # Of six rounds the fifth is above the quartile in 99.5% of all cases
    assert (timed["time_ms"], timed["low_ms"], timed["high_ms"]) == (11.25, 10, 14)
    assert (timed["n_rounds"], timed["kind"]) == (6, "first quartile")
    assert naive["status"] == "oom (predicted)" and naive["reason"] == "predicted in words"
    assert all(naive[name] is None for name in ("time_ms", "low_ms", "high_ms", "kind"))
    # A bar of a log axis begins at the axis and not at 0
    bars = chart.draw()["spec"]["layer"][0]["encoding"]
    assert bars["x2"]["datum"] == bars["x"]["scale"]["domain"][0] > 0
    assert bars["x"]["scale"]["type"] == "log"


def test_a_suite_that_nobody_knows_has_bars_of_its_times() -> None:
    toy: dict[str, Any] = {"suite": "toy", "tier": "small", "sizes": {"length": 3}, "flops": None}
    rows = [
        make_attention_row(name, [time] * 6, origin=origin, **toy)
        for name, origin, time in (("ours", "ablation", 1000), ("theirs", "elsewhere", 2000))
    ]
    run = make_run(rows)
    assert [chart.spec.key for chart in charts_of(run)] == ["cases", "bars small 1"]
    frame = chart_of(run, "bars").rows()
    assert frame["variant"].to_list() == ["ours", "theirs"]
    assert frame["time_ms"].to_list() == [0.001, 0.002]
    assert set(frame["panel"]) == {"length 3"}
    for chart in charts_of(run):
        assert chart.needs() is None
        assert drawn_rows(chart) == json.loads(chart.rows().write_json())


def test_a_wall_of_panels_is_not_drawn() -> None:
    rows = [make_attention_row(n=n) for n in range(1, MOST_PANELS + 2)]
    chart = chart_of(make_run(rows), "bars")
    assert "17 cases and phases are too many for bars" in str(chart.needs())
    assert chart.draw()["datasets"]


def test_the_map_is_over_the_best_of_the_case() -> None:
    frame = chart_of(sweep(), "cases").rows()
    found = {
        (row["variant"], row["case"].split(",")[1]): (row["over_best"], row["text"])
        for row in frame.iter_rows(named=True)
    }
    assert found["torch_sdpa_flash", " N 1024"] == (1, "1")
    assert found["torch_unfused_einsum", " N 1024"] == (3, "3.1")
    assert found["torch_unfused_einsum", " N 4096"] == (None, "oom")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0512, "0.051"), (5.12, "5.1"), (51.2, "51"), (512.4, "512"), (51234, "51.2k")],
)
def test_a_narrow_cell_has_few_digits(value: float, text: str) -> None:
    assert two_or_three_digits(value) == text


def test_the_map_leaves_out_what_every_case_skips() -> None:
    skipped = make_untimed(make_attention_row("skipper"), "skipped", "policy")
    frame = chart_of(make_run([make_attention_row(), skipped]), "cases").rows()
    assert frame["variant"].to_list() == ["torch_sdpa_flash"]


def test_the_map_says_once_what_all_its_lines_share() -> None:
    lines = ["cpu: full, N 512, 2 threads", "cpu: full, N 1024, 2 threads"]
    assert shared_parts(lines) == ["cpu: full", "2 threads"]
    assert shared_parts(lines[:1]) == []
    assert shared_parts([*lines, "cpu: full, 2 threads"]) == []
    assert shared_parts([]) == []


def test_lines_have_the_slope_and_its_line_through_the_points() -> None:
    frame = chart_of(sweep(), "growth").rows()
    timed = frame.filter(pl.col("time_ms").is_not_null())
    assert timed["slope"].to_list() == pytest.approx([2.0] * 5)
    assert timed["fitted_ms"].to_list() == pytest.approx(timed["time_ms"].to_list())
    missing = frame.filter(pl.col("time_ms").is_null())
    assert missing["status"].to_list() == ["oom (predicted)"]
    assert missing["fitted_ms"].to_list() == [None]


def test_memory_has_points_predictions_and_where_it_ran_out() -> None:
    frame = chart_of(sweep(), "memory").rows()
    oom = frame.filter(pl.col("is_oom"))
    assert oom["measured_mib"].to_list() == [None] and oom["predicted_mib"].to_list() == [1024]
    known = frame.filter(pl.col("measured_mib").is_not_null())
    assert known.height == 5 and set(known["mem_method"]) == {"hwm"}
    assert known["measured_mib"][0] == pytest.approx(1024 * 100 / 2**20)


def test_a_step_is_stacked_from_its_parts() -> None:
    frame = chart_of(steps(), "steps").rows()
    assert frame["part"].to_list() == ["fwd", "bwd", "opt", None]
    assert frame["part_ms"].to_list()[:3] == pytest.approx([0.3, 0.6, 0.1])
    assert frame["status"].to_list()[3] == "unsupported (no_kernel)"


def test_a_case_of_which_nothing_was_timed_has_no_panel() -> None:
    chart = chart_of(make_run([make_untimed(make_step("sdpa"))]), "steps")
    assert chart.rows().is_empty() and "no step with its parts" in str(chart.needs())


def test_published_parts_are_differences_of_printed_times() -> None:
    run = next(run for run in published_runs() if run.suite == STEP)
    frame = chart_of(run, "steps").rows()
    first = frame.filter(pl.col("variant") == "course_lm").head(3)
    # 9.2, 20.9 and 25.3 ms
    assert first["part_ms"].to_list() == pytest.approx([9.2, 11.7, 4.4])


def test_the_plane_has_what_has_both_time_and_scratch() -> None:
    frame = chart_of(parts(), "plane").rows()
    assert frame["variant"].to_list() == ["ablation_naive", "ablation_flash_course"]
    assert frame["memory_bytes"].to_list() == [4_194_304, 695_296]


@pytest.mark.parametrize("make", [sweep, steps, parts])
def test_a_picture_holds_exactly_the_rows_of_its_table(make: Any) -> None:
    drawable = [chart for chart in charts_of(make()) if not chart.needs()]
    assert drawable
    for chart in drawable:
        frame = chart.rows()
        assert drawn_rows(chart) == json.loads(frame.write_json()), chart.spec.key
        assert len(to_table(frame).rows) == frame.height


def test_published_charts_name_the_true_device_and_are_hollow() -> None:
    runs = [run for run in published_runs() if run.name.startswith("attention forward")]
    for chart in charts_of(runs[0]):
        if chart.needs():
            continue
        drawn = chart.draw()
        assert any("RTX 3090" in line for line in drawn["title"]["subtitle"]), chart.spec.key
        if chart.spec.key != "cases":
            marks = json.dumps(drawn["spec"])
            assert '"filled": false' in marks or '"fillOpacity": 0.0' in marks, chart.spec.key


def test_blue_is_ours_and_orange_is_not() -> None:
    run = make_run([make_attention_row(name) for name in ("torch_sdpa_flash", "ablation_flash")])
    color: Any = color_by_variant(run, ["torch_sdpa_flash", "ablation_flash"]).to_dict()
    assert color["scale"]["range"] == [ORANGE, BLUE]


def test_no_chart_sets_two_sources_side_by_side() -> None:
    for run in published_runs():
        for chart in charts_of(run):
            devices = {row["device_name"] for row in run.rows}
            assert "ratio" not in chart.rows().columns
            assert len(devices) == 1 or run.suite == STEP


@pytest.mark.parametrize("status", ["oom", "unsupported", "timeout"])
def test_a_run_without_a_time_says_so(status: str) -> None:
    reasons = {"oom": "predicted", "unsupported": "isa", "timeout": "budget"}
    for suite in (BACKWARD, PARTS):
        row = make_untimed(make_attention_row("naive", suite=suite), status, reasons[status])
        run = make_run([row])
        assert all(chart.needs() for chart in charts_of(run))
        assert all(chart.draw()["datasets"] for chart in charts_of(run))


@pytest.mark.skipif(importlib.util.find_spec("vl_convert") is None, reason="needs vl-convert")
@pytest.mark.parametrize("make", [sweep, steps, parts])
def test_pictures_become_svg(make: Any) -> None:
    for chart in charts_of(make()):
        svg = to_svg(chart.draw())
        assert svg.startswith("<svg") and "NaN" not in svg and "undefined" not in svg
