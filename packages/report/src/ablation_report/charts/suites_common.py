"""What the charts of the further suites share: whose a point is, its color, what it says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts.frames import Schema
from ablation_report.charts.theme import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    finish,
    panel_room,
)
from ablation_report.suite_series import short_case
from ablation_report.suite_sources import Measure, SuiteSource
from ablation_report.suite_tables import status_text

ORIGIN_COLORS = {
    "torch": ORANGE,
    "inductor": PURPLE,
    "triton": GREEN,
    "ablation": BLUE,
    "published": "#A6A6A6",
}
LINE_COLORS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, "#A6A6A6")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
IDENTITY: Schema = {
    "panel": pl.String,
    **dict.fromkeys(("impl", "published_name", "origin", "phase"), pl.String),
    "case": pl.String,
    **dict.fromkeys(("status", "reason"), pl.String),
}


def identity(measure: Measure, panel: str) -> dict[str, Any]:
    """Return the columns that say whose a row is; the status has its reason with it."""
    return {
        "panel": panel,
        **{name: measure[name] for name in ("impl", "published_name", "origin", "phase")},
        "case": short_case(measure),
        "status": status_text(measure) if measure["status"] != "ok" else "ok",
        "reason": measure["reason_text"],
    }


def device_of(source: SuiteSource) -> str:
    """Return what a source ran on, by its rows: the device that it really was."""
    names = dict.fromkeys(f"{m['device']} {m['device_name']}" for m in source.measures)
    return ", ".join(names)


def threads_text(measure: Measure) -> str:
    """Write the threads of a measure as the end of a title; nothing where they are not known."""
    threads = measure["threads"]
    if threads is None:
        return ""
    return f", {threads} thread{'s' if threads > 1 else ''}"


def layered(frame: pl.DataFrame, *layers: tuple[str, alt.Chart]) -> alt.LayerChart:
    """Lay charts over each other whose column has a value: Vega has no extent for nothing."""
    drawn = [chart for column, chart in layers if frame[column].count()]
    return alt.LayerChart(layer=drawn)


def names_of(measures: Iterable[Measure]) -> list[str]:
    """Return the implementations in order of their rows."""
    return list(dict.fromkeys(str(measure["impl"]) for measure in measures))


def color_by_impl(names: Sequence[str], columns: int = 3) -> alt.Color:
    """Colors by implementation; beyond seven they repeat, and shapes tell them apart."""
    colors = [LINE_COLORS[i % len(LINE_COLORS)] for i in range(len(names))]
    return alt.Color(
        "impl:N",
        title=None,
        scale=alt.Scale(domain=list(names), range=colors),
        legend=alt.Legend(columns=columns, symbolOpacity=1),
    )


def shape_by_impl(names: Sequence[str], columns: int = 3) -> alt.Shape:
    """Shapes by implementation, shifted against the colors once these repeat."""
    n = len(SHAPES)
    shapes = [SHAPES[(i + i // n) % n] for i in range(len(names))]
    return alt.Shape(
        "impl:N",
        title=None,
        scale=alt.Scale(domain=list(names), range=shapes),
        legend=alt.Legend(columns=columns, symbolOpacity=1),
    )


def tooltips(*more: alt.Tooltip) -> list[alt.Tooltip]:
    """What every mark says of itself, and more."""
    return [
        alt.Tooltip("impl:N", title="implementation"),
        alt.Tooltip("published_name:N", title="published as"),
        alt.Tooltip("phase:N"),
        alt.Tooltip("case:N"),
        *more,
    ]


def why_no_time(source: SuiteSource) -> str | None:
    """Say why a source has nothing to draw; None where there is a time."""
    if any(measure.timing for measure in source.measures):
        return None
    return f"{source.label} has no time of any case."


def first_panels(frame: pl.DataFrame, most: int) -> tuple[pl.DataFrame, int]:
    """Return the rows of the first panels, at most so many, and how many there are in all."""
    every = frame["panel"].unique(maintain_order=True).to_list()
    return frame.filter(pl.col("panel").is_in(every[:most])), len(every)


def in_panels(
    layers: alt.LayerChart, frame: pl.DataFrame, has_long_titles: bool = False
) -> alt.FacetChart:
    """Lay out the panels of a frame, two beside each other; one, as wide as the page, where titles
    are wider than half of it and names stand at the left."""
    panels = frame["panel"].unique(maintain_order=True).to_list()
    facet = alt.Facet("panel:N", title=None, sort=panels)
    made: alt.FacetChart = layers.facet(facet=facet, columns=2 if len(panels) > 1 else 1)
    if has_long_titles:
        made.usermeta = panel_room(len(panels), aside=170, each=30, least=300)
    return made


def finish_panels(
    chart: alt.FacetChart, source: SuiteSource, note: str, most: int, of: int, what: str = "cases"
) -> alt.FacetChart:
    """Put the source, its device, a note and how many panels were left out above a chart."""
    notes = [f"On {device_of(source)}", note]
    if of > most:
        notes.append(f"{most} of {of} {what} are drawn; the table has all")
    return finish(chart, source.label, notes)
