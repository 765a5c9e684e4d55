"""How every chart looks: colors that color-blind readers can tell apart, on light and on dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import altair as alt
import polars as pl

FONT = "system-ui, sans-serif"
# About as legible on white as on near-black
GRAY = "#808080"
# Between the two ends of a scale of colors
PALE = "#F2F2F2"
ROW_HEIGHT = 22
PALE_GRAY = "#A6A6A6"
# The palette of Okabe and Ito, Color Universal Design, 2008
BLUE, SKY, GREEN = "#0072B2", "#56B4E9", "#009E73"
ORANGE, VERMILION, PURPLE = "#E69F00", "#D55E00", "#CC79A7"
# Paul Tol's muted scheme: its yellow is too pale for a line
OLIVE = "#999933"
# The one convention of charts and pages: a result that is better, worse, the same, or open. Ours is
# blue where it stands beside others; vermilion is the color of nothing but a worse result.
BETTER, WORSE, SAME, UNRESOLVED = BLUE, VERMILION, GRAY, PALE_GRAY

# In the order in which they are stacked; "other" is what a published figure divides no further
PART_COLORS: Mapping[str, str] = {
    "attention": BLUE,
    "layer norm": ORANGE,
    "linear": SKY,
    "element-wise": GREEN,
    "movement": PURPLE,
    "dispatch": OLIVE,
    "other": PALE_GRAY,
}
VERDICT_COLORS: Mapping[str, str] = {
    "faster": BETTER,
    "slower": WORSE,
    "same": SAME,
    "not resolved": UNRESOLVED,
}
VERDICT_SHAPES: Mapping[str, str] = {
    "faster": "triangle-left",
    "slower": "triangle-right",
    "same": "square",
    "not resolved": "circle",
}
VERDICT_MARKS: Mapping[str, str] = {"faster": "▼", "slower": "▲", "same": "=", "not resolved": "~"}

DIGITS = ",.4~r"
AnyChart = TypeVar("AnyChart", alt.Chart, alt.LayerChart, alt.FacetChart, alt.VConcatChart)


def names_axis(names: Sequence[str]) -> alt.Y:
    """A row for each name, in this order, whether or not it has a value."""
    # Layers that sort by a list lose it when each filters the data in its own way
    scale = alt.Scale(domain=list(names))
    return alt.Y("printed_name:N", title=None, scale=scale, axis=alt.Axis(labelLimit=190))


def log_values(low: float, high: float) -> list[float]:
    """Return round values within a range: the wider it is, the fewer of them in a decade."""
    factors: tuple[float, ...] = (1, 2, 5) if high / low < 2e3 else (1,)
    if high / low < 10:
        factors = (1, 1.5, 2, 3, 4, 5, 7)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [float(f"{factor}e{exponent}") for exponent in exponents for factor in factors]
    return [value for value in values if low <= value <= high]


def log_axis(values: Iterable[float | None], room: float = 0.0) -> tuple[alt.Scale, alt.Axis]:
    """Return a logarithmic scale over the known values, and its axis.

    Args:
        values: what is drawn; null is left out.
        room: part of the axis left free above the largest, for text.
    """
    known = [value for value in values if value is not None and value > 0] or [1.0]
    margin = 1.1 if min(known) < max(known) else 2.0
    low, high = min(known) / margin, max(known) * margin
    high *= (high / low) ** room
    ticks = log_values(low, high)
    # Within a small part of a decade Vega's own choice is better
    chosen = ticks if len(ticks) > 2 else alt.Undefined
    scale = alt.Scale(type="log", nice=False, domain=[low, high])
    return scale, alt.Axis(values=chosen, format="~g")


def log_channel(
    channel: Callable[..., Any], title: str, values: Iterable[float | None], room: float = 0.0
) -> Callable[[str], Any]:
    """Make one logarithmic axis for the layers of a chart: it takes the column of a layer.

    Args:
        channel: alt.X or alt.Y.
        title: that of the axis, which all layers share.
        values: what is drawn; null is left out.
        room: part of the axis left free above the largest, for text.
    """
    scale, axis = log_axis(values, room)
    return lambda column: channel(f"{column}:Q", title=title, scale=scale, axis=axis)


def colors(column: str, by_value: Mapping[str, str], **more: Any) -> alt.Color:
    """Colors of named things, with a legend; it needs no title."""
    scale = alt.Scale(domain=list(by_value), range=list(by_value.values()))
    return alt.Color(f"{column}:N", title=None, scale=scale, **more)


def bar_style(is_published: bool, opacity: float = 0.9) -> dict[str, Any]:
    """How bars are filled; those of published figures are hollow."""
    hollow = {"fillOpacity": 0.0, "strokeWidth": 1.2}
    return hollow if is_published else {"fillOpacity": opacity, "strokeWidth": 0.0}


def ratio_title(own: str, base: str) -> str:
    """Name the two times of a ratio, as axes and tooltips write it."""
    return f"time, {own} / {base}"


def line_at_one(frame: pl.DataFrame, x: Callable[[str], Any], dash: Sequence[int]) -> alt.Chart:
    """Draw one line at the ratio 1: marks of each row would lie over one another."""
    once = alt.Chart(frame).transform_aggregate(n_rows="count()").transform_calculate(one="1")
    line: alt.Chart = once.mark_rule(color=GRAY, strokeDash=list(dash)).encode(x=x("one"))
    return line


def tooltips(*more: alt.Tooltip) -> list[alt.Tooltip]:
    """What every mark says of itself, and more."""
    return [
        alt.Tooltip("printed_name:N", title="variant"),
        alt.Tooltip("case:N"),
        *more,
    ]


def ratio_tooltips(title: str) -> list[alt.Tooltip]:
    """What a mark of a ratio says of it; `interval` is that of `span`."""
    return [
        alt.Tooltip("ratio:Q", title=title, format=".3f"),
        alt.Tooltip("interval:N", title="95% interval"),
        alt.Tooltip("n_rounds:Q", title="rounds"),
        alt.Tooltip("verdict:N"),
    ]


def verdict_color(title: str) -> alt.Color:
    """Colors by verdict, with a legend."""
    scale = alt.Scale(domain=list(VERDICT_COLORS), range=list(VERDICT_COLORS.values()))
    return alt.Color("verdict:N", title=title, scale=scale)


def span(low: str, high: str, digits: str = DIGITS) -> str:
    """Return a Vega expression that writes an interval, or says that there is none."""
    text = f"format(datum.{low}, '{digits}') + ' to ' + format(datum.{high}, '{digits}')"
    # Vega would write null as 0
    return f"isValid(datum.{low}) ? {text} : 'none, a single value'"


def optional(column: str, digits: str = DIGITS) -> str:
    """Return a Vega expression that writes a number, or says that it is not known."""
    return f"isValid(datum.{column}) ? format(datum.{column}, '{digits}') : 'not known'"


def status_text(base: alt.Chart, size: int = 11) -> alt.Chart:
    """Write the status at the left of the rows that have no time."""
    text: alt.Chart = (
        base.transform_filter("datum.status !== 'ok'")
        .mark_text(align="left", dx=4, fontSize=size, fontStyle="italic", color=GRAY)
        .encode(
            x=alt.value(0),
            text=alt.Text("status:N"),
            tooltip=tooltips(alt.Tooltip("status:N"), alt.Tooltip("reason:N")),
        )
    )
    return text


def finish(chart: AnyChart, headline: str, notes: Sequence[str] = ()) -> AnyChart:
    """Give a chart its headline, what it cannot say, and the looks of all charts; return it.

    The ink of text is left to the page, which knows whether it is light or dark.
    """
    # Set in place: a method of Altair would copy each layer twice
    chart.title = alt.Title(headline, subtitle=list(notes) if notes else alt.Undefined)
    chart.config = looks()
    return chart


@cache
def looks() -> alt.Config:
    """Return what all charts say of fonts, axes and legends."""
    return alt.Config(
        background="transparent",
        font=FONT,
        axis=alt.AxisConfig(
            domainColor=GRAY,
            gridColor=GRAY,
            gridOpacity=0.2,
            labelFontSize=11,
            labelLimit=200,
            tickColor=GRAY,
            titleFontSize=12,
            titleFontWeight="normal",
        ),
        axisQuantitative=alt.AxisConfig(labelOverlap="greedy"),
        header=alt.HeaderConfig(labelFontSize=12, title=None),
        legend=alt.LegendConfig(
            labelFontSize=11,
            labelLimit=260,
            orient="top",
            titleFontWeight="normal",
            titleLimit=400,
        ),
        title=alt.TitleConfig(
            anchor="start",
            fontSize=13,
            fontWeight="bold",
            frame="bounds",
            offset=10,
            subtitleColor=GRAY,
            subtitleFontSize=11,
        ),
        view=alt.ViewConfig(stroke=None),
    )


def panel_room(count: int, aside: int, each: int, least: int) -> dict[str, dict[str, int]]:
    """What a page needs to know to fit a chart of several panels into its width, in pixels.

    Args:
        count: how many panels there are.
        aside: what stands once beside them, such as names at the left.
        each: what every panel takes beside its own width.
        least: the smallest width of a panel.
    """
    return {"panels": {"count": count, "aside": aside, "each": each, "least": least}}


def room(aside: int, each: int, count: int) -> dict[str, int]:
    """The least width of a chart of so many columns, in pixels; below that it scrolls."""
    return {"least": aside + each * count}


def sentence_chart(sentence: str) -> alt.Chart:
    """Return a picture of one sentence, which stands where a chart cannot be drawn."""
    frame = pl.DataFrame({"sentence": [sentence]})
    mark = alt.Chart(frame).mark_text(align="left", color=GRAY, fontSize=13)
    chart: alt.Chart = mark.encode(text=alt.Text("sentence:N"), x=alt.value(0), y=alt.value(12))
    return finish(chart.properties(width="container", height=24), "")
