"""What each step of the ladder is worth: from the time of the step before to its own."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts.frames import (
    IDENTITY,
    RATIO,
    Schema,
    floor_note,
    frame_of,
    identity,
    ratio_columns,
    unit_for,
    why_no_time,
)
from ablation_report.charts.theme import (
    DIGITS,
    GRAY,
    ROW_HEIGHT,
    VERDICT_MARKS,
    finish,
    log_axis,
    names_axis,
    optional,
    span,
    status_text,
    verdict_color,
)
from ablation_report.ladder import DEFAULT, PARENTS
from ablation_report.sources import Source


def main_path() -> tuple[str, ...]:
    """Return the variants from the root of the ladder to its last rung, each the next's parent."""
    path = [DEFAULT]
    while (parent := PARENTS[path[-1]]) is not None:
        path.append(parent)
    return tuple(reversed(path))


def rows(source: Source, config: str) -> pl.DataFrame:
    """Return a row for each rung of the main path that the source has.

    `from_variant` is the nearest rung before it that has a time, which is its parent unless the
    source leaves that out; the ratio is to it, paired by round. The first has none.
    """
    unit = unit_for(source, config)
    time, before = f"time_{unit.suffix}", f"from_time_{unit.suffix}"
    schema: Schema = {
        **IDENTITY,
        "from_variant": pl.String,
        before: pl.Float64,
        time: pl.Float64,
        **RATIO,
        "label": pl.String,
    }
    found: list[dict[str, Any]] = []
    last: str | None = None
    for variant in main_path():
        cell = source.cell(config, variant)
        if cell is None:
            continue
        own = source.time(config, variant)
        row = identity(cell)
        if own is not None:
            row |= {time: own.median / unit.ns}
            base = source.time(config, last) if last else None
            if last and base:
                compared = ratio_columns(source.compare(config, variant, last))
                row |= {"from_variant": last, before: base.median / unit.ns, **compared}
                row |= {"label": _label(compared)}
            last = variant
        found.append(row)
    return frame_of(found, schema)


def _label(compared: dict[str, Any]) -> str | None:
    if not compared:
        return None
    return f"{VERDICT_MARKS[compared['verdict']]} {compared['ratio']:.2f}×"


def needs(source: Source, config: str) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    absent = why_no_time(source, config)
    if absent:
        return absent
    timed = [variant for variant in main_path() if source.time(config, variant)]
    if len(timed) < 2:
        return f"A step takes two rungs of the ladder; {config} has a time of {len(timed)}."
    return None


def chart(source: Source, config: str) -> alt.LayerChart:
    """Draw the rows: a bar from the time before to the time after, by verdict, and the ratio."""
    frame, unit = rows(source, config), unit_for(source, config)
    time, before = f"time_{unit.suffix}", f"from_time_{unit.suffix}"
    scale, axis = log_axis([*frame[time], *frame[before]], room=0.18)
    title = f"time of a call ({unit.symbol}, logarithmic)"
    x = alt.X(f"{time}:Q", title=title, scale=scale, axis=axis)
    base = (
        alt.Chart(frame)
        .transform_calculate(
            right=f"max(datum.{time}, datum.{before})", interval=span("ratio_low", "ratio_high")
        )
        .encode(y=names_axis(frame["printed_name"].to_list()))
    )
    timed = base.transform_filter(f"isValid(datum.{time})")
    steps = base.transform_filter(f"isValid(datum.{before})")
    name = alt.Tooltip("printed_name:N", title="variant")
    own = alt.Tooltip(f"{time}:Q", title=f"time ({unit.symbol})", format=DIGITS)
    tips = [
        name,
        own,
        alt.Tooltip("from_variant:N", title="step from"),
        alt.Tooltip(f"{before}:Q", title=f"its time ({unit.symbol})", format=DIGITS),
        alt.Tooltip("known_ratio:N", title="ratio of times, by rounds"),
        alt.Tooltip("interval:N", title="95% interval"),
        alt.Tooltip("verdict:N"),
    ]
    bars = (
        steps.transform_calculate(known_ratio=optional("ratio"))
        .mark_bar(size=12, opacity=0.9)
        .encode(
            x=alt.X(f"{before}:Q", title=title, scale=scale, axis=axis),
            x2=f"{time}:Q",
            color=verdict_color("against the step before"),
            tooltip=tips,
        )
    )
    ticks = timed.mark_tick(color=GRAY, opacity=1, thickness=2.5, size=17).encode(
        x=x, tooltip=[name, own]
    )
    labels = (
        steps.transform_filter("isValid(datum.label)")
        .mark_text(align="left", dx=7, color=GRAY, fontSize=11)
        .encode(x=alt.X("right:Q", title=title, scale=scale, axis=axis), text="label:N")
    )
    layers = alt.LayerChart(layer=[bars, ticks, labels, status_text(base)])
    sized = layers.properties(width="container", height=alt.Step(ROW_HEIGHT))
    notes = [
        f"{floor_note(source, config)}; ▼ faster, ▲ slower, = same, ~ not resolved",
        "Gray mark: the time of the rung; the bar leads to it from that of the rung before",
    ]
    return finish(sized, f"{config}, {source.label}", notes)
