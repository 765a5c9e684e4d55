"""Memory of a call over the length: measured, predicted, and where it did not fit."""

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
    tooltips,
)
from ablation_report.charts.theme import DIGITS, GRAY, log_axis
from ablation_report.suite_series import series_of
from ablation_report.suite_sources import Measure, SuiteSource

MOST_PANELS = 8
# An x, which Vega has no name for
CROSS = "M-0.7,-0.7L0.7,0.7M0.7,-0.7L-0.7,0.7"
_MIB = 2**20
SCHEMA: Schema = {
    **IDENTITY,
    "seq_len": pl.Int64,
    **dict.fromkeys(("measured_mib", "predicted_mib", "limit_mib"), pl.Float64),
    "mem_method": pl.String,
    "disagree": pl.Boolean,
    "is_oom": pl.Boolean,
}


def rows(source: SuiteSource) -> pl.DataFrame:
    """Return a row for each square case: the measured peak of one call, of a published row the
    printed figure; the predicted need, inputs included; and the memory there was."""
    found: list[dict[str, Any]] = []
    for series in series_of(source):
        known = [m for m in series.measures if _measured(m) or m["status"] == "oom"]
        if len({m["Nk"] for m in known}) < 2 or not any(_measured(m) for m in known):
            continue
        for measure in series.measures:
            predicted = None if source.is_published else measure["mem_predicted_bytes"]
            limit = None if source.is_published else measure["mem_available_bytes"]
            found.append(
                identity(measure, f"{series.where}, {series.phase}")
                | {
                    "seq_len": measure["Nk"],
                    "measured_mib": _mib(_measured(measure)),
                    "predicted_mib": _mib(predicted),
                    "limit_mib": _mib(limit),
                    "mem_method": _method(measure),
                    "disagree": None if source.is_published else measure["mem_disagree"],
                    "is_oom": measure["status"] == "oom",
                }
            )
    return frame_of(found, SCHEMA)


def _measured(measure: Measure) -> int | None:
    name = "published_memory_bytes" if measure.is_published else "mem_op_peak_bytes"
    found: int | None = measure[name]
    return found


def _method(measure: Measure) -> str | None:
    if measure.is_published:
        return "as published" if _measured(measure) else None
    found: str | None = measure["mem_method"]
    return found


def _mib(count: int | None) -> float | None:
    return None if not count else count / _MIB


def needs(source: SuiteSource) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    if rows(source).is_empty():
        return f"{source.label} has no implementation with memory at two lengths."
    return None


def chart(source: SuiteSource) -> alt.FacetChart:
    """Draw the rows: measured points, predicted lines dashed, crosses where memory ran out."""
    frame, n_panels = first_panels(rows(source), MOST_PANELS)
    drawn = set(frame["impl"].to_list())
    names = [name for name in names_of(source.measures) if name in drawn]
    lengths = sorted(set(frame["seq_len"].to_list()))
    values = [*frame["measured_mib"], *frame["predicted_mib"], *frame["limit_mib"]]
    scale, axis = log_axis(values)
    title = "memory of a call (MiB, logarithmic)"
    x = alt.X(
        "seq_len:Q",
        title="sequence length (log)",
        scale=alt.Scale(type="log", base=2, nice=False, padding=12),
        axis=alt.Axis(values=lengths, format="d", labelOverlap=True),
    )

    def y(column: str) -> alt.Y:
        return alt.Y(f"{column}:Q", title=title, scale=scale, axis=axis)

    base = alt.Chart(frame).encode(x=x, color=color_by_impl(names))
    tips = tooltips(
        alt.Tooltip("measured_mib:Q", title="measured (MiB)", format=DIGITS),
        alt.Tooltip("predicted_mib:Q", title="predicted, with inputs (MiB)", format=DIGITS),
        alt.Tooltip("mem_method:N", title="measured by"),
        alt.Tooltip("disagree:N", title="two ways disagree"),
        alt.Tooltip("status:N"),
    )
    known = base.transform_filter("isValid(datum.measured_mib)")
    lines = known.mark_line(strokeWidth=1.2).encode(y=y("measured_mib"))
    dots = known.mark_point(filled=not source.is_published, size=40, opacity=1).encode(
        y=y("measured_mib"), shape=shape_by_impl(names), tooltip=tips
    )
    predicted = (
        base.transform_filter("isValid(datum.predicted_mib)")
        .mark_line(strokeWidth=1, strokeDash=[3, 3], opacity=0.7)
        .encode(y=y("predicted_mib"))
    )
    limit = (
        alt.Chart(frame)
        .transform_filter("isValid(datum.limit_mib)")
        .mark_line(color=GRAY, strokeDash=[8, 3], strokeWidth=1)
        .encode(x=x, y=alt.Y("max(limit_mib):Q", title=title, scale=scale, axis=axis))
    )
    oom = base.transform_filter("datum.is_oom && isValid(datum.predicted_mib)")
    crosses = oom.mark_point(shape=CROSS, size=70, strokeWidth=2, opacity=1).encode(
        y=y("predicted_mib"), tooltip=tips
    )
    # Without a prediction there is no height: the mark stands at the top
    unknown = base.transform_filter("datum.is_oom && !isValid(datum.predicted_mib)")
    tops = unknown.mark_point(shape=CROSS, size=70, strokeWidth=2, opacity=1).encode(
        y=alt.value(6), tooltip=tips
    )
    layers = layered(
        frame,
        ("measured_mib", lines),
        ("predicted_mib", predicted),
        ("limit_mib", limit),
        ("measured_mib", dots),
        ("predicted_mib", crosses),
        ("panel", tops),
    )
    faceted = in_panels(layers.properties(width=230, height=200), frame)
    return finish_panels(faceted, source, _note(source), MOST_PANELS, n_panels, "groups")


def _note(source: SuiteSource) -> str:
    if source.is_published:
        return "Hollow: published as the memory before the backward; x: out of memory"
    return "Dashed: predicted, with inputs; gray: memory there was; x: out of memory"
