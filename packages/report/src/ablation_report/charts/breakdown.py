"""Where the time of each variant goes: the profiled parts stacked, with the wall time marked."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts.frames import (
    IDENTITY,
    Schema,
    ends,
    frame_of,
    identity,
    ordered,
    unit_for,
    why_no_time,
)
from ablation_report.charts.theme import (
    DIGITS,
    GRAY,
    PART_COLORS,
    ROW_HEIGHT,
    finish,
    names_axis,
    span,
    status_text,
)
from ablation_report.metrics import Cell, median
from ablation_report.schema import PARTS
from ablation_report.sources import Source

WALL = "wall time"
LABELS = dict(zip(PARTS, PART_COLORS, strict=False))


def rows(source: Source, config: str) -> pl.DataFrame:
    """Return a row for each variant and part, and one for its wall time.

    Parts are medians of profiled calls, `share` is of the profiled total; the wall time is the
    median of unprofiled calls with its 95% interval. Times are in the unit that the columns name.
    """
    unit = unit_for(source, config)
    time, low, high = (f"{name}_{unit.suffix}" for name in ("time", "low", "high"))
    schema: Schema = {
        **IDENTITY,
        "part": pl.String,
        **dict.fromkeys((time, low, high, "share"), pl.Float64),
    }
    found: list[dict[str, Any]] = []
    for cell in ordered(source, config):
        parts = _parts(cell)
        total = median(cell["profile_total_ns"]) if parts else None
        for part, ns in parts.items():
            share = ns / total if total else None
            found.append({**identity(cell), "part": part, time: ns / unit.ns, "share": share})
        wall = source.time(config, cell["variant"])
        wall_ends = ends(wall, unit.ns)
        found.append(
            {
                **identity(cell),
                "part": WALL,
                time: wall.median / unit.ns if wall else None,
                low: wall_ends[0],
                high: wall_ends[1],
            }
        )
    return frame_of(found, schema)


def _parts(cell: Cell) -> dict[str, float]:
    totals = cell["profile_total_ns"]
    if not totals:
        return {}
    columns = {label: cell[f"profile_{part}_ns"] for part, label in LABELS.items()}
    known = {label: column for label, column in columns.items() if column is not None}
    if len(known) < len(columns):
        known["other"] = [
            total - sum(parts) for total, *parts in zip(totals, *known.values(), strict=True)
        ]
    return {label: median(column) for label, column in known.items()}


def needs(source: Source, config: str) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    return why_no_time(source, config)


def chart(source: Source, config: str) -> alt.LayerChart:
    """Draw the rows of a config: a stacked bar for each variant, a gray mark for its wall time."""
    frame, unit = rows(source, config), unit_for(source, config)
    time, low, high = (f"{name}_{unit.suffix}" for name in ("time", "low", "high"))
    title = f"time of a call ({unit.symbol})"
    shown = [part for part in PART_COLORS if part in frame["part"].to_list()]
    base = (
        alt.Chart(frame)
        .transform_calculate(rank=f"indexof({shown}, datum.part)", interval=span(low, high))
        .encode(y=names_axis(frame["printed_name"].unique(maintain_order=True).to_list()))
    )
    wall = base.transform_filter(f"datum.part === '{WALL}' && isValid(datum.{time})")
    name = alt.Tooltip("printed_name:N", title="variant")
    bars = (
        base.transform_filter("datum.rank >= 0")
        .mark_bar(size=11, yOffset=-3)
        .encode(
            x=alt.X(f"{time}:Q", title=title, stack="zero", axis=alt.Axis(tickCount=8)),
            color=alt.Color(
                "part:N",
                title=None,
                scale=alt.Scale(domain=shown, range=[PART_COLORS[part] for part in shown]),
            ),
            order=alt.Order("rank:Q"),
            tooltip=[
                name,
                alt.Tooltip("part:N"),
                alt.Tooltip(f"{time}:Q", title=f"profiled ({unit.symbol})", format=DIGITS),
                alt.Tooltip("share:Q", title="share of profiled time", format=".1%"),
            ],
        )
    )
    ticks = wall.mark_tick(color=GRAY, opacity=1, thickness=2.5, size=9, yOffset=6).encode(
        x=alt.X(f"{time}:Q", title=title),
        tooltip=[
            name,
            alt.Tooltip(f"{time}:Q", title=f"wall time ({unit.symbol})", format=DIGITS),
            alt.Tooltip("interval:N", title=f"95% interval ({unit.symbol})"),
        ],
    )
    intervals = (
        wall.transform_filter(f"isValid(datum.{low})")
        .mark_rule(color=GRAY, strokeWidth=1.5, yOffset=6)
        .encode(x=alt.X(f"{low}:Q", title=title), x2=f"{high}:Q")
    )
    layers = alt.LayerChart(layer=[bars, intervals, ticks, status_text(base)])
    sized = layers.properties(width="container", height=alt.Step(ROW_HEIGHT))
    return finish(sized, f"{config}, {source.label}", _notes(frame))


def _notes(frame: pl.DataFrame) -> list[str]:
    has_intervals = any(frame[name].count() for name in frame.columns if name.startswith("low_"))
    notes = ["Gray mark: wall time" + (" with its 95% interval" if has_intervals else "")]
    if "other" in frame["part"].to_list():
        notes.append("Published: the rest beside attention and layer norm is not divided")
    timed = frame.filter(pl.col("status") == "ok")["variant"].unique().to_list()
    profiled = frame.filter(pl.col("part") != WALL)["variant"].unique().to_list()
    if set(timed) - set(profiled):
        notes.append("A mark without a bar: the runtime gives no profile")
    return notes
