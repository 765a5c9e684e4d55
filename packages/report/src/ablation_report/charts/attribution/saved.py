"""What each optimization saves of a call, in one short picture: the longest bar first."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.attribution import Attribution, rounding, worths
from ablation_report.charts import frames, theme
from ablation_report.charts.attribution.bars import WORTH_COLORS
from ablation_report.run import Run

TITLE = "What each optimization saves"
CAPTION = "The mean over all orders; the savings add up."
WORDS = {"worth": "saves time", "costs": "costs time", worths.NOT_RESOLVED: "not resolved"}
SCHEMA: frames.Schema = {
    **dict.fromkeys(("case", "factor", "printed_name", "what"), pl.String),
    **dict.fromkeys(("saves_ms", "low_ms", "high_ms", "share"), pl.Float64),
    **dict.fromkeys(("verdict", "label"), pl.String),
}


def rows(run: Run, case: str) -> pl.DataFrame:
    """Return a row for each factor that changes a program, the largest worth first: the
    milliseconds of a call that it saves, and their share of the time of base."""
    found = worths.attribution_of(run, case)
    if found is None:
        return frames.frame_of([], SCHEMA)
    name, ordered = frames.case_names(run)[case], worths.largest_first(found)
    texts = printed(found)
    told: list[dict[str, Any]] = [
        {
            "case": name,
            "factor": worth.name,
            "printed_name": worth.printed_name,
            "what": worth.what,
            "saves_ms": worth.ns.value / 1e6,
            "low_ms": worth.ns.low / 1e6,
            "high_ms": worth.ns.high / 1e6,
            "share": worth.ns.value / found.base_ns,
            "verdict": WORDS[worth.verdict],
            "label": f"{saved} {texts.unit}{_mark(worth.verdict)}",
        }
        for worth, saved in zip(ordered, texts.parts, strict=True)
    ]
    return frames.frame_of(told, SCHEMA)


def printed(found: Attribution) -> rounding.PrintedTimes:
    """Write the times of base and top, and what each factor saves, the largest worth first."""
    saved = [worth.ns.value for worth in worths.largest_first(found)]
    return rounding.times(found.base_ns, found.top_ns, saved)


def _mark(verdict: str) -> str:
    return " ~" if verdict == worths.NOT_RESOLVED else ""


def chart(run: Run, case: str) -> alt.LayerChart:
    """Draw the rows: a bar for each factor, to the right where it saves time."""
    frame = rows(run, case)
    low, high = min([0.0, *frame["share"]]), max([0.0, *frame["share"]])
    room = 0.35 * (high - low or 1.0)
    scale = alt.Scale(domain=[low, high + room], nice=False)
    x = alt.X("share:Q", title="share of the time with all off", scale=scale, axis=_axis())
    base = (
        alt.Chart(frame)
        .transform_calculate(interval=theme.span("low_ms", "high_ms"), right="max(0, datum.share)")
        .encode(y=theme.names_axis(frame["printed_name"].to_list()))
    )
    colors = {WORDS[verdict]: color for verdict, color in WORTH_COLORS.items()}
    shown = {word: color for word, color in colors.items() if word in set(frame["verdict"])}
    bars = base.mark_bar(size=11, opacity=0.9).encode(
        x=x,
        x2=alt.datum(0),
        color=theme.colors("verdict", shown),
        tooltip=[
            alt.Tooltip("printed_name:N", title="optimization"),
            alt.Tooltip("what:N", title="what it does"),
            alt.Tooltip("saves_ms:Q", title="saves (ms)", format=theme.DIGITS),
            alt.Tooltip("interval:N", title="its interval (ms)"),
            alt.Tooltip("share:Q", title="share of the time with all off", format=".1%"),
            alt.Tooltip("verdict:N"),
        ],
    )
    labels = base.mark_text(align="left", dx=5, color=theme.GRAY, fontSize=11).encode(
        x=alt.X("right:Q", scale=scale), text=alt.Text("label:N")
    )
    layers = alt.LayerChart(layer=[bars, labels])
    return theme.finish(layers.properties(width="container", height=alt.Step(18)), "")


def _axis() -> alt.Axis:
    return alt.Axis(format=".0%", tickCount=4)
