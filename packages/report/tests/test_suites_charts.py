"""Charts of the further suites: the rows that they draw, and that pictures draw exactly those."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from suite_samples import (
    BACKWARD,
    PARTS,
    STEP,
    make_failed_suite_row,
    make_suite_row,
    suite_source,
)

from ablation_report import charts
from ablation_report.charts import ChartSpec, to_svg, to_table
from ablation_report.charts.suites import suite_charts
from ablation_report.charts.suites_bars import MOST_PANELS
from ablation_report.charts.suites_heatmap import shared_parts, two_or_three_digits
from ablation_report.sources import gather
from ablation_report.suite_sources import SuiteSource

PUBLISHED = Path(__file__).parents[3] / "data/published"
GIB = 2**30
STEP_PARAMETERS = {"size": "tiny", "layers": 4, "d_ff": 1024, "vocab": 2000, "autocast": "none"}


def sweep(folder: Path) -> SuiteSource:
    """Three lengths of two forms; one does not fit at the longest."""
    rows: list[dict[str, Any]] = []
    for n in (1024, 2048, 4096):
        memory: dict[str, Any] = {"mem_method": "hwm", "mem_disagree": False}
        memory |= {"mem_op_peak_bytes": n * 100, "mem_predicted_bytes": n * 200}
        rows.append(make_suite_row("torch_sdpa_flash", [n**2] * 6, n, **memory))
        if n < 4096:
            rows.append(make_suite_row("torch_unfused_einsum", [3 * n**2] * 6, n, **memory))
    rows.append(make_failed_suite_row("torch_unfused_einsum", n=4096, mem_predicted_bytes=GIB))
    return suite_source(folder, *rows)


def steps(folder: Path) -> SuiteSource:
    """A step with its parts, and one that was not tried."""
    common: dict[str, Any] = {"suite": STEP, "phase": "step", "parameters": STEP_PARAMETERS}
    parts = {"parts_ns": {"fwd": [300_000], "bwd": [600_000], "opt": [100_000]}}
    rows = [
        make_suite_row("sdpa", [1_000_000] * 6, details=parts, **common),
        make_failed_suite_row("ablation", "unsupported", "no_kernel", **common),
    ]
    return suite_source(folder, *rows)


def parts(folder: Path) -> SuiteSource:
    """Two forms with their scratch, and one without."""
    rows = [
        make_suite_row("ablation_naive", [3_000_000] * 6, suite=PARTS, mem_scratch_bytes=4_194_304),
        make_suite_row("ablation_flash_course", suite=PARTS, mem_scratch_bytes=695_296),
        make_suite_row("torch_sdpa_flash", suite=PARTS),
    ]
    return suite_source(folder, *rows)


@dataclass(frozen=True)
class Bound:
    """A chart with the source that it is of."""

    spec: ChartSpec
    source: SuiteSource

    def rows(self) -> pl.DataFrame:
        """The frame behind it."""
        return charts.rows(self.spec, self.source)

    def draw(self) -> dict[str, Any]:
        """The picture."""
        return charts.draw(self.spec, self.source)

    def needs(self) -> str | None:
        """Why it cannot be drawn."""
        return charts.needs(self.spec, self.source)


def charts_of(source: SuiteSource) -> list[Bound]:
    """Every chart of a source."""
    return [Bound(spec, source) for spec in suite_charts(source)]


def chart_of(source: SuiteSource, key: str) -> Bound:
    """The chart of a source by the beginning of its key."""
    return next(chart for chart in charts_of(source) if chart.spec.key.startswith(key))


def drawn_rows(chart: Bound) -> list[dict[str, Any]]:
    """The rows that the picture holds."""
    drawn = chart.draw()
    (rows,) = drawn["datasets"].values()
    return list(rows)


def test_bars_have_the_ends_of_their_whiskers_and_no_bar_without_a_time(tmp_path: Path) -> None:
    samples = [1_000_000 * value for value in (10, 11, 12, 13, 14, 15)]
    source = suite_source(
        tmp_path / "run", make_suite_row(samples=samples), make_failed_suite_row("naive")
    )
    chart = chart_of(source, "bars")
    timed, naive = chart.rows().iter_rows(named=True)
    assert timed["time_ms"] == 12.5
    assert (timed["p05_ms"], timed["p95_ms"]) == pytest.approx((10.25, 14.75))
    assert naive["status"] == "oom (predicted)" and naive["reason"] == "oom of naive"
    times = ("time_ms", "p05_ms", "p95_ms", "mean_ms", "std_ms", "min_ms")
    assert all(naive[name] is None for name in times)
    # A bar of a log axis begins at the axis and not at 0
    bars = chart.draw()["spec"]["layer"][0]["encoding"]
    assert bars["x2"]["datum"] == bars["x"]["scale"]["domain"][0] > 0
    assert bars["x"]["scale"]["type"] == "log"


def test_a_wall_of_panels_is_not_drawn(tmp_path: Path) -> None:
    rows = [make_suite_row(n=n) for n in range(1, MOST_PANELS + 2)]
    chart = chart_of(suite_source(tmp_path / "run", *rows), "bars")
    assert "17 cases and phases are too many for bars" in str(chart.needs())
    assert chart.draw()["datasets"]


def test_the_map_is_over_the_best_of_the_case(tmp_path: Path) -> None:
    frame = chart_of(sweep(tmp_path / "run"), "heatmap").rows()
    found = {
        (row["impl"], row["case"].split(",")[1]): (row["over_best"], row["text"])
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


def test_the_map_leaves_out_what_every_case_skips(tmp_path: Path) -> None:
    rows = [make_suite_row(), make_failed_suite_row("skipper", status="skipped", reason="policy")]
    frame = chart_of(suite_source(tmp_path / "run", *rows), "heatmap").rows()
    assert frame["impl"].to_list() == ["torch_sdpa_flash"]


def test_the_map_says_once_what_all_its_lines_share() -> None:
    lines = ["cpu: full, N 512, 2 threads", "cpu: full, N 1024, 2 threads"]
    assert shared_parts(lines) == ["cpu: full", "2 threads"]
    assert shared_parts(lines[:1]) == []
    assert shared_parts([*lines, "cpu: full, 2 threads"]) == []
    assert shared_parts([]) == []


def test_lines_have_the_slope_and_its_line_through_the_points(tmp_path: Path) -> None:
    frame = chart_of(sweep(tmp_path / "run"), "scaling").rows()
    timed = frame.filter(pl.col("time_ms").is_not_null())
    assert timed["slope"].to_list() == pytest.approx([2.0] * 5)
    assert timed["fitted_ms"].to_list() == pytest.approx(timed["time_ms"].to_list())
    missing = frame.filter(pl.col("time_ms").is_null())
    assert missing["status"].to_list() == ["oom (predicted)"]
    assert missing["fitted_ms"].to_list() == [None]


def test_memory_has_points_predictions_and_where_it_ran_out(tmp_path: Path) -> None:
    frame = chart_of(sweep(tmp_path / "run"), "memory").rows()
    oom = frame.filter(pl.col("is_oom"))
    assert oom["measured_mib"].to_list() == [None] and oom["predicted_mib"].to_list() == [1024]
    known = frame.filter(pl.col("measured_mib").is_not_null())
    assert known.height == 5 and set(known["mem_method"]) == {"hwm"}
    assert known["measured_mib"][0] == pytest.approx(1024 * 100 / 2**20)


def test_a_step_is_stacked_from_its_parts(tmp_path: Path) -> None:
    frame = chart_of(steps(tmp_path / "run"), "steps").rows()
    assert frame["part"].to_list() == ["fwd", "bwd", "opt", None]
    assert frame["part_ms"].to_list()[:3] == pytest.approx([0.3, 0.6, 0.1])
    assert frame["status"].to_list()[3] == "unsupported (no_kernel)"


def test_a_case_of_which_nothing_was_timed_has_no_panel(tmp_path: Path) -> None:
    row = make_failed_suite_row("sdpa", suite=STEP, phase="step", parameters=STEP_PARAMETERS)
    chart = chart_of(suite_source(tmp_path / "run", row), "steps")
    assert chart.rows().is_empty() and "no step with its parts" in str(chart.needs())


def test_published_parts_are_differences_of_printed_times() -> None:
    source = next(s for s in gather(PUBLISHED).suite_sources if s.suite == STEP)
    frame = chart_of(source, "steps").rows()
    first = frame.filter(pl.col("impl") == "course_lm").head(3)
    # 9.2, 20.9 and 25.3 ms
    assert first["part_ms"].to_list() == pytest.approx([9.2, 11.7, 4.4])


def test_the_plane_has_what_has_both_time_and_scratch(tmp_path: Path) -> None:
    frame = chart_of(parts(tmp_path / "run"), "plane").rows()
    assert frame["impl"].to_list() == ["ablation_naive", "ablation_flash_course"]
    assert frame["memory_bytes"].to_list() == [4_194_304, 695_296]


@pytest.mark.parametrize("make", [sweep, steps, parts])
def test_a_picture_holds_exactly_the_rows_of_its_table(tmp_path: Path, make: Any) -> None:
    drawable = [chart for chart in charts_of(make(tmp_path / "run")) if not chart.needs()]
    assert drawable
    for chart in drawable:
        frame = chart.rows()
        assert drawn_rows(chart) == json.loads(frame.write_json()), chart.spec.key
        assert len(to_table(frame).rows) == frame.height


def test_published_charts_name_the_true_device_and_are_hollow() -> None:
    sources = [s for s in gather(PUBLISHED).suite_sources if s.name.startswith("attention forward")]
    for chart in charts_of(sources[0]):
        if chart.needs():
            continue
        drawn = chart.draw()
        assert any("RTX 3090" in line for line in drawn["title"]["subtitle"]), chart.spec.key
        if chart.spec.key != "heatmap":
            marks = json.dumps(drawn["spec"])
            assert '"filled": false' in marks or '"fillOpacity": 0.0' in marks, chart.spec.key


def test_no_chart_sets_two_sources_side_by_side() -> None:
    for source in gather(PUBLISHED).suite_sources:
        for chart in charts_of(source):
            devices = {m["device_name"] for m in source.measures}
            assert "ratio" not in chart.rows().columns
            assert len(devices) == 1 or source.suite == STEP


@pytest.mark.parametrize("status", ["oom", "unsupported", "timeout"])
def test_a_source_without_a_time_says_so(tmp_path: Path, status: str) -> None:
    reasons = {"oom": "predicted", "unsupported": "isa", "timeout": "budget"}
    for suite in (BACKWARD, PARTS):
        row = make_failed_suite_row("naive", status, reasons[status], suite=suite)
        source = suite_source(tmp_path / suite, row)
        assert all(chart.needs() for chart in charts_of(source))
        assert all(chart.draw()["datasets"] for chart in charts_of(source))


@pytest.mark.skipif(importlib.util.find_spec("vl_convert") is None, reason="needs vl-convert")
@pytest.mark.parametrize("make", [sweep, steps, parts])
def test_pictures_become_svg(tmp_path: Path, make: Any) -> None:
    for chart in charts_of(make(tmp_path / "run")):
        svg = to_svg(chart.draw())
        assert svg.startswith("<svg") and "NaN" not in svg and "undefined" not in svg
