"""What charts of several panels share: lines over the length, their colors, marks and notes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts import theme
from ablation_report.run import Row, Run

# Ours take from the front, others from the back: the blues are ours
COLORS = (
    *(theme.BLUE, theme.SKY, theme.GREEN, theme.PURPLE),
    *(theme.OLIVE, theme.PALE_GRAY, theme.ORANGE),
)
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
PANEL: Mapping[str, type[pl.DataType]] = {"panel": pl.String}


def device_of(run: Run) -> str:
    """Return what a run ran on, by its rows: the device that it really was."""
    return ", ".join(dict.fromkeys(f"{row['device']} {row['device_name']}" for row in run.rows))


def names_of(rows: Iterable[Row]) -> list[str]:
    """Return the printed names of variants in order of their rows."""
    return list(dict.fromkeys(str(row["printed_name"]) for row in rows))


def drawn_names(run: Run, frame: pl.DataFrame) -> list[str]:
    """Return the printed names in a frame, in order of the run's rows."""
    drawn = set(frame["printed_name"].to_list())
    return [name for name in names_of(run.rows) if name in drawn]


def color_by_variant(run: Run, names: Sequence[str], columns: int = 3) -> alt.Color:
    """Colors by variant; beyond seven they repeat, and shapes tell them apart."""
    ours = {row["printed_name"] for row in run.rows if row["origin"] == "ablation"}
    front, back = cycle(COLORS), cycle(reversed(COLORS))
    colors = [next(front if name in ours else back) for name in names]
    return alt.Color("printed_name:N", **_scale(names, colors, columns))


def shape_by_variant(names: Sequence[str], columns: int = 3) -> alt.Shape:
    """Shapes by variant, shifted against the colors once these repeat."""
    n = len(SHAPES)
    shapes = [SHAPES[(i + i // n) % n] for i in range(len(names))]
    return alt.Shape("printed_name:N", **_scale(names, shapes, columns))


def _scale(names: Sequence[str], values: Sequence[str], columns: int) -> dict[str, Any]:
    return {
        "title": None,
        "scale": alt.Scale(domain=list(names), range=list(values)),
        "legend": alt.Legend(columns=columns, symbolOpacity=1),
    }


def over_length(frame: pl.DataFrame) -> alt.X:
    """The axis of the sequence length, with a tick at each."""
    lengths = sorted(set(frame["seq_len"].to_list()))
    return alt.X(
        "seq_len:Q",
        title="sequence length (log)",
        scale=alt.Scale(type="log", base=2, nice=False, padding=12),
        axis=alt.Axis(values=lengths, format="d", labelOverlap=True),
    )


def tooltips(*more: alt.Tooltip) -> list[alt.Tooltip]:
    """What every mark of these charts says of itself, and more."""
    return theme.tooltips(
        alt.Tooltip("published_name:N", title="published as"), alt.Tooltip("phase:N"), *more
    )


def layered(frame: pl.DataFrame, *layers: tuple[str, alt.Chart]) -> alt.LayerChart:
    """Lay charts over each other whose column has a value: Vega has no extent for nothing."""
    return alt.LayerChart(layer=[chart for column, chart in layers if frame[column].count()])


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
        made.usermeta = theme.panel_room(len(panels), aside=170, each=30, least=300)
    return made


def finish_panels(
    chart: alt.FacetChart, run: Run, note: str, most: int, of: int, what: str = "cases"
) -> alt.FacetChart:
    """Put the run, its device, a note and how many panels were left out above a chart."""
    notes = [f"On {device_of(run)}", note]
    if of > most:
        notes.append(f"{most} of {of} {what} are drawn; the table has all")
    return theme.finish(chart, run.label, notes)
