"""Time over the length on logarithmic axes, a line for each implementation, with its slope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts.frames import Schema, frame_of
from ablation_report.charts.suites_common import (
    IDENTITY,
    color_by_impl,
    finish_panels,
    first_panels,
    identity,
    in_panels,
    layered,
    names_of,
    shape_by_impl,
    tooltips,
)
from ablation_report.charts.theme import DIGITS, GRAY, log_axis, optional, span
from ablation_report.suite_series import MIN_LENGTH, Series, series_of
from ablation_report.suite_sources import SuiteSource

MOST_PANELS = 12
SCHEMA: Schema = {
    **IDENTITY,
    "seq_len": pl.Int64,
    **dict.fromkeys(("time_ms", "p05_ms", "p95_ms", "slope", "fitted_ms"), pl.Float64),
}


def drawn_series(source: SuiteSource) -> list[Series]:
    """Return the series with two lengths that have a time."""
    return [
        series
        for series in series_of(source)
        if len({measure["Nk"] for measure in series.measures if measure.timing}) > 1
    ]


def panel_of(series: Series) -> str:
    """Write the panel of a series: what its cases have in common, and the phase."""
    return f"{series.where}, {series.phase}"


def rows(source: SuiteSource) -> pl.DataFrame:
    """Return a row for each measure of a series, with the slope fitted over N of 1024 and more and
    the time on that line."""
    found: list[dict[str, Any]] = []
    for series in drawn_series(source):
        points = series.points(lambda m: m.time_ns)
        power = series.exponent(lambda m: m.time_ns)
        for measure in series.measures:
            row = identity(measure, panel_of(series)) | {"seq_len": measure["Nk"], "slope": power}
            if timing := measure.timing:
                ends = {"time": timing.time_ns, "p05": timing.p05_ns, "p95": timing.p95_ns}
                row |= {f"{k}_ms": None if ns is None else ns / 1e6 for k, ns in ends.items()}
            if power is not None and measure.timing and measure["Nk"] >= MIN_LENGTH:
                row["fitted_ms"] = fitted(points, power, measure["Nk"]) / 1e6
            found.append(row)
    return frame_of(found, SCHEMA)


def fitted(points: Sequence[tuple[float, float]], power: float, length: int) -> float:
    """Return the value at a length on the line of this power through the points' middle."""
    product = 1.0
    for x, y in points:
        product *= (y / x**power) ** (1 / len(points))
    return float(product * length**power)


def needs(source: SuiteSource) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    panels = {panel_of(series) for series in drawn_series(source)}
    if not panels:
        return f"{source.label} has no implementation with times of two lengths."
    return None


def chart(source: SuiteSource) -> alt.FacetChart:
    """Draw the rows: a panel for each group of cases that differ in length alone."""
    frame, n_panels = first_panels(rows(source), MOST_PANELS)
    drawn = set(frame["impl"].to_list())
    names = [name for name in names_of(source.measures) if name in drawn]
    lengths = sorted(set(frame["seq_len"].to_list()))
    _, y_axis = log_axis([*frame["time_ms"], *frame["p05_ms"], *frame["p95_ms"]])
    y_scale = alt.Scale(type="log", nice=False, padding=8)
    title = "time of a call (ms, logarithmic)"
    base = (
        alt.Chart(frame)
        .transform_calculate(whisker=span("p05_ms", "p95_ms"), power=optional("slope", ".2f"))
        .encode(
            x=alt.X(
                "seq_len:Q",
                title="sequence length (log)",
                scale=alt.Scale(type="log", base=2, nice=False, padding=12),
                axis=alt.Axis(values=lengths, format="d", labelOverlap=True),
            ),
            color=color_by_impl(names),
        )
    )
    y = alt.Y("time_ms:Q", title=title, scale=y_scale, axis=y_axis)
    timed = base.transform_filter("isValid(datum.time_ms)")
    lines = timed.mark_line(strokeWidth=1.2, opacity=0.8).encode(y=y)
    fits = (
        base.transform_filter("isValid(datum.fitted_ms)")
        .mark_line(strokeWidth=1, strokeDash=[3, 3])
        .encode(y=alt.Y("fitted_ms:Q", title=title, scale=y_scale, axis=y_axis))
    )
    whiskers = (
        timed.transform_filter("isValid(datum.p05_ms)")
        .mark_rule(color=GRAY)
        .encode(y=alt.Y("p05_ms:Q", title=title, scale=y_scale, axis=y_axis), y2="p95_ms:Q")
    )
    dots = timed.mark_point(filled=not source.is_published, size=40, opacity=1).encode(
        y=y,
        shape=shape_by_impl(names),
        tooltip=tooltips(
            alt.Tooltip("time_ms:Q", title="time (ms)", format=DIGITS),
            alt.Tooltip("whisker:N", title="p05 to p95 (ms)"),
            alt.Tooltip("power:N", title=f"slope over N of {MIN_LENGTH} and more"),
        ),
    )
    layers = layered(
        frame, ("time_ms", lines), ("fitted_ms", fits), ("p05_ms", whiskers), ("time_ms", dots)
    ).properties(width=230, height=200)
    faceted = in_panels(layers, frame).resolve_scale(y="independent")
    note = f"Dashed: slope over N of {MIN_LENGTH} and more"
    note += "; hollow: published" if source.is_published else ""
    return finish_panels(faceted, source, note, MOST_PANELS, n_panels, "groups")
