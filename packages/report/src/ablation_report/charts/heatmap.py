"""Every variant at every config in one picture: its time over that of PyTorch."""

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
    ordered,
    ratio_columns,
    why_no_time,
)
from ablation_report.charts.theme import (
    BLUE,
    GRAY,
    ROW_HEIGHT,
    VERMILION,
    finish,
    names_axis,
    room,
    span,
)
from ablation_report.ladder import NAIVE, SDPA
from ablation_report.metrics import Cell, is_different
from ablation_report.sources import Comparison, Source

SCHEMA: Schema = {"config": pl.String, **IDENTITY, "base": pl.String, **RATIO, "text": pl.String}


def base_of(source: Source) -> str | None:
    """Return what ratios are to: PT naive, or PT SDPA where the source has no time of naive."""
    for variant in (NAIVE, SDPA):
        if any(source.time(config, variant) for config in source.configs):
            return variant
    return None


def rows(source: Source) -> pl.DataFrame:
    """Return a row for each cell: its paired ratio to PyTorch, and the text that stands for it.

    A cell without a time, or without a base to be set against, has a null ratio and says why.
    """
    base = base_of(source)
    found: list[dict[str, Any]] = []
    for config in source.configs:
        for cell in ordered(source, config):
            comparison = source.compare(config, cell["variant"], base)
            text = _text(cell, comparison, base)
            known = {"config": config, **identity(cell), "base": base, "text": text}
            found.append(known | ratio_columns(comparison))
    return frame_of(found, SCHEMA)


def _text(cell: Cell, comparison: Comparison | None, base: str | None) -> str:
    if cell["status"] != "ok":
        return str(cell["status"])
    if comparison is None:
        return "no base"
    is_clear = cell["variant"] == base or is_different(comparison.verdict)
    return f"{comparison.ratio.median:.2f}" + ("" if is_clear else " ~")


def needs(source: Source) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    absent = why_no_time(source)
    if absent:
        return absent
    return None if base_of(source) else f"{source.label} has no time of PyTorch to compare with."


def chart(source: Source) -> alt.LayerChart:
    """Draw the rows: blue is faster than PyTorch, orange slower, on a symmetric log scale."""
    frame = rows(source)
    variants = {cell["variant"]: cell for cell in source.cells}
    names = [cell["printed_name"] for cell in in_order(variants.values())]
    configs = alt.X(
        "config:N",
        title=None,
        scale=alt.Scale(domain=list(source.configs)),
        axis=alt.Axis(orient="top", labelAngle=0, domain=False, ticks=False),
    )
    base = (
        alt.Chart(frame)
        .transform_calculate(interval=span("ratio_low", "ratio_high"))
        .encode(x=configs, y=names_axis(names))
    )
    color = alt.Color(
        "ratio:Q",
        title=f"time over {source.printed(base_of(source) or NAIVE)} (ratio)",
        scale=alt.Scale(
            type="log",
            domain=[0.25, 1, 4],
            range=[BLUE, "#F2F2F2", VERMILION],
            interpolate="lab",
            clamp=True,
            nice=False,
        ),
        legend=alt.Legend(values=[0.25, 0.5, 1, 2, 4], format="~g", gradientLength=220),
    )
    known = base.transform_filter("isValid(datum.ratio)")
    name = alt.Tooltip("printed_name:N", title="variant")
    tips = [
        name,
        alt.Tooltip("config:N"),
        alt.Tooltip("ratio:Q", title="ratio of times, by rounds", format=".3f"),
        alt.Tooltip("interval:N", title="95% interval"),
        alt.Tooltip("verdict:N"),
        alt.Tooltip("n_rounds:Q", title="rounds"),
    ]
    cells = known.mark_rect(stroke=GRAY, strokeOpacity=0.25).encode(color=color, tooltip=tips)
    # White is the more legible only on the darkest blue
    figures = known.mark_text(fontSize=11).encode(
        text="text:N",
        tooltip=tips,
        color=alt.condition("datum.ratio < 0.28", alt.value("white"), alt.value("black")),
    )
    missing = (
        base.transform_filter("!isValid(datum.ratio)")
        .mark_text(fontSize=11, fontStyle="italic", color=GRAY)
        .encode(text="text:N", tooltip=[name, alt.Tooltip("config:N"), alt.Tooltip("reason:N")])
    )
    layers = alt.LayerChart(layer=[cells, figures, missing])
    sized = layers.properties(width="container", height=alt.Step(ROW_HEIGHT))
    sized.usermeta = room(aside=135, each=42, count=len(source.configs))
    return finish(sized, source.label, _notes(source))


def _notes(source: Source) -> list[str]:
    notes = ["~ not resolved, or the same; an empty cell was not asked for"]
    without = [config for config in source.configs if source.floor(config) is None]
    if without:
        notes.append(f"No A/A pair, so that nothing is resolved: {', '.join(without)}")
    return notes
