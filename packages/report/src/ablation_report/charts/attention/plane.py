"""Time against memory of the four teaching forms: the course's case in one plane."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts import frames, panels, theme
from ablation_report.run import Run, detail

TITLE = "Time against scratch"
CAPTION = "Down and to the left is better. Both axes are logarithmic."
MOST_PANELS = 12
SCHEMA: frames.Schema = {
    **panels.PANEL,
    **frames.IDENTITY,
    **frames.TIME_MS,
    **dict.fromkeys(("memory_bytes", "formula_bytes"), pl.Int64),
}


def rows(run: Run) -> pl.DataFrame:
    """Return a row for each row with a time and with memory: recorded scratch, or the figure that
    was published as memory. A log axis has no place for 0."""
    found: list[dict[str, Any]] = []
    for row in run.select(timed=True):
        memory = detail(row, "published_memory_bytes") or row["memory"]["scratch"]
        if memory:
            told = {
                "panel": f"{frames.case_name(row)}{frames.threads_end(row)}",
                "memory_bytes": memory,
                "formula_bytes": detail(row, "scratch_formula_bytes"),
            }
            found.append(frames.identity(row) | frames.time_columns(run.time(row)) | told)
    return frames.frame_of(found, SCHEMA)


def needs(run: Run) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    if rows(run).is_empty():
        return f"{run.label} has no row with both a time and memory."
    return None


def chart(run: Run) -> alt.FacetChart:
    """Draw the rows: a panel for each case, time across, memory up."""
    frame, n_panels = panels.first_panels(rows(run), MOST_PANELS)
    names = panels.drawn_names(run, frame)
    times = [*frame["time_ms"], *frame["low_ms"], *frame["high_ms"]]
    x = theme.log_channel(alt.X, "time of a call (ms, logarithmic)", times)
    what = "published memory" if run.is_published else "scratch"
    y = theme.log_channel(alt.Y, f"{what} (bytes, log)", frame["memory_bytes"])
    base = (
        alt.Chart(frame)
        .transform_calculate(interval=theme.span("low_ms", "high_ms"))
        .encode(y=y("memory_bytes"), color=panels.color_by_variant(run, names, columns=2))
    )
    intervals = (
        base.transform_filter("isValid(datum.low_ms)")
        .mark_rule(color=theme.GRAY)
        .encode(x=x("low_ms"), x2=alt.X2("high_ms:Q"))
    )
    dots = base.mark_point(filled=not run.is_published, size=70, opacity=1).encode(
        x=x("time_ms"),
        shape=panels.shape_by_variant(names, columns=2),
        tooltip=panels.tooltips(
            alt.Tooltip("time_ms:Q", title="time (ms)", format=theme.DIGITS),
            alt.Tooltip("interval:N", title="95% interval (ms)"),
            alt.Tooltip("memory_bytes:Q", title=f"{what} (bytes)", format=","),
            alt.Tooltip("formula_bytes:Q", title="by formula (bytes)", format=","),
        ),
    )
    layers = panels.layered(frame, ("low_ms", intervals), ("time_ms", dots))
    faceted = panels.in_panels(layers.properties(width=230, height=200), frame)
    note = "Scratch: bytes that a form takes, without its output"
    if run.is_published:
        note = "Hollow: published; its memory is the part that the profiler's range left allocated"
    return panels.finish_panels(faceted, run, note, MOST_PANELS, n_panels)
