"""The evidence as a chart: what each candidate calls, by the size of what is there."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts import theme
from ablation_report.escaping import all_visible
from ablation_report.evidence import Evidence
from ablation_report.evidence.candidates import CHOSEN, EARLIER
from ablation_report.evidence.verdicts import INJECTED

TITLE = "What a verdict calls"
CAPTION = (
    "Twins of which one was made slower by a part, and the share of them called different. At 0 "
    "every call is a false one; the dashed line is the 5 % that are allowed."
)
MOST_FALSE = 0.05
SCHEMA = {"candidate": pl.String, "slower": pl.Float64, "called": pl.Float64}
COLORS = (theme.ORANGE, theme.SKY, theme.GREEN, theme.PURPLE, theme.PALE_GRAY, theme.OLIVE)


def rows(found: Evidence) -> pl.DataFrame:
    """Return the share of exchanged twins that each candidate calls, by the part that was
    injected; none without twins."""
    lines = [
        {"candidate": quality.candidate.title, "slower": part, "called": share}
        for quality in found.qualities
        for part, share in (
            (0.0, quality.exchanged.share),
            *((part, quality.power_at(part)) for part in INJECTED),
        )
        if share is not None
    ]
    return pl.DataFrame(lines, schema=SCHEMA, orient="row")


def draw(found: Evidence) -> dict[str, Any]:
    """Return the chart as Vega-Lite; the chosen definition is the widest line."""
    frame = rows(found)
    names = list(dict.fromkeys(frame["candidate"].to_list()))
    others = iter(COLORS)
    known = {CHOSEN.title: theme.BLUE, EARLIER.title: theme.GRAY}
    by_name = {name: known.get(name) or next(others) for name in names}
    base = alt.Chart(frame).encode(
        x=alt.X(
            "slower:Q",
            title="one of two equal programs made slower by",
            axis=alt.Axis(format=".0%", values=[0.0, *INJECTED]),
        ),
        y=alt.Y("called:Q", title="called different", axis=alt.Axis(format=".0%")),
        color=theme.colors("candidate", by_name, legend=alt.Legend(columns=1, labelLimit=420)),
    )
    is_chosen = alt.datum.candidate == CHOSEN.title
    lines = base.mark_line().encode(
        strokeWidth=alt.condition(is_chosen, alt.value(3), alt.value(1.2)),
        detail="candidate:N",
    )
    dots = base.mark_point(filled=True, size=40, opacity=1).encode(
        tooltip=[
            alt.Tooltip("candidate:N"),
            alt.Tooltip("slower:Q", format=".0%"),
            alt.Tooltip("called:Q", title="called different", format=".1%"),
        ]
    )
    limit = alt.Chart(pl.DataFrame({"most": [MOST_FALSE]})).mark_rule(
        strokeDash=[4, 3], color=theme.GRAY
    )
    layers = limit.encode(y="most:Q") + lines + dots
    sized: alt.LayerChart = layers.properties(width="container", height=260)
    drawn: dict[str, Any] = all_visible(theme.finish(sized, TITLE).to_dict())
    return drawn
