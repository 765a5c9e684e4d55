"""Where the time of each variant goes: the profiled parts stacked, with the wall time marked."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts import frames, theme
from ablation_report.rows import PARTS
from ablation_report.run import Row, Run
from ablation_report.stats import median

TITLE = "Where the time goes"
CAPTION = (
    "Medians of profiled calls, part by part, and the wall time of calls that are not profiled."
)
WALL = "wall time"
LABELS = dict(zip(PARTS, theme.PART_COLORS, strict=False))


def rows(run: Run, case: str) -> pl.DataFrame:
    """Return a row for each variant and part, and one for its wall time.

    Parts are medians of profiled calls, `share` is of the profiled total; the wall time is
    that of unprofiled calls with its interval. Times are in the unit that the columns name.
    """
    unit, name = frames.unit_for(run, case), frames.case_names(run).get(case)
    time, low, high = (f"{end}_{unit.suffix}" for end in ("time", "low", "high"))
    schema: frames.Schema = {
        **frames.IDENTITY,
        "part": pl.String,
        **dict.fromkeys((time, low, high, "share"), pl.Float64),
    }
    found: list[dict[str, Any]] = []
    for row in frames.rungs(run, case):
        known, parts = frames.identity(row, name), parts_of(row)
        total = median(row["profile"]["total"]) if parts else None
        for part, ns in parts.items():
            share = ns / total if total else None
            found.append({**known, "part": part, time: ns / unit.ns, "share": share})
        found.append({**known, "part": WALL, **frames.time_columns(run.time(row), unit)})
    return frames.frame_of(found, schema)


def parts_of(row: Row) -> dict[str, float]:
    """Return the median nanoseconds of each part of profiled calls; empty without a profile.

    A part that a published profile does not divide is "other".
    """
    profile = row["profile"] or {}
    if not profile.get("total"):
        return {}
    known = {label: profile[part] for part, label in LABELS.items() if profile.get(part)}
    if len(known) < len(LABELS):
        known["other"] = [
            total - sum(parts)
            for total, *parts in zip(profile["total"], *known.values(), strict=True)
        ]
    return {label: median(values) for label, values in known.items()}


def needs(run: Run, case: str) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    return frames.why_no_time(run, case)


def chart(run: Run, case: str) -> alt.LayerChart:
    """Draw the rows of a case: a stacked bar for each variant, a gray mark for its wall time."""
    frame, unit = rows(run, case), frames.unit_for(run, case)
    time, low, high = (f"{end}_{unit.suffix}" for end in ("time", "low", "high"))
    title = f"time of a call ({unit.symbol})"
    shown = [part for part in theme.PART_COLORS if part in frame["part"].to_list()]
    base = (
        alt.Chart(frame)
        .transform_calculate(rank=f"indexof({shown}, datum.part)", interval=theme.span(low, high))
        .encode(y=theme.names_axis(frame["printed_name"].unique(maintain_order=True).to_list()))
    )
    wall = base.transform_filter(f"datum.part === '{WALL}' && isValid(datum.{time})")
    color = theme.colors("part", {part: theme.PART_COLORS[part] for part in shown})
    bars = (
        base.transform_filter("datum.rank >= 0")
        .mark_bar(size=11, yOffset=-3, **theme.bar_style(run.is_published, opacity=1.0))
        .encode(
            x=alt.X(f"{time}:Q", title=title, stack="zero", axis=alt.Axis(tickCount=8)),
            color=color,
            stroke=color,
            order=alt.Order("rank:Q"),
            tooltip=theme.tooltips(
                alt.Tooltip("part:N"),
                alt.Tooltip(f"{time}:Q", title=f"profiled ({unit.symbol})", format=theme.DIGITS),
                alt.Tooltip("share:Q", title="share of profiled time", format=".1%"),
            ),
        )
    )
    ticks = wall.mark_tick(color=theme.GRAY, opacity=1, thickness=2.5, size=9, yOffset=6).encode(
        x=alt.X(f"{time}:Q", title=title),
        tooltip=theme.tooltips(
            alt.Tooltip(f"{time}:Q", title=f"wall time ({unit.symbol})", format=theme.DIGITS),
            alt.Tooltip("interval:N", title=f"95% interval ({unit.symbol})"),
        ),
    )
    intervals = (
        wall.transform_filter(f"isValid(datum.{low})")
        .mark_rule(color=theme.GRAY, strokeWidth=1.5, yOffset=6)
        .encode(x=alt.X(f"{low}:Q", title=title), x2=f"{high}:Q")
    )
    layers = alt.LayerChart(layer=[bars, intervals, ticks, theme.status_text(base)])
    sized = layers.properties(width="container", height=alt.Step(theme.ROW_HEIGHT))
    return theme.finish(sized, f"{frames.case_names(run)[case]}, {run.label}", _notes(frame, low))


def _notes(frame: pl.DataFrame, low: str) -> list[str]:
    notes = ["Gray mark: wall time" + (" with its 95% interval" if frame[low].count() else "")]
    if "other" in frame["part"].to_list():
        notes.append("Published: the rest, without attention and layer norm, is not divided")
    timed = frame.filter(pl.col("status") == "ok")["variant"].unique().to_list()
    profiled = frame.filter(pl.col("part") != WALL)["variant"].unique().to_list()
    if set(timed) - set(profiled):
        notes.append("A mark without a bar: the runtime gives no profile")
    return notes
