"""The best of ours against the runtimes of others, case by case."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts import frames, theme
from ablation_report.means import ratio_text
from ablation_report.run import LEAGUE, Run, is_other, is_ours

TITLE = "Against the runtimes of others"
CAPTION = "Time, our fastest variant / each runtime, of common rounds. Below 1 ours is faster."
COLUMNS = 3
NAMED = theme.ratio_title("ours", "other")
SCHEMA: frames.Schema = {**frames.IDENTITY, "ours": pl.String, **frames.RATIO, "label": pl.String}


def rows(run: Run) -> pl.DataFrame:
    """Return a row for each runtime of others, PyTorch among them, in each case.

    The ratio is the time of the best of ours in the case over its own, of common rounds; the
    verdict is that of ours: "faster" where ours is faster.
    """
    found: list[dict[str, Any]] = []
    for case, name in frames.case_names(run).items():
        best = run.best(case, is_ours)
        for row in filter(is_other, frames.rungs(run, case)):
            compared = frames.ratio_columns(run.compare(best, row))
            told = (
                frames.identity(row, name) | {"ours": best["variant"] if best else None} | compared
            )
            if compared:
                told["label"] = (
                    f"{ratio_text(compared['ratio'])} {theme.VERDICT_MARKS[compared['verdict']]}"
                )
            found.append(told)
    return frames.frame_of(found, SCHEMA)


def needs(run: Run) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    absent = frames.why_no_time(run)
    if absent:
        return absent
    if not any(row["group"] == LEAGUE for row in run.rows):
        return f"{run.label} measured no runtime of the league."
    if rows(run)["ratio"].count() == 0:
        return f"{run.label} has no config with a time of ours and of another runtime."
    return None


def chart(run: Run) -> alt.FacetChart:
    """Draw the rows: bars that leave 1, to the left where ours is faster, a panel a case."""
    frame = rows(run)
    values = [*frame["ratio"], *frame["ratio_low"], *frame["ratio_high"], 1.0]
    x = theme.log_channel(alt.X, NAMED, values, room=0.3)
    names = [row["printed_name"] for row in frames.variant_rows(run).values() if is_other(row)]
    base = (
        alt.Chart(frame)
        .transform_calculate(
            one="1",
            right="max(1, isValid(datum.ratio_high) ? datum.ratio_high : datum.ratio)",
            interval=theme.span("ratio_low", "ratio_high", ".3f"),
        )
        .encode(y=theme.names_axis(names))
    )
    known = base.transform_filter("isValid(datum.ratio)")
    bars = known.mark_bar(size=11, opacity=0.9).encode(
        x=x("ratio"),
        x2=alt.X2("one:Q"),
        color=theme.verdict_color("ours / other"),
        tooltip=theme.tooltips(
            alt.Tooltip("ours:N", title="best of ours"),
            *theme.ratio_tooltips(NAMED),
        ),
    )
    intervals = (
        known.transform_filter("isValid(datum.ratio_low)")
        .mark_rule(color=theme.GRAY, strokeWidth=1.5)
        .encode(x=x("ratio_low"), x2=alt.X2("ratio_high:Q"))
    )
    labels = known.mark_text(align="left", dx=5, color=theme.GRAY, fontSize=10).encode(
        x=x("right"), text=alt.Text("label:N")
    )
    one = theme.line_at_one(frame, x, [1, 0])
    layers = alt.LayerChart(layer=[bars, one, intervals, labels, theme.status_text(base)])
    cases = list(frames.case_names(run).values())
    panels = layers.properties(width=170, height=alt.Step(18)).facet(
        facet=alt.Facet("case:N", title=None, sort=cases), columns=COLUMNS
    )
    panels.usermeta = theme.panel_room(frame["case"].n_unique(), aside=125, each=22, least=165)
    note = "Left of 1: ours is faster (▼ faster, ▲ slower, = same, ~ not resolved)"
    return theme.finish(panels, run.label, [note, *frames.floor_notes(run)])
