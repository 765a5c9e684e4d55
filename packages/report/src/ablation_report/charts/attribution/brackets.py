"""The rungs of ladders inside the ranges that all orders make of the same steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl

from ablation_report.attribution import brackets, worths
from ablation_report.charts import frames, theme
from ablation_report.charts.attribution.bars import headline
from ablation_report.run import Run

TITLE = "The ladder inside the brackets"
CAPTION = (
    "Bar: gain of a rung's step over all orders, from the smallest to the largest; tick: the mean. "
    "Mark: its gain in the order of the ladder."
)
SHAPES = ("circle", "square", "diamond", "triangle-up", "cross")
LADDER_COLORS = (theme.BLUE, theme.GREEN, theme.PURPLE, theme.SKY, theme.ORANGE)
_SAID = (brackets.INSIDE, brackets.NEAR, brackets.OUTSIDE)
_FIGURES = ("figure", "low", "high", "lowest", "highest", "worth")
# The rungs of each ladder by its label
Rungs = Mapping[str, Sequence[brackets.Rung]]
SCHEMA: frames.Schema = {
    **dict.fromkeys(("case", "ladder", "variant", "printed_name", "over", "step"), pl.String),
    **dict.fromkeys(_FIGURES, pl.Float64),
    **dict.fromkeys(("said", "why"), pl.String),
}


def rows(run: Run, rungs: Rungs, case: str) -> pl.DataFrame:
    """Return a row for each rung of each ladder, as ratios of time without the step over time with
    it: of a rung that is no step the reason alone."""
    told: list[dict[str, Any]] = []
    for label, of_ladder in rungs.items():
        for rung in of_ladder:
            known = {
                "case": frames.case_names(run)[case],
                "ladder": label,
                "variant": rung.row["variant"],
                "printed_name": rung.name,
                "over": rung.over_name,
            }
            told.append(known | {"said": rung.said, "why": rung.why or None} | _figures(rung))
    return frames.frame_of(told, SCHEMA)


def _figures(rung: brackets.Rung) -> dict[str, Any]:
    if rung.step is None or rung.worth is None:
        return {}
    logs = {"lowest": rung.step.lowest, "highest": rung.step.highest, "worth": rung.step.phi}
    if rung.figure is not None:
        logs["figure"] = rung.figure.value
        if rung.figure.n > 1:
            logs |= {"low": rung.figure.low, "high": rung.figure.high}
    name = brackets.step_name(rung.worth, rung.worth.steps.index(rung.step) + 1)
    return {"step": name, **{key: worths.ratio(log) for key, log in logs.items()}}


def needs(run: Run, rungs: Rungs, case: str) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    if (absent := worths.without(run, case)) is not None:
        return absent
    frame = rows(run, rungs, case)
    name = frames.case_names(run)[case]
    if frame.is_empty():
        return f"No ladder of the block was recorded on this machine at {name}."
    return None if frame["figure"].count() else f"No rung of a ladder at {name} is a single step."


def chart(run: Run, rungs: Rungs, case: str) -> alt.LayerChart:
    """Draw the rows that are steps: the range of each, and a mark for each ladder."""
    frame = rows(run, rungs, case).filter(pl.col("figure").is_not_null())
    names = frame["printed_name"].unique(maintain_order=True).to_list()
    drawn = frame["ladder"].unique(maintain_order=True).to_list()
    title = "time without the step over time with it (ratio, logarithmic)"
    x = theme.log_channel(alt.X, title, [1.0, *(v for name in _FIGURES for v in frame[name])])
    base = (
        alt.Chart(frame)
        .transform_calculate(
            interval=theme.span("low", "high", ".3f"), orders=theme.span("lowest", "highest", ".3f")
        )
        .encode(y=theme.names_axis(names))
    )
    tips = [
        alt.Tooltip("printed_name:N", title="rung"),
        alt.Tooltip("over:N", title="over"),
        alt.Tooltip("ladder:N"),
        alt.Tooltip("step:N", title="is the step"),
        alt.Tooltip("figure:Q", title="in this order", format=".3f"),
        alt.Tooltip("interval:N", title="95% interval"),
        alt.Tooltip("orders:N", title="over orders"),
        alt.Tooltip("worth:Q", title="mean over all orders", format=".3f"),
        alt.Tooltip("said:N", title="lies"),
    ]
    # One mark for all ladders: theirs would lie over one another
    once = base.transform_aggregate(
        lowest="mean(lowest)",
        highest="mean(highest)",
        worth="mean(worth)",
        groupby=["printed_name", "step"],
    )
    ranges = once.mark_bar(size=13, color=theme.GRAY, opacity=0.25).encode(
        x=x("lowest"), x2=alt.X2("highest:Q")
    )
    means = once.mark_tick(color=theme.GRAY, thickness=2, size=15).encode(x=x("worth"))
    intervals = (
        base.transform_filter("isValid(datum.low)")
        .mark_rule(color=theme.GRAY)
        .encode(x=x("low"), x2=alt.X2("high:Q"))
    )
    shape, color = (alt.Scale(domain=drawn, range=list(marks)) for marks in (SHAPES, LADDER_COLORS))
    legend = alt.Legend(columns=1)
    points = base.mark_point(size=70, opacity=1, strokeWidth=1.6).encode(
        x=x("figure"),
        shape=alt.Shape("ladder:N", title=None, legend=legend, scale=shape),
        color=alt.Color("ladder:N", title=None, legend=legend, scale=color),
        tooltip=tips,
    )
    one = theme.line_at_one(frame, x, [4, 3])
    layers = alt.LayerChart(layer=[ranges, one, means, intervals, points])
    sized = layers.properties(width="container", height=alt.Step(theme.ROW_HEIGHT))
    return theme.finish(sized, headline(run, case), _notes(frame))


def _notes(frame: pl.DataFrame) -> list[str]:
    counts = {said: frame.filter(pl.col("said") == said).height for said in _SAID}
    told = ", ".join(f"{count} {said}" for said, count in counts.items() if count)
    return [f"{frame.height} figures of rungs: {told}"]
