"""The runtimes of others against the best of ours, config by config."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts.frames import (
    IDENTITY,
    RATIO,
    Schema,
    frame_of,
    identity,
    in_order,
    ordered,
    ratio_columns,
    why_no_time,
)
from ablation_report.charts.theme import (
    GRAY,
    VERDICT_MARKS,
    finish,
    log_axis,
    names_axis,
    panel_room,
    span,
    status_text,
    verdict_color,
)
from ablation_report.ladder import LEAGUE, NAIVE, SDPA
from ablation_report.metrics import Cell
from ablation_report.sources import Source

COLUMNS = 3
SCHEMA: Schema = {
    "config": pl.String,
    **IDENTITY,
    "ours": pl.String,
    **RATIO,
    "label": pl.String,
}


def rows(source: Source) -> pl.DataFrame:
    """Return a row for PT naive, PT SDPA and each of the league at each config.

    The ratio is its time over that of the best of ours at the config, paired by round; above 1 ours
    is faster. `verdict` is that of the other: "slower" where ours is faster.
    """
    found: list[dict[str, Any]] = []
    for config in source.configs:
        best = source.best(config)
        for cell in filter(_is_other, ordered(source, config)):
            compared = ratio_columns(source.compare(config, cell["variant"], best))
            known = {"config": config, **identity(cell), "ours": best}
            label = (
                f"{compared['ratio']:.2f} {VERDICT_MARKS[compared['verdict']]}"
                if compared
                else None
            )
            found.append(known | compared | {"label": label})
    return frame_of(found, SCHEMA)


def _is_other(cell: Cell) -> bool:
    return cell["variant"] in (NAIVE, SDPA) or cell["group"] == LEAGUE


def needs(source: Source) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    absent = why_no_time(source)
    if absent:
        return absent
    if not any(cell["group"] == LEAGUE for cell in source.cells):
        return f"{source.label} measured no runtime of the league."
    if rows(source)["ratio"].count() == 0:
        return f"{source.label} has no config with a time of ours and of another runtime."
    return None


def chart(source: Source) -> alt.FacetChart:
    """Draw the rows: bars that leave 1, to the right where ours is faster, a panel a config."""
    frame = rows(source)
    scale, axis = log_axis(
        [*frame["ratio"], *frame["ratio_low"], *frame["ratio_high"], 1.0], room=0.3
    )
    title = "time over ours (ratio)"
    others = {cell["variant"]: cell for cell in source.cells if _is_other(cell)}
    names = [cell["printed_name"] for cell in in_order(others.values())]

    def x(field: str) -> alt.X:
        return alt.X(field, title=title, scale=scale, axis=axis)

    base = (
        alt.Chart(frame)
        .transform_calculate(
            one="1",
            right="max(1, isValid(datum.ratio_high) ? datum.ratio_high : datum.ratio)",
            interval=span("ratio_low", "ratio_high", ".3f"),
        )
        .encode(y=names_axis(names))
    )
    known = base.transform_filter("isValid(datum.ratio)")
    bars = known.mark_bar(size=11, opacity=0.9).encode(
        x=x("ratio:Q"),
        x2="one:Q",
        color=verdict_color("the other runtime, against ours"),
        tooltip=[
            alt.Tooltip("config:N"),
            alt.Tooltip("printed_name:N", title="runtime"),
            alt.Tooltip("ours:N", title="best of ours"),
            alt.Tooltip("ratio:Q", title="time over ours", format=".3f"),
            alt.Tooltip("interval:N", title="95% interval"),
            alt.Tooltip("n_rounds:Q", title="rounds"),
            alt.Tooltip("verdict:N"),
        ],
    )
    intervals = (
        known.transform_filter("isValid(datum.ratio_low)")
        .mark_rule(color=GRAY, strokeWidth=1.5)
        .encode(x=x("ratio_low:Q"), x2="ratio_high:Q")
    )
    labels = known.mark_text(align="left", dx=5, color=GRAY, fontSize=10).encode(
        x=x("right:Q"), text="label:N"
    )
    one = (
        alt.Chart(frame)
        .transform_aggregate(cells="count()")
        .transform_calculate(one="1")
        .mark_rule(color=GRAY)
        .encode(x=x("one:Q"))
    )
    layers = alt.LayerChart(layer=[bars, one, intervals, labels, status_text(base)])
    panels = layers.properties(width=170, height=alt.Step(18)).facet(
        facet=alt.Facet("config:N", title=None, sort=list(source.configs)), columns=COLUMNS
    )
    count = frame["config"].n_unique()
    panels.usermeta = panel_room(count, aside=125, each=22, least=165)
    return finish(panels, source.label, _notes(source))


def _notes(source: Source) -> list[str]:
    notes = ["Right of 1: ours is faster (▲ the other is slower, ▼ faster, = same, ~ not resolved)"]
    without = [config for config in source.configs if source.floor(config) is None]
    if without:
        notes.append(f"No A/A pair, so that nothing is resolved: {', '.join(without)}")
    return notes
