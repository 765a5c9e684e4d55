"""Memory of a call over the length: measured, predicted, and where it did not fit."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts import frames, panels, theme
from ablation_report.run import Run
from ablation_report.series import series_of

TITLE = "Memory over length"
CAPTION = "Bytes that one call adds, its result included."
MOST_PANELS = 8
# An x, which Vega has no name for
CROSS = "M-0.7,-0.7L0.7,0.7M0.7,-0.7L-0.7,0.7"
_MIB = 2**20
SCHEMA: frames.Schema = {
    **panels.PANEL,
    **frames.IDENTITY,
    "seq_len": pl.Int64,
    **dict.fromkeys(("measured_mib", "predicted_mib", "limit_mib"), pl.Float64),
    "mem_method": pl.String,
    "disagree": pl.Boolean,
    "is_oom": pl.Boolean,
}


def rows(run: Run) -> pl.DataFrame:
    """Return a row for each square case: the measured peak of one call, of a published row the
    printed figure; the predicted need, inputs included; and the memory there was."""
    found: list[dict[str, Any]] = []
    for series in series_of(run):
        known = [row for row in series.rows if frames.memory_of(row) or row["status"] == "oom"]
        lengths = {row["sizes"]["Nk"] for row in known}
        if len(lengths) < 2 or not any(frames.memory_of(row) for row in known):
            continue
        for row in series.rows:
            memory = row["memory"]
            told = frames.identity(row) | {
                "panel": f"{series.where}, {series.phase}",
                "seq_len": row["sizes"]["Nk"],
                "measured_mib": _mib(frames.memory_of(row)),
                "predicted_mib": _mib(memory["predicted"]),
                "limit_mib": _mib(memory["available"]),
                "mem_method": memory["method"],
                "disagree": memory["disagree"],
                "is_oom": row["status"] == "oom",
            }
            if run.is_published and told["measured_mib"]:
                told["mem_method"] = "as published"
            found.append(told)
    return frames.frame_of(found, SCHEMA)


def _mib(count: int | None) -> float | None:
    return None if not count else count / _MIB


def needs(run: Run) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    if rows(run).is_empty():
        return f"{run.label} has no variant with memory at two lengths."
    return None


def chart(run: Run) -> alt.FacetChart:
    """Draw the rows: measured points, predicted lines dashed, crosses where memory ran out."""
    frame, n_panels = panels.first_panels(rows(run), MOST_PANELS)
    names = panels.drawn_names(run, frame)
    values = [*frame["measured_mib"], *frame["predicted_mib"], *frame["limit_mib"]]
    title = "memory of a call (MiB, logarithmic)"
    y = theme.log_channel(alt.Y, title, values)
    x = panels.over_length(frame)
    base = alt.Chart(frame).encode(x=x, color=panels.color_by_variant(run, names))
    tips = panels.tooltips(
        alt.Tooltip("measured_mib:Q", title="measured (MiB)", format=theme.DIGITS),
        alt.Tooltip("predicted_mib:Q", title="predicted, with inputs (MiB)", format=theme.DIGITS),
        alt.Tooltip("mem_method:N", title="measured by"),
        alt.Tooltip("disagree:N", title="two ways disagree"),
        alt.Tooltip("status:N"),
    )
    known = base.transform_filter("isValid(datum.measured_mib)")
    lines = known.mark_line(strokeWidth=1.2).encode(y=y("measured_mib"))
    dots = known.mark_point(filled=not run.is_published, size=40, opacity=1).encode(
        y=y("measured_mib"), shape=panels.shape_by_variant(names), tooltip=tips
    )
    predicted = (
        base.transform_filter("isValid(datum.predicted_mib)")
        .mark_line(strokeWidth=1, strokeDash=[3, 3], opacity=0.7)
        .encode(y=y("predicted_mib"))
    )
    limit = (
        alt.Chart(frame)
        .transform_filter("isValid(datum.limit_mib)")
        .transform_aggregate(most_mib="max(limit_mib)", groupby=["panel", "seq_len"])
        .mark_line(color=theme.GRAY, strokeDash=[8, 3], strokeWidth=1)
        .encode(x=x, y=y("most_mib"))
    )
    crosses = _cross(base, "isValid(datum.predicted_mib)", tips, y("predicted_mib"))
    # Without a prediction there is no height: the mark stands at the top
    tops = _cross(base, "!isValid(datum.predicted_mib)", tips, alt.value(6))
    layers = panels.layered(
        frame,
        ("measured_mib", lines),
        ("predicted_mib", predicted),
        ("limit_mib", limit),
        ("measured_mib", dots),
        ("predicted_mib", crosses),
        ("panel", tops),
    )
    faceted = panels.in_panels(layers.properties(width=230, height=200), frame)
    note = "Dashed: predicted, with inputs; gray: memory there was; x: out of memory"
    if run.is_published:
        note = "Hollow: published as the memory before the backward; x: out of memory"
    return panels.finish_panels(faceted, run, note, MOST_PANELS, n_panels, "groups")


def _cross(base: alt.Chart, where: str, tips: list[alt.Tooltip], y: Any) -> alt.Chart:
    out = base.transform_filter(f"datum.is_oom && {where}")
    made: alt.Chart = out.mark_point(shape=CROSS, size=70, strokeWidth=2, opacity=1).encode(
        y=y, tooltip=tips
    )
    return made
