"""How every variant stands against PyTorch at one config, with intervals and the noise floor."""

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
    ordered,
    ratio_columns,
    why_no_time,
)
from ablation_report.charts.theme import (
    GRAY,
    ROW_HEIGHT,
    VERDICT_SHAPES,
    finish,
    log_axis,
    names_axis,
    span,
    status_text,
    verdict_color,
)
from ablation_report.ladder import NAIVE, SDPA
from ablation_report.sources import Source

SCHEMA: Schema = {**IDENTITY, "base": pl.String, **RATIO}


def base_of(source: Source, config: str) -> str | None:
    """Return what ratios are to: PT SDPA, or PT naive where it has no time at the config."""
    return next((variant for variant in (SDPA, NAIVE) if source.time(config, variant)), None)


def rows(source: Source, config: str) -> pl.DataFrame:
    """Return a row for each variant but the base: its paired ratio to it, and the verdict."""
    base = base_of(source, config)
    found: list[dict[str, Any]] = [
        {
            **identity(cell),
            "base": base,
            **ratio_columns(source.compare(config, cell["variant"], base)),
        }
        for cell in ordered(source, config)
        if cell["variant"] != base
    ]
    return frame_of(found, SCHEMA)


def needs(source: Source, config: str) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    absent = why_no_time(source, config)
    if absent:
        return absent
    if base_of(source, config) is None:
        return f"PyTorch has no time at {config}."
    if rows(source, config)["ratio"].count() == 0:
        return f"Nothing at {config} was measured beside {source.printed(SDPA)}."
    return None


def chart(source: Source, config: str) -> alt.LayerChart:
    """Draw the rows: a point with its interval, shaped and colored by verdict."""
    frame = rows(source, config)
    floor = source.floor(config)
    band = [1 - floor, 1 + floor] if floor is not None else [1.0]
    scale, axis = log_axis([*frame["ratio"], *frame["ratio_low"], *frame["ratio_high"], *band])
    printed = source.printed(base_of(source, config) or SDPA)
    title = f"time over {printed} (ratio, logarithmic)"

    def x(field: str) -> alt.X:
        return alt.X(field, title=title, scale=scale, axis=axis)

    names = frame["printed_name"].to_list()
    base = (
        alt.Chart(frame)
        .transform_calculate(interval=span("ratio_low", "ratio_high", ".3f"))
        .encode(y=names_axis(names))
    )
    # One mark for all rows: marks of each would lie over one another
    once = alt.Chart(frame).transform_aggregate(floor="max(floor)")
    floor_band = (
        once.transform_filter("isValid(datum.floor)")
        .transform_calculate(low="1 - datum.floor", high="1 + datum.floor")
        .mark_rect(color=GRAY, opacity=0.2)
        .encode(
            x=x("low:Q"),
            x2="high:Q",
            tooltip=[alt.Tooltip("floor:Q", title="noise floor", format=".1%")],
        )
    )
    one = once.transform_calculate(one="1").mark_rule(color=GRAY, strokeDash=[4, 3])
    intervals = (
        base.transform_filter("isValid(datum.ratio_low)")
        .mark_rule(color=GRAY, strokeWidth=2)
        .encode(x=x("ratio_low:Q"), x2="ratio_high:Q")
    )
    shapes = alt.Scale(domain=list(VERDICT_SHAPES), range=list(VERDICT_SHAPES.values()))
    heading = f"against {printed}"
    points = (
        base.transform_filter("isValid(datum.ratio)")
        .mark_point(filled=True, size=90, opacity=1)
        .encode(
            x=x("ratio:Q"),
            color=verdict_color(heading),
            shape=alt.Shape("verdict:N", title=heading, scale=shapes),
            tooltip=[
                alt.Tooltip("printed_name:N", title="variant"),
                alt.Tooltip("ratio:Q", title=f"time over {printed}", format=".3f"),
                alt.Tooltip("interval:N", title="95% interval"),
                alt.Tooltip("n_rounds:Q", title="rounds"),
                alt.Tooltip("verdict:N"),
            ],
        )
    )
    layers = alt.LayerChart(
        layer=[floor_band, one.encode(x=x("one:Q")), intervals, points, status_text(base)]
    )
    sized = layers.properties(width="container", height=alt.Step(ROW_HEIGHT))
    notes = [floor_note(source, config) + (" (gray band)" if floor is not None else "")]
    return finish(sized, f"{config}, {source.label}", notes)
