"""Times of a tier as bars with whiskers; what has no time is named at the axis, never a bar."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts.frames import Schema, frame_of
from ablation_report.charts.suites_common import (
    IDENTITY,
    ORIGIN_COLORS,
    device_of,
    identity,
    in_panels,
    layered,
    names_of,
    tooltips,
    why_no_time,
)
from ablation_report.charts.theme import DIGITS, GRAY, finish, log_axis, span
from ablation_report.suite_series import short_case
from ablation_report.suite_sources import Measure, SuiteSource
from ablation_report.suite_tables import tier_title

# More panels than this are a wall; the map and the lines show those tiers
MOST_PANELS = 16
SCHEMA: Schema = {
    **IDENTITY,
    **dict.fromkeys(("time_ms", "p05_ms", "p95_ms", "mean_ms", "std_ms", "min_ms"), pl.Float64),
    "n": pl.Int64,
    "kind": pl.String,
}
Group = tuple[str, int | None]


def groups(source: SuiteSource) -> list[Group]:
    """Return the tiers of a source with their numbers of threads, in order."""
    return list(dict.fromkeys((m["tier"], m["threads"]) for m in source.measures))


def rows(source: SuiteSource, tier: str, threads: int | None) -> pl.DataFrame:
    """Return a row for each case, implementation and phase of a tier.

    The whiskers of a recorded row are its 5th and 95th of a hundred samples; a published one has
    none, and its mean, or one cold run, for a median.
    """
    found = [
        identity(measure, _panel(source, measure)) | _figures(measure)
        for measure in source.measures
        if (measure["tier"], measure["threads"]) == (tier, threads)
    ]
    return frame_of(found, SCHEMA)


def _panel(source: SuiteSource, measure: Measure) -> str:
    phases = {m["phase"] for m in source.measures}
    phase = f", {measure['phase']}" if len(phases) > 1 else ""
    return f"{short_case(measure)}{phase}"


def _figures(measure: Measure) -> dict[str, Any]:
    timing = measure.timing
    if timing is None:
        return {}
    names = ("time", "p05", "p95", "mean", "std", "min")
    values = {name: getattr(timing, f"{name}_ns") for name in names}
    return {
        "kind": timing.kind,
        "n": timing.n,
        **{f"{name}_ms": None if ns is None else ns / 1e6 for name, ns in values.items()},
    }


def needs(source: SuiteSource, tier: str, threads: int | None) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    if absent := why_no_time(source):
        return absent
    frame = rows(source, tier, threads)
    if not frame["time_ms"].count():
        return f"No time was measured in tier {tier}."
    count = frame["panel"].n_unique()
    if count > MOST_PANELS:
        return f"{count} cases and phases are too many for bars; the map and the lines show them."
    return None


def chart(source: SuiteSource, tier: str, threads: int | None) -> alt.FacetChart:
    """Draw the rows: a panel for each case, a bar for each implementation."""
    frame = rows(source, tier, threads)
    names = names_of(m for m in source.measures if m["tier"] == tier)
    scale, axis = log_axis([*frame["time_ms"], *frame["p05_ms"], *frame["p95_ms"]])
    x = alt.X("time_ms:Q", title="time of a call (ms, logarithmic)", scale=scale, axis=axis)
    y = alt.Y("impl:N", title=None, scale=alt.Scale(domain=names), axis=alt.Axis(labelLimit=190))
    color = alt.Color(
        "origin:N",
        title=None,
        scale=alt.Scale(domain=list(ORIGIN_COLORS), range=list(ORIGIN_COLORS.values())),
    )
    base = alt.Chart(frame).transform_calculate(whisker=span("p05_ms", "p95_ms")).encode(y=y)
    timed = base.transform_filter("isValid(datum.time_ms)")
    tips = tooltips(
        alt.Tooltip("time_ms:Q", title="time (ms)", format=DIGITS),
        alt.Tooltip("kind:N", title="which is the"),
        alt.Tooltip("whisker:N", title="p05 to p95 (ms)"),
        alt.Tooltip("n:Q", title="samples"),
    )
    # Published figures are hollow; a bar starts at the axis, since a log scale has no zero
    filled = 0.0 if source.is_published else 0.85
    bars = timed.mark_bar(height=9, fillOpacity=filled, strokeWidth=1.2).encode(
        x=x, x2=alt.datum(scale.to_dict()["domain"][0]), color=color, stroke=color, tooltip=tips
    )
    whiskers = (
        timed.transform_filter("isValid(datum.p05_ms)")
        .mark_rule(color=GRAY, strokeWidth=1.5)
        .encode(x=alt.X("p05_ms:Q", scale=scale, axis=axis), x2="p95_ms:Q")
    )
    absent = (
        base.transform_filter("!isValid(datum.time_ms)")
        .mark_text(align="left", dx=3, fontSize=10, fontStyle="italic", color=GRAY)
        .encode(
            x=alt.value(0),
            text="status:N",
            tooltip=tooltips(alt.Tooltip("status:N"), alt.Tooltip("reason:N")),
        )
    )
    layers = layered(frame, ("time_ms", bars), ("p05_ms", whiskers), ("panel", absent))
    sized = layers.properties(width=230, height=alt.Step(15))
    faceted = in_panels(sized, frame, has_long_titles=True)
    return finish(faceted, f"{source.label}: {tier_title(source, tier, threads)}", _notes(source))


def _notes(source: SuiteSource) -> list[str]:
    if source.is_published:
        return [f"On {device_of(source)}", "Hollow: published, one figure each, without whiskers"]
    return ["Bars: median; whiskers: 5th to 95th of a hundred samples"]
