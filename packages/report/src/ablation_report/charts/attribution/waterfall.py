"""From the time of base to that of top, a step for each factor: the steps sum to the difference."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.attribution import worths
from ablation_report.charts import frames, theme
from ablation_report.charts.attribution.bars import WORTH_COLORS, headline, notes
from ablation_report.run import Run

TITLE = "Where the time went"
CAPTION = (
    "From the time with nothing switched on to that with everything: what each factor takes away, "
    "the mean over orders. The steps sum to the difference exactly."
)
WHOLE = "time of a call"


def needs(run: Run, case: str) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    return worths.without(run, case)


def _columns(unit: frames.TimeUnit) -> list[str]:
    return [f"{name}_{unit.suffix}" for name in ("start", "end", "saves", "low", "high")]


def rows(run: Run, case: str) -> pl.DataFrame:
    """Return a row for base, one for each factor that changes a program, the largest worth first,
    and one for top.

    A row leads from `start` to `end`; `saves` is what a factor takes away and `low` to `high` its
    interval, `low` and `high` of base and top those of their times.
    """
    unit = frames.unit_for(run, case)
    start, end, saves, low, high = _columns(unit)
    schema: frames.Schema = {
        **dict.fromkeys(("case", "phase", "printed_name", "kind"), pl.String),
        **dict.fromkeys((start, end, saves, low, high), pl.Float64),
        "label": pl.String,
    }
    found = worths.attribution_of(run, case)
    if found is None:
        return frames.frame_of([], schema)
    known = {"case": frames.case_names(run)[case], "phase": found.phase}
    told: list[dict[str, Any]] = []

    def whole(name: str, ns: float) -> None:
        label = f"{ns / unit.ns:.3g} {unit.symbol}"
        ends = {start: 0.0, end: ns / unit.ns, "label": label}
        told.append({**known, "printed_name": name, "kind": WHOLE, **ends})

    whole(str(found.base["printed_name"]), found.base_ns)
    running = found.base_ns
    for worth in worths.largest_first(found):
        ns = worth.ns
        figures = {start: running / unit.ns, end: (running - ns.value) / unit.ns}
        figures |= {saves: ns.value / unit.ns, low: ns.low / unit.ns, high: ns.high / unit.ns}
        label = f"{-ns.value / unit.ns:+.3g} {unit.symbol}".replace("-", "−")
        name, kind = worth.printed_name, worth.verdict
        told.append({**known, "printed_name": name, "kind": kind, **figures, "label": label})
        running -= ns.value
    whole(str(found.top["printed_name"]), running)
    return frames.frame_of(told, schema)


def chart(run: Run, case: str) -> alt.LayerChart:
    """Draw the rows: a bar from the time before to the time after."""
    frame, unit = rows(run, case), frames.unit_for(run, case)
    found = worths.attribution_of(run, case)
    assert found is not None
    start, end, saves, low, high = _columns(unit)
    most = max([*frame[start], *frame[end]])
    scale = alt.Scale(domain=[min(0.0, *frame[end]), most * 1.15], nice=False)

    def x(column: str) -> alt.X:
        return alt.X(f"{column}:Q", title=f"time of a call ({unit.symbol})", scale=scale)

    base = (
        alt.Chart(frame)
        .transform_calculate(
            right=f"max(datum.{start}, datum.{end})",
            saved=theme.optional(saves),
            interval=theme.span(low, high),
            near=f"datum.{start} - datum.{low}",
            far=f"datum.{start} - datum.{high}",
        )
        .encode(y=theme.names_axis(frame["printed_name"].to_list()))
    )
    tips = [
        alt.Tooltip("printed_name:N", title="factor"),
        alt.Tooltip(f"{end}:Q", title=f"time behind it ({unit.symbol})", format=theme.DIGITS),
        alt.Tooltip("saved:N", title=f"saves ({unit.symbol})"),
        alt.Tooltip("interval:N", title="its interval"),
        alt.Tooltip("kind:N", title="verdict"),
    ]
    bars = base.mark_bar(size=13, opacity=0.9).encode(
        x=x(start),
        x2=f"{end}:Q",
        color=theme.colors("kind", {WHOLE: theme.PALE_GRAY, **WORTH_COLORS}),
        tooltip=tips,
    )
    intervals = (
        base.transform_filter(f"isValid(datum.{saves})")
        .mark_rule(color=theme.GRAY, strokeWidth=2)
        .encode(x=x("near"), x2=alt.X2("far:Q"))
    )
    labels = base.mark_text(align="left", dx=7, color=theme.GRAY, fontSize=11).encode(
        x=x("right"), text=alt.Text("label:N")
    )
    layers = alt.LayerChart(layer=[bars, intervals, labels])
    sized = layers.properties(width="container", height=alt.Step(theme.ROW_HEIGHT))
    told = [*notes(run, case, found), "Gray: the interval of a step, simultaneous over the factors"]
    return theme.finish(sized, headline(run, case), told)
