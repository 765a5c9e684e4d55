"""All programs of a case, fastest first, with the levels that each has switched on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from ablation_report.attribution import worths
from ablation_report.charts import frames, theme
from ablation_report.charts.attribution.bars import headline, notes
from ablation_report.escaping import visible
from ablation_report.run import Run

TITLE = "Every program by its time"
CAPTION = (
    "A column is a program, the fastest at the left: above its time, below what is switched on. "
    "The darker, the higher the level."
)
# Thousands of marks: their descriptions for screen readers would be most of a picture, and the
# table has them. Both parts share a width: names stand at the left of each
WIDTH = 540
ASIDE = 170
TIMES_HEIGHT = 150


def rows(run: Run, case: str) -> pl.DataFrame:
    """Return a row for each program with a time, fastest first: its rank from 1, its time, and the
    lowest point that it is, a digit for each factor in the header's order."""
    unit = frames.unit_for(run, case)
    schema: frames.Schema = {
        **dict.fromkeys(("case", "phase", "variant", "printed_name"), pl.String),
        "rank": pl.Int64,
        **dict.fromkeys((f"{name}_{unit.suffix}" for name in ("time", "low", "high")), pl.Float64),
        "point": pl.String,
    }
    found = worths.attribution_of(run, case)
    if found is None:
        return frames.frame_of([], schema)
    timed = [(time, row, point) for row, point in found.programs if (time := run.time(row))]
    timed.sort(key=lambda entry: entry[0].value)
    known = {"case": frames.case_names(run)[case], "phase": found.phase}
    told: list[dict[str, Any]] = [
        {
            **known,
            "variant": row["variant"],
            "printed_name": row["printed_name"],
            "rank": rank,
            "point": "".join(map(str, point)),
            **frames.time_columns(time, unit),
        }
        for rank, (time, row, point) in enumerate(timed, start=1)
    ]
    return frames.frame_of(told, schema)


def needs(run: Run, case: str) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    return worths.without(run, case)


def chart(run: Run, case: str) -> alt.VConcatChart:
    """Draw the rows: times above, levels below, each program in its column."""
    frame, found = rows(run, case), worths.attribution_of(run, case)
    assert found is not None
    across = alt.Scale(domain=[0.5, frame.height + 0.5], nice=False)
    base = alt.Chart(frame).transform_calculate(
        left="datum.rank - 0.5", right="datum.rank + 0.5", interval=_interval(run, case)
    )
    unit = frames.unit_for(run, case)
    times = _times(base, frame, across, unit)
    made = alt.vconcat(times, _levels(base, run, found.no_effect, across, unit), spacing=8)
    made.usermeta = {"stacked": {"aside": ASIDE, "least": 300}}
    n_missing = len(found.programs) - frame.height
    told = notes(run, case, found)
    told += [f"Programs without a time: {n_missing}"] if n_missing else []
    return theme.finish(made, headline(run, case), told)


def _interval(run: Run, case: str) -> str:
    unit = frames.unit_for(run, case)
    return theme.span(f"low_{unit.suffix}", f"high_{unit.suffix}")


def _tooltips(unit: frames.TimeUnit) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("rank:Q"),
        alt.Tooltip("printed_name:N", title="program"),
        alt.Tooltip(f"time_{unit.suffix}:Q", title=f"time ({unit.symbol})", format=theme.DIGITS),
        alt.Tooltip("interval:N", title="95% interval"),
    ]


def _times(
    base: alt.Chart, frame: pl.DataFrame, across: alt.Scale, unit: frames.TimeUnit
) -> alt.LayerChart:
    """Draw the time of each program with its interval."""
    time, low, high = (f"{name}_{unit.suffix}" for name in ("time", "low", "high"))
    title = f"time ({unit.symbol}, log)"
    y = theme.log_channel(alt.Y, title, [*frame[time], *frame[low], *frame[high]])
    x = alt.X("rank:Q", scale=across, axis=alt.Axis(title=None, labels=False, ticks=False))
    intervals = (
        base.transform_filter(f"isValid(datum.{low})")
        .mark_rule(color=theme.GRAY, aria=False)
        .encode(x=x, y=y(low), y2=f"{high}:Q")
    )
    points = base.mark_point(filled=True, size=14, color=theme.BLUE, opacity=1, aria=False).encode(
        x=x, y=y(time), tooltip=_tooltips(unit)
    )
    layers = [intervals, points] if frame[low].count() else [points]
    made: alt.LayerChart = alt.LayerChart(layer=layers).properties(width=WIDTH, height=TIMES_HEIGHT)
    return made


def _levels(
    base: alt.Chart,
    run: Run,
    no_effect: tuple[str, ...],
    across: alt.Scale,
    unit: frames.TimeUnit,
) -> alt.Chart:
    """Draw a row for each factor that changes a program: dark where its level is high, empty where
    it is at its lowest."""
    shown = [
        (factor, f"toNumber(substring(datum.point, {place}, {place + 1}))")
        for place, factor in enumerate(run.header["factors"])
        if factor["printed_name"] not in no_effect
    ]
    names = [visible(factor["printed_name"]) for factor, _ in shown]
    shares = [f"{digit} / {len(factor['levels']) - 1}" for factor, digit in shown]
    levels = [f"{json.dumps(_visible(factor['levels']))}[{digit}]" for factor, digit in shown]
    each = base.transform_calculate(
        factor=json.dumps(names), share=f"[{', '.join(shares)}]", level=f"[{', '.join(levels)}]"
    ).transform_flatten(["factor", "share", "level"])
    scale = alt.Scale(domain=[0, 1], range=[theme.PALE, theme.BLUE], interpolate="lab")
    made: alt.Chart = (
        each.transform_filter("datum.share > 0")
        .mark_rect(aria=False)
        .encode(
            x=alt.X("left:Q", title="programs, fastest first", scale=across),
            x2=alt.X2("right:Q"),
            y=alt.Y(
                "factor:N",
                title=None,
                scale=alt.Scale(domain=names, paddingInner=0.2),
                axis=alt.Axis(labelLimit=ASIDE - 10),
            ),
            color=alt.Color("share:Q", scale=scale, legend=None),
            tooltip=[
                alt.Tooltip("factor:N"),
                alt.Tooltip("level:N"),
                *_tooltips(unit),
            ],
        )
        .properties(width=WIDTH, height=16 * len(names))
    )
    return made


def _visible(texts: Sequence[str]) -> list[str]:
    """Texts for the inside of a Vega expression."""
    return [visible(text) for text in texts]
