"""The published ratios beside the recorded ones: shapes, never times between two machines."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts.frames import (
    IDENTITY,
    RATIO,
    Schema,
    frame_of,
    identity,
    in_order,
    ratio_columns,
    why_no_time,
)
from ablation_report.charts.theme import (
    BLUE,
    GRAY,
    ORANGE,
    ROW_HEIGHT,
    finish,
    log_axis,
    names_axis,
    span,
)
from ablation_report.ladder import LEAGUE, NAIVE
from ablation_report.sources import Source

SCHEMA: Schema = {"source": pl.String, **IDENTITY, **RATIO}


def rows(source: Source, published: Source, config: str) -> pl.DataFrame:
    """Return a row for each source and variant of the ladder: its ratio to PT naive there.

    Each ratio is taken within its own source. A variant bears the name that `source` prints.
    """
    found: list[dict[str, Any]] = []
    for one in (published, source):
        cells = one.by_config.get(config, {})
        for cell in in_order(cells.values()):
            variant = cell["variant"]
            if variant == NAIVE or cell["group"] == LEAGUE:
                continue
            named = source.cell(config, variant) or cell
            compared = ratio_columns(one.compare(config, variant, NAIVE))
            name = {"source": one.label, **identity(cell), "printed_name": named["printed_name"]}
            found.append(name | compared)
    return frame_of(found, SCHEMA)


def needs(source: Source, published: Source, config: str) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    if source.is_published or not published.is_published:
        return "A recorded run is set beside a published one; these are two of a kind."
    for one in (published, source):
        absent = why_no_time(one, config)
        if absent:
            return f"{one.label}: {absent}"
        if one.time(config, NAIVE) is None:
            return f"{one.label} has no time of {one.printed(NAIVE)} at {config}."
    known = rows(source, published, config).filter(pl.col("ratio").is_not_null())
    both = known.group_by("variant").len().filter(pl.col("len") == 2)
    return None if both.height else f"The two have no further variant in common at {config}."


def chart(source: Source, published: Source, config: str) -> alt.LayerChart:
    """Draw the rows: a point for each source, a gray line between the two of a variant."""
    frame = rows(source, published, config)
    scale, axis = log_axis([*frame["ratio"], *frame["ratio_low"], *frame["ratio_high"], 1.0])
    title = "time over PT naive of the same source (ratio, logarithmic)"
    both = {**published.by_config.get(config, {}), **source.by_config.get(config, {})}
    shown = set(frame["variant"].to_list())
    names = [c["printed_name"] for c in in_order(both.values()) if c["variant"] in shown]
    labels = [published.label, source.label]

    def x(field: str) -> alt.X:
        return alt.X(field, title=title, scale=scale, axis=axis)

    base = (
        alt.Chart(frame)
        .transform_filter("isValid(datum.ratio)")
        .transform_calculate(interval=span("ratio_low", "ratio_high", ".3f"), one="1")
        .encode(y=names_axis(names))
    )
    one = (
        alt.Chart(frame)
        .transform_aggregate(cells="count()")
        .transform_calculate(one="1")
        .mark_rule(color=GRAY, strokeDash=[4, 3])
        .encode(x=x("one:Q"))
    )
    between = (
        base.transform_aggregate(
            least="min(ratio)", most="max(ratio)", groupby=["variant", "printed_name"]
        )
        .mark_rule(color=GRAY, strokeWidth=2, opacity=0.5)
        .encode(x=x("least:Q"), x2="most:Q")
    )
    colors = alt.Scale(domain=labels, range=[ORANGE, BLUE])
    legend = alt.Legend(symbolOpacity=1)
    intervals = (
        base.transform_filter("isValid(datum.ratio_low)")
        .mark_rule(strokeWidth=5, opacity=0.5)
        .encode(
            x=x("ratio_low:Q"),
            x2="ratio_high:Q",
            color=alt.Color("source:N", title=None, scale=colors, legend=legend),
        )
    )
    points = base.mark_point(filled=True, size=80, opacity=1).encode(
        x=x("ratio:Q"),
        color=alt.Color("source:N", title=None, scale=colors, legend=legend),
        shape=alt.Shape(
            "source:N", title=None, scale=alt.Scale(domain=labels, range=["diamond", "circle"])
        ),
        tooltip=[
            alt.Tooltip("source:N"),
            alt.Tooltip("printed_name:N", title="variant"),
            alt.Tooltip("ratio:Q", title="time over PT naive", format=".3f"),
            alt.Tooltip("interval:N", title="95% interval"),
            alt.Tooltip("verdict:N"),
        ],
    )
    layers = alt.LayerChart(layer=[one, between, intervals, points])
    sized = layers.properties(width="container", height=alt.Step(ROW_HEIGHT))
    return finish(sized, config, _notes(frame))


def _notes(frame: pl.DataFrame) -> list[str]:
    notes = ["Two machines: only ratios within one of them are set beside each other"]
    missing = [
        f"{row['printed_name']}, {row['source']}: {row['status']}"
        for row in frame.filter(pl.col("status") != "ok").iter_rows(named=True)
    ]
    return notes + missing
