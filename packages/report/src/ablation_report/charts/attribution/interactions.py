"""Which factors gain more together than apart, and which save the same time: every pair."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.attribution import worths
from ablation_report.charts import frames, theme
from ablation_report.charts.attribution.bars import headline, notes
from ablation_report.run import Run

TITLE = "Which two save the same time"
CAPTION = (
    "What two factors gain together over the product of what each gains alone. Below 1 they save "
    "the same time, above 1 one helps the other."
)
# From here outwards a color is as strong as it gets
STRONGEST = 1.4
SCHEMA: frames.Schema = {
    **dict.fromkeys(("case", "phase", "printed_name", "other"), pl.String),
    **dict.fromkeys(("interaction", "together"), pl.Float64),
    **dict.fromkeys(("verdict", "text"), pl.String),
}


def rows(run: Run, case: str) -> pl.DataFrame:
    """Return a row for each two factors that change a program: the interaction, a logarithm, and
    the ratio that it is of."""
    found = worths.attribution_of(run, case)
    told: list[dict[str, Any]] = []
    if found is not None:
        name = frames.case_names(run)[case]
        printed = {worth.name: worth.printed_name for worth in found.worths}
        for (first, second), log in found.pairs.items():
            is_clear = worths.is_beyond(log, worths.TWO_CONTRIBUTIONS, found.floor)
            together = worths.ratio(log)
            told.append(
                {
                    "case": name,
                    "phase": found.phase,
                    "printed_name": printed[second],
                    "other": printed[first],
                    "interaction": log,
                    "together": together,
                    "verdict": _verdict(log) if is_clear else worths.NOT_RESOLVED,
                    "text": f"{together:.2f}{'' if is_clear else ' ~'}",
                }
            )
    return frames.frame_of(told, SCHEMA)


def _verdict(log: float) -> str:
    return "they save the same time" if log < 0 else "one helps the other"


def needs(run: Run, case: str) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    found = worths.attribution_of(run, case)
    if found is None:
        return worths.without(run, case)
    name = frames.case_names(run)[case]
    if found.pairs:
        return None
    if orders := worths.orders_text(found):
        return f"Interactions take the time of every program; {name} has only {orders}."
    return f"No two factors change a program at {name} together."


def chart(run: Run, case: str) -> alt.LayerChart:
    """Draw the rows: blue where one helps the other, orange where both save the same time."""
    frame, found = rows(run, case), worths.attribution_of(run, case)
    assert found is not None
    names = [worth.printed_name for worth in found.worths]
    across, down = (
        [name for name in names if name in set(frame[column])]
        for column in ("other", "printed_name")
    )
    x = alt.X(
        "other:N",
        title=None,
        scale=alt.Scale(domain=across),
        axis=alt.Axis(orient="top", labelAngle=-40, domain=False, ticks=False, labelLimit=190),
    )
    base = alt.Chart(frame).encode(x=x, y=theme.names_axis(down))
    color = alt.Color(
        "together:Q",
        title="both together over the product of each alone (ratio)",
        scale=alt.Scale(
            type="log",
            domain=[1 / STRONGEST, 1, STRONGEST],
            range=[theme.WORSE, theme.PALE, theme.BETTER],
            interpolate="lab",
            clamp=True,
            nice=False,
        ),
        legend=alt.Legend(values=[0.75, 0.9, 1, 1.1, 1.3], format="~g", gradientLength=220),
    )
    tips = [
        alt.Tooltip("other:N", title="factor"),
        alt.Tooltip("printed_name:N", title="and"),
        alt.Tooltip("together:Q", title="together over the product", format=".3f"),
        alt.Tooltip("verdict:N"),
    ]
    squares = base.mark_rect(stroke=theme.GRAY, strokeOpacity=0.25).encode(
        color=color, tooltip=tips
    )
    # White is the more legible only on the darkest blue
    figures = base.mark_text(fontSize=11).encode(
        text=alt.Text("text:N"),
        tooltip=tips,
        color=alt.condition(
            f"datum.together > {0.95 * STRONGEST}", alt.value("white"), alt.value("black")
        ),
    )
    layers = alt.LayerChart(layer=[squares, figures])
    sized = layers.properties(width="container", height=alt.Step(theme.ROW_HEIGHT))
    sized.usermeta = theme.room(aside=150, each=42, count=len(across))
    told = [*notes(run, case, found), _higher(found.higher)]
    return theme.finish(sized, headline(run, case), told)


def _higher(log: float | None) -> str:
    mark = "~ not resolved from 1; an empty place: one needs the other"
    return mark if log is None else f"{mark}; more than two together: {worths.ratio(log):.2f}"
