"""What each factor is worth: the mean over all orders, its interval, and the range over orders."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.attribution import Attribution, Worth, worths
from ablation_report.charts import frames, theme
from ablation_report.run import Run

TITLE = "What each optimization is worth"
CAPTION = (
    "Time without over time with: above 1, an optimization saves time. The bar is the mean over "
    "orders, with its interval. The pale bar reaches from the smallest to the largest contribution "
    "over orders."
)
WORTH_COLORS = {
    "worth": theme.BETTER,
    "costs": theme.WORSE,
    worths.NOT_RESOLVED: theme.UNRESOLVED,
}
NO_EFFECT = "no effect here"
FIRST, LAST = "triangle-right", "triangle-left"
_FIGURES = ("worth", "low", "high", "lowest", "highest", "first_in", "last_in", "main_effect")
SCHEMA: frames.Schema = {
    **dict.fromkeys(("case", "phase", "factor", "printed_name", "what"), pl.String),
    **dict.fromkeys((*_FIGURES, "sampling_error"), pl.Float64),
    **dict.fromkeys(("verdict", "label"), pl.String),
}


def rows(run: Run, case: str) -> pl.DataFrame:
    """Return a row for each factor, the largest worth first, as ratios of time without over time
    with; a factor that changes no program has none and stands last."""
    found = worths.attribution_of(run, case)
    if found is None:
        return frames.frame_of([], SCHEMA)
    name = frames.case_names(run)[case]
    known = {"case": name, "phase": found.phase}
    told = [known | _figures(worth) for worth in worths.largest_first(found)]
    told += [known | {"printed_name": n, "verdict": NO_EFFECT} for n in found.no_effect]
    return frames.frame_of(told, SCHEMA)


def _figures(worth: Worth) -> dict[str, Any]:
    logs = {
        "worth": worth.phi.value,
        "low": worth.phi.low,
        "high": worth.phi.high,
        "lowest": worth.lowest,
        "highest": worth.highest,
        "first_in": worth.first,
        "last_in": worth.last,
        "main_effect": worth.main,
    }
    is_open = worth.verdict == worths.NOT_RESOLVED
    return {
        "factor": worth.name,
        "printed_name": worth.printed_name,
        "what": worth.what,
        **{name: None if log is None else worths.ratio(log) for name, log in logs.items()},
        "sampling_error": worth.sampling_error,
        "verdict": worth.verdict,
        "label": worths.text(worth.phi.value) + (" ~" if is_open else ""),
    }


def needs(run: Run, case: str) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    return worths.without(run, case)


def notes(run: Run, case: str, found: Attribution) -> list[str]:
    """Say what the figures of a case rest on, and its noise."""
    orders = worths.orders_text(found)
    rounds = f"{found.total.n} rounds, {len(found.programs)} programs"
    return [f"{frames.floor_note(run, case)}; {rounds}" + (f"; {orders}" if orders else "")]


def headline(run: Run, case: str) -> str:
    """Name the case and the run of a chart."""
    return f"{frames.case_names(run)[case]}, {run.label}"


def chart(run: Run, case: str) -> alt.LayerChart:
    """Draw the rows: a bar from 1 to the worth, its interval, and behind it the range."""
    frame, found = rows(run, case), worths.attribution_of(run, case)
    assert found is not None
    title = "time without / time with (ratio, log)"
    x = theme.log_channel(
        alt.X, title, [1.0, *(v for name in _FIGURES for v in frame[name])], room=0.12
    )
    base = (
        alt.Chart(frame)
        .transform_calculate(
            one="1",
            right="max(1, datum.highest, datum.high)",
            interval=theme.span("low", "high", ".3f"),
            orders=theme.span("lowest", "highest", ".3f"),
            first=theme.optional("first_in", ".3f"),
            last=theme.optional("last_in", ".3f"),
            main=theme.optional("main_effect", ".3f"),
        )
        .encode(y=theme.names_axis(frame["printed_name"].to_list()))
    )
    known = base.transform_filter("isValid(datum.worth)")
    tips = [
        alt.Tooltip("printed_name:N", title="factor"),
        alt.Tooltip("what:N", title="what it does"),
        alt.Tooltip("worth:Q", title="worth, mean over orders", format=".3f"),
        alt.Tooltip("interval:N", title="its interval"),
        alt.Tooltip("orders:N", title="range over orders"),
        alt.Tooltip("first:N", title="switched on first"),
        alt.Tooltip("last:N", title="switched on last"),
        alt.Tooltip("main:N", title="main effect"),
        alt.Tooltip("verdict:N"),
    ]
    brackets = known.mark_bar(size=16, color=theme.GRAY, opacity=0.25).encode(
        x=x("lowest"), x2=alt.X2("highest:Q"), tooltip=tips
    )
    bars = known.mark_bar(size=6, opacity=0.9).encode(
        x=x("one"), x2=alt.X2("worth:Q"), color=theme.colors("verdict", WORTH_COLORS), tooltip=tips
    )
    intervals = known.mark_rule(color=theme.GRAY, strokeWidth=2).encode(
        x=x("low"), x2=alt.X2("high:Q")
    )
    ends = [
        known.transform_filter(f"isValid(datum.{column})")
        .mark_point(shape=shape, size=45, filled=False, color=theme.GRAY, opacity=1)
        .encode(x=x(column), tooltip=tips)
        for column, shape in (("first_in", FIRST), ("last_in", LAST))
        if frame[column].count()
    ]
    labels = known.mark_text(align="left", dx=8, color=theme.GRAY, fontSize=11).encode(
        x=x("right"), text=alt.Text("label:N")
    )
    one = theme.line_at_one(frame, x, [4, 3])
    layers = [brackets, one, bars, intervals, *ends, labels, _no_effect(base)]
    sized = alt.LayerChart(layer=layers).properties(
        width="container", height=alt.Step(theme.ROW_HEIGHT)
    )
    told = [*notes(run, case, found), "▷ switched on first, ◁ last; ~ not resolved from 1"]
    return theme.finish(sized, headline(run, case), told)


def _no_effect(base: alt.Chart) -> alt.Chart:
    """Write at the left of a factor that it changes no program."""
    text: alt.Chart = (
        base.transform_filter("!isValid(datum.worth)")
        .mark_text(align="left", dx=4, fontSize=11, fontStyle="italic", color=theme.GRAY)
        .encode(
            x=alt.value(0),
            text=alt.Text("verdict:N"),
            tooltip=[
                alt.Tooltip("printed_name:N", title="factor"),
                alt.Tooltip("case:N"),
                alt.Tooltip("verdict:N"),
            ],
        )
    )
    return text
