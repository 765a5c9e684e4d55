"""Every variant in every case in one picture: its time over that of the baseline."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts import frames, theme
from ablation_report.means import ratio_text
from ablation_report.run import SDPA, Comparison, Row, Run
from ablation_report.stats import is_different

TITLE = "Every variant at every config"
CAPTION = "Time, variant / PyTorch, of common rounds. Blue, below 1: the variant is faster."
SCHEMA: frames.Schema = {**frames.IDENTITY, "base": pl.String, **frames.RATIO, "text": pl.String}
# The least width of a column in pixels, and the letters of a title that fit in it
COLUMN, SHORT = 42, 7


def base_of(run: Run) -> str | None:
    """Return what ratios are to: the baseline, or PT SDPA where the run has no time of that."""
    phase = frames.main_phase(run)
    for variant in (run.baseline, SDPA):
        if any(run.time(run.row(case, variant, phase)) for case in run.cases):
            return variant
    return None


def rows(run: Run) -> pl.DataFrame:
    """Return a row for each variant and case: its ratio to the base, and the text that
    stands for it.

    A row without a time, or without a base to be set against, has a null ratio and says why.
    """
    base = base_of(run)
    found: list[dict[str, Any]] = []
    for case, name in frames.case_names(run).items():
        for row in frames.rungs(run, case):
            comparison = run.compare(row, base)
            told = {"base": base, "text": _text(row, comparison)}
            found.append(frames.identity(row, name) | told | frames.ratio_columns(comparison))
    return frames.frame_of(found, SCHEMA)


def _text(row: Row, comparison: Comparison | None) -> str:
    if row["status"] != "ok":
        return str(row["status"])
    if comparison is None:
        return "no base"
    is_clear = comparison.row is comparison.base or is_different(comparison.verdict)
    return ratio_text(comparison.ratio.value) + ("" if is_clear else " ~")


def needs(run: Run) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    absent = frames.why_no_time(run)
    if absent:
        return absent
    return None if base_of(run) else f"{run.label} has no time of PyTorch to compare with."


def chart(run: Run) -> alt.LayerChart:
    """Draw the rows: blue is faster than the base, orange slower, on a symmetric log scale."""
    frame, base_name = rows(run), base_of(run) or run.baseline
    names = [row["printed_name"] for row in frames.variant_rows(run).values()]
    titles = list(frames.case_names(run).values())
    angle = 0 if max(map(len, titles)) <= SHORT else -40
    cases = alt.X(
        "case:N",
        title=None,
        scale=alt.Scale(domain=titles),
        axis=alt.Axis(orient="top", labelAngle=angle, domain=False, ticks=False),
    )
    base = (
        alt.Chart(frame)
        .transform_calculate(interval=theme.span("ratio_low", "ratio_high"))
        .encode(x=cases, y=theme.names_axis(names))
    )
    named = theme.ratio_title("variant", run.printed(base_name))
    color = alt.Color(
        "ratio:Q",
        title=named,
        scale=alt.Scale(
            type="log",
            domain=[0.25, 1, 4],
            range=[theme.BETTER, theme.PALE, theme.WORSE],
            interpolate="lab",
            clamp=True,
            nice=False,
        ),
        legend=alt.Legend(values=[0.25, 0.5, 1, 2, 4], format="~g", gradientLength=220),
    )
    known = base.transform_filter("isValid(datum.ratio)")
    tips = theme.tooltips(*theme.ratio_tooltips(named))
    squares = known.mark_rect(stroke=theme.GRAY, strokeOpacity=0.25).encode(
        color=color, tooltip=tips
    )
    # White is the more legible only on the darkest blue
    figures = known.mark_text(fontSize=11).encode(
        text=alt.Text("text:N"),
        tooltip=tips,
        color=alt.condition("datum.ratio < 0.28", alt.value("white"), alt.value("black")),
    )
    missing = (
        base.transform_filter("!isValid(datum.ratio)")
        .mark_text(fontSize=11, fontStyle="italic", color=theme.GRAY)
        .encode(text=alt.Text("text:N"), tooltip=theme.tooltips(alt.Tooltip("reason:N")))
    )
    layers = alt.LayerChart(layer=[squares, figures, missing])
    sized = layers.properties(width="container", height=alt.Step(theme.ROW_HEIGHT))
    sized.usermeta = theme.room(aside=135, each=COLUMN, count=len(run.cases))
    notes = [
        "~ not resolved, or the same; an empty place was not measured",
        *frames.floor_notes(run),
    ]
    return theme.finish(sized, run.label, notes)
