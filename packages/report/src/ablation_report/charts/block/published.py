"""Published and recorded ratios: shapes, never times between two machines."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts import frames, theme
from ablation_report.run import LEAGUE, Run

TITLE = "Published and recorded"
CAPTION = "Time, variant / PT naive, each within its own source and on its own machine."
SCHEMA: frames.Schema = {
    "source": pl.String,
    "is_published": pl.Boolean,
    **frames.IDENTITY,
    **frames.RATIO,
}


def same_case(run: Run, other: Run, case: str) -> str | None:
    """Return the case of another run that has the sizes of this one; None without one."""
    sizes = next((row["sizes"] for row in run.by_case.get(case, ())), None)
    found = (label for label, rows in other.by_case.items() if rows[0]["sizes"] == sizes)
    return next(found, None)


def rows(run: Run, published: Run, case: str) -> pl.DataFrame:
    """Return a row for each source and variant of the ladder: its ratio to the baseline there.

    Each ratio is taken within its own source. A variant bears the name that `run` prints.
    """
    printed = {name: row["printed_name"] for name, row in frames.variant_rows(run).items()}
    found: list[dict[str, Any]] = []
    for one, label in ((published, same_case(run, published, case)), (run, case)):
        for row in frames.rungs(one, label or ""):
            if row["variant"] == one.baseline or row["group"] == LEAGUE:
                continue
            name = printed.get(row["variant"], row["printed_name"])
            told = {"source": one.label, "is_published": one.is_published}
            told |= frames.identity(row, frames.case_name(row)) | {"printed_name": name}
            found.append(told | frames.ratio_columns(one.compare(row, one.baseline)))
    return frames.frame_of(found, SCHEMA)


def needs(run: Run, published: Run, case: str) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    if run.is_published or not published.is_published:
        return "This chart compares a recorded run with a published one; these are two of a kind."
    for one, label in ((run, case), (published, same_case(run, published, case) or case)):
        absent = frames.why_no_time(one, label)
        if absent:
            return f"{one.label}: {absent}"
        if one.time(one.row(label, one.baseline, frames.main_phase(one))) is None:
            name = frames.case_name(one.by_case[label][0])
            return f"{one.label} has no time of {one.printed(one.baseline)} at {name}."
    known = rows(run, published, case).filter(pl.col("ratio").is_not_null())
    both = known.group_by("variant").len().filter(pl.col("len") == 2)
    return None if both.height else f"The two have no other variant in common at {case}."


def chart(run: Run, published: Run, case: str) -> alt.LayerChart:
    """Draw the rows: a point for each source, a gray line between the two of a variant."""
    frame = rows(run, published, case)
    values = [*frame["ratio"], *frame["ratio_low"], *frame["ratio_high"], 1.0]
    printed = run.printed(run.baseline)
    named = theme.ratio_title("variant", printed)
    x = theme.log_channel(alt.X, f"{named} of the same source (logarithmic)", values)
    labels = [published.label, run.label]
    base = (
        alt.Chart(frame)
        .transform_filter("isValid(datum.ratio)")
        .transform_calculate(interval=theme.span("ratio_low", "ratio_high", ".3f"))
        .encode(y=theme.names_axis(_names(run, published, frame)))
    )
    between = (
        base.transform_aggregate(
            least="min(ratio)", most="max(ratio)", groupby=["variant", "printed_name"]
        )
        .mark_rule(color=theme.GRAY, strokeWidth=2, opacity=0.5)
        .encode(x=x("least"), x2=alt.X2("most:Q"))
    )
    by_source = dict(zip(labels, (theme.ORANGE, theme.BLUE), strict=True))
    color = theme.colors("source", by_source, legend=alt.Legend(symbolOpacity=1))
    intervals = (
        base.transform_filter("isValid(datum.ratio_low)")
        .mark_rule(strokeWidth=5, opacity=0.5)
        .encode(x=x("ratio_low"), x2=alt.X2("ratio_high:Q"), color=color)
    )
    tips = [
        alt.Tooltip("source:N"),
        alt.Tooltip("printed_name:N", title="variant"),
        *theme.ratio_tooltips(named),
    ]
    # Published figures are hollow
    filled = alt.condition("datum.is_published", alt.value(0.0), alt.value(1.0))
    shape = alt.Shape(
        "source:N", title=None, scale=alt.Scale(domain=labels, range=["diamond", "circle"])
    )
    points = base.mark_point(size=80, opacity=1, strokeWidth=1.5).encode(
        x=x("ratio"), color=color, fill=color, fillOpacity=filled, shape=shape, tooltip=tips
    )
    layers = alt.LayerChart(layer=[theme.line_at_one(frame, x, [4, 3]), between, intervals, points])
    sized = layers.properties(width="container", height=alt.Step(theme.ROW_HEIGHT))
    return theme.finish(sized, frames.case_name(run.by_case[case][0]), _notes(frame))


def _names(run: Run, published: Run, frame: pl.DataFrame) -> list[str]:
    """The printed names of what is shown in the order of the published ladder; a rung that is not
    in it stands below the one before it in the run."""
    rows = {**frames.variant_rows(published), **frames.variant_rows(run)}
    order = list(frames.variant_rows(published))
    place = 0
    for variant in frames.variant_rows(run):
        if variant not in order:
            order.insert(place, variant)
        place = order.index(variant) + 1
    shown = frame["variant"].to_list()
    return [str(rows[variant]["printed_name"]) for variant in order if variant in shown]


def _notes(frame: pl.DataFrame) -> list[str]:
    notes = ["Two machines: compare ratios, each within one machine, and no times"]
    missing = [
        f"{row['printed_name']}, {row['source']}: {row['status']}"
        for row in frame.filter(pl.col("status") != "ok").iter_rows(named=True)
    ]
    return notes + missing
