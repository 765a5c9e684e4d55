"""Time over the length on logarithmic axes, a line for each variant, with its slope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts import frames, panels, theme
from ablation_report.run import Row, Run
from ablation_report.series import MIN_LENGTH, Series, series_of

TITLE = "Time over length"
CAPTION = "A slope of 2 is the square of the length. Gray: the 95% interval."
MOST_PANELS = 12
SCHEMA: frames.Schema = {
    **panels.PANEL,
    **frames.IDENTITY,
    "seq_len": pl.Int64,
    **frames.TIME_MS,
    **dict.fromkeys(("slope", "fitted_ms"), pl.Float64),
}


def drawn_series(run: Run) -> list[Series]:
    """Return the series with two lengths that have a time."""
    return [
        series
        for series in series_of(run)
        if len({row["sizes"]["Nk"] for row in series.rows if run.time(row)}) > 1
    ]


def rows(run: Run) -> pl.DataFrame:
    """Return a row for each row of a series, with the slope fitted over N of 1024 and more and the
    time on that line. A panel is what the cases have in common, and the phase."""

    def time_ns(row: Row) -> float | None:
        time = run.time(row)
        return time.value if time else None

    found: list[dict[str, Any]] = []
    for series in drawn_series(run):
        points, power = series.points(time_ns), series.exponent(time_ns)
        panel = f"{series.where}, {series.phase}"
        for row in series.rows:
            length, time = row["sizes"]["Nk"], run.time(row)
            told = frames.identity(row) | {"panel": panel, "seq_len": length, "slope": power}
            told |= frames.time_columns(time)
            if power is not None and time and length >= MIN_LENGTH:
                told["fitted_ms"] = fitted(points, power, length) / 1e6
            found.append(told)
    return frames.frame_of(found, SCHEMA)


def fitted(points: Sequence[tuple[float, float]], power: float, length: int) -> float:
    """Return the value at a length on the line of this power through the points' middle."""
    product = 1.0
    for x, y in points:
        product *= (y / x**power) ** (1 / len(points))
    return float(product * length**power)


def needs(run: Run) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    if not drawn_series(run):
        return f"{run.label} has no variant with times of two lengths."
    return None


def chart(run: Run) -> alt.FacetChart:
    """Draw the rows: a panel for each group of cases that differ in length alone."""
    frame, n_panels = panels.first_panels(rows(run), MOST_PANELS)
    names = panels.drawn_names(run, frame)
    _, y_axis = theme.log_axis([*frame["time_ms"], *frame["low_ms"], *frame["high_ms"]])
    y_scale = alt.Scale(type="log", nice=False, padding=8)

    def y(column: str) -> alt.Y:
        title = "time of a call (ms, logarithmic)"
        return alt.Y(f"{column}:Q", title=title, scale=y_scale, axis=y_axis)

    base = (
        alt.Chart(frame)
        .transform_calculate(
            interval=theme.span("low_ms", "high_ms"), power=theme.optional("slope", ".2f")
        )
        .encode(x=panels.over_length(frame), color=panels.color_by_variant(run, names))
    )
    timed = base.transform_filter("isValid(datum.time_ms)")
    lines = timed.mark_line(strokeWidth=1.2, opacity=0.8).encode(y=y("time_ms"))
    fits = (
        base.transform_filter("isValid(datum.fitted_ms)")
        .mark_line(strokeWidth=1, strokeDash=[3, 3])
        .encode(y=y("fitted_ms"))
    )
    intervals = (
        timed.transform_filter("isValid(datum.low_ms)")
        .mark_rule(color=theme.GRAY)
        .encode(y=y("low_ms"), y2=alt.Y2("high_ms:Q"))
    )
    dots = timed.mark_point(filled=not run.is_published, size=40, opacity=1).encode(
        y=y("time_ms"),
        shape=panels.shape_by_variant(names),
        tooltip=panels.tooltips(
            alt.Tooltip("time_ms:Q", title="time (ms)", format=theme.DIGITS),
            alt.Tooltip("interval:N", title="95% interval (ms)"),
            alt.Tooltip("power:N", title=f"slope over N of {MIN_LENGTH} and more"),
        ),
    )
    layers = panels.layered(
        frame, ("time_ms", lines), ("fitted_ms", fits), ("low_ms", intervals), ("time_ms", dots)
    ).properties(width=230, height=200)
    faceted = panels.in_panels(layers, frame).resolve_scale(y="independent")
    note = f"Dashed: slope over N of {MIN_LENGTH} and more"
    note += "; hollow: published" if run.is_published else ""
    return panels.finish_panels(faceted, run, note, MOST_PANELS, n_panels, "groups")
