"""Time against memory of the four teaching forms: the course's case in one plane."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts.frames import Schema, frame_of
from ablation_report.charts.suites_common import (
    IDENTITY,
    color_by_impl,
    finish_panels,
    first_panels,
    identity,
    in_panels,
    layered,
    names_of,
    shape_by_impl,
    threads_text,
    tooltips,
)
from ablation_report.charts.theme import DIGITS, GRAY, log_axis, span
from ablation_report.suite_series import short_case
from ablation_report.suite_sources import SuiteSource

MOST_PANELS = 12
SCHEMA: Schema = {
    **IDENTITY,
    **dict.fromkeys(("time_ms", "p05_ms", "p95_ms"), pl.Float64),
    **dict.fromkeys(("memory_bytes", "formula_bytes"), pl.Int64),
}


def rows(source: SuiteSource) -> pl.DataFrame:
    """Return a row for each measure with a time and with memory: recorded scratch, or the figure
    that was published as memory. A log axis has no place for 0."""
    found: list[dict[str, Any]] = []
    for measure in source.measures:
        name = "published_memory_bytes" if source.is_published else "mem_scratch_bytes"
        memory, timing = measure[name], measure.timing
        if timing is None or not memory:
            continue
        ends = {"time": timing.time_ns, "p05": timing.p05_ns, "p95": timing.p95_ns}
        panel = f"{short_case(measure)}{threads_text(measure)}"
        found.append(
            identity(measure, panel)
            | {f"{key}_ms": None if ns is None else ns / 1e6 for key, ns in ends.items()}
            | {
                "memory_bytes": memory,
                "formula_bytes": measure.detail("scratch_formula_bytes"),
            }
        )
    return frame_of(found, SCHEMA)


def needs(source: SuiteSource) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    if rows(source).is_empty():
        return f"{source.label} has no row with both a time and memory."
    return None


def chart(source: SuiteSource) -> alt.FacetChart:
    """Draw the rows: a panel for each case, time across, memory up."""
    frame, n_panels = first_panels(rows(source), MOST_PANELS)
    drawn = set(frame["impl"].to_list())
    names = [name for name in names_of(source.measures) if name in drawn]
    x_scale, x_axis = log_axis([*frame["time_ms"], *frame["p05_ms"], *frame["p95_ms"]])
    y_scale, y_axis = log_axis(frame["memory_bytes"])
    what = "published memory" if source.is_published else "scratch"
    y = alt.Y("memory_bytes:Q", title=f"{what} (bytes, log)", scale=y_scale, axis=y_axis)
    title = "time of a call (ms, logarithmic)"
    base = (
        alt.Chart(frame)
        .transform_calculate(whisker=span("p05_ms", "p95_ms"))
        .encode(y=y, color=color_by_impl(names, columns=2))
    )
    whiskers = (
        base.transform_filter("isValid(datum.p05_ms)")
        .mark_rule(color=GRAY)
        .encode(x=alt.X("p05_ms:Q", title=title, scale=x_scale, axis=x_axis), x2="p95_ms:Q")
    )
    dots = base.mark_point(filled=not source.is_published, size=70, opacity=1).encode(
        x=alt.X("time_ms:Q", title=title, scale=x_scale, axis=x_axis),
        shape=shape_by_impl(names, columns=2),
        tooltip=tooltips(
            alt.Tooltip("time_ms:Q", title="time (ms)", format=DIGITS),
            alt.Tooltip("whisker:N", title="p05 to p95 (ms)"),
            alt.Tooltip("memory_bytes:Q", title=f"{what} (bytes)", format=","),
            alt.Tooltip("formula_bytes:Q", title="by formula (bytes)", format=","),
        ),
    )
    layers = layered(frame, ("p05_ms", whiskers), ("time_ms", dots)).properties(
        width=230, height=200
    )
    faceted = in_panels(layers, frame)
    return finish_panels(faceted, source, _note(source), MOST_PANELS, n_panels)


def _note(source: SuiteSource) -> str:
    if source.is_published:
        return "Hollow: published; its memory is what the profiler's range left allocated"
    return "Scratch: bytes that a form took besides its output"
