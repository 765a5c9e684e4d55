"""How the time of each variant grows with the work of the block, on logarithmic axes."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts.frames import (
    IDENTITY,
    Schema,
    ends,
    frame_of,
    identity,
    ordered,
    why_no_time,
)
from ablation_report.charts.theme import (
    BLUE,
    DIGITS,
    GRAY,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    finish,
    log_axis,
    optional,
    span,
)
from ablation_report.fit import slope
from ablation_report.ladder import DEFAULT, NAIVE, SDPA
from ablation_report.sources import Source

# The few that are told apart; lines of all would hide each other
COLORED = {
    NAIVE: ORANGE,
    SDPA: VERMILION,
    "passes-none": PURPLE,
    "flash-layernorm": SKY,
    DEFAULT: BLUE,
    "openvino": GREEN,
}
SHAPES = ("circle", "square", "cross", "diamond", "triangle-up", "triangle-down")
OTHERS = "the other variants"
SCHEMA: Schema = {
    "config": pl.String,
    **IDENTITY,
    "gflop": pl.Float64,
    **dict.fromkeys(("time_ms", "low_ms", "high_ms", "gflop_per_s", "slope"), pl.Float64),
    "n_sizes": pl.Int64,
    "series": pl.String,
}


def rows(source: Source) -> pl.DataFrame:
    """Return a row for each cell: the FLOPs of its block, its time, and the slope of its variant.

    A slope of 1 is time in proportion to FLOPs; it is fitted over all sizes of the variant, and
    null where there are not two.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    for cell in source.cells:
        if time := source.time(cell["config"], cell["variant"]):
            points.setdefault(cell["variant"], []).append((cell["flops"], time.median))
    found: list[dict[str, Any]] = []
    for config in source.configs:
        for cell in ordered(source, config):
            variant = cell["variant"]
            time = source.time(config, variant)
            low, high = ends(time, 1e6)
            found.append(
                {
                    "config": config,
                    **identity(cell),
                    "gflop": cell["flops"] / 1e9,
                    "time_ms": time.median / 1e6 if time else None,
                    "low_ms": low,
                    "high_ms": high,
                    "gflop_per_s": cell["flops"] / time.median if time else None,
                    "slope": slope(points.get(variant, [])),
                    "n_sizes": len(points.get(variant, [])),
                    "series": _series(source, variant, slope(points.get(variant, []))),
                }
            )
    return frame_of(found, SCHEMA)


def _series(source: Source, variant: str, fitted: float | None) -> str:
    if variant not in COLORED:
        return OTHERS
    known = "no slope" if fitted is None else f"slope {fitted:.2f}"
    return f"{source.printed(variant)}, {known}"


def needs(source: Source) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    return why_no_time(source)


def chart(source: Source) -> alt.LayerChart:
    """Draw the rows: a line for each variant, a few of them in color."""
    frame = rows(source)
    series = {row["variant"]: row["series"] for row in frame.iter_rows(named=True)}
    colored = [variant for variant in COLORED if variant in series]
    names = [series[variant] for variant in colored]
    colors = [COLORED[variant] for variant in colored]
    shapes = list(SHAPES[: len(names)])
    if OTHERS in series.values():
        names, colors, shapes = [*names, OTHERS], [*colors, "#A6A6A6"], [*shapes, "triangle-right"]
    timed = frame.filter(pl.col("time_ms").is_not_null())
    x_scale, x_axis = log_axis(timed["gflop"])
    y_scale, y_axis = log_axis([*timed["time_ms"], *timed["low_ms"], *timed["high_ms"]])
    legend = alt.Legend(columns=3, symbolOpacity=1)
    x_title = "work of the block (GFLOP, logarithmic)"
    y_title = "time of a call (ms, logarithmic)"
    base = (
        alt.Chart(frame)
        .transform_filter("isValid(datum.time_ms)")
        .transform_calculate(interval=span("low_ms", "high_ms"), fitted=optional("slope", ".2f"))
        .encode(
            x=alt.X("gflop:Q", title=x_title, scale=x_scale, axis=x_axis),
            y=alt.Y("time_ms:Q", title=y_title, scale=y_scale, axis=y_axis),
            color=alt.Color(
                "series:N", title=None, scale=alt.Scale(domain=names, range=colors), legend=legend
            ),
            detail="variant:N",
        )
    )
    is_other = f"datum.series === '{OTHERS}'"
    # Painted first, so that what has a color lies above
    others = base.transform_filter(is_other).mark_line(strokeWidth=0.75, opacity=0.5)
    lines = base.transform_filter(f"!({is_other})").mark_line(strokeWidth=1.5)
    intervals = (
        base.transform_filter("isValid(datum.low_ms)")
        .mark_rule(color=GRAY)
        .encode(y=alt.Y("low_ms:Q", title=y_title, scale=y_scale, axis=y_axis), y2="high_ms:Q")
    )
    points = base.encode(
        shape=alt.Shape(
            "series:N", title=None, scale=alt.Scale(domain=names, range=shapes), legend=legend
        ),
        tooltip=[
            alt.Tooltip("printed_name:N", title="variant"),
            alt.Tooltip("config:N"),
            alt.Tooltip("gflop:Q", title="work (GFLOP)", format=DIGITS),
            alt.Tooltip("time_ms:Q", title="time (ms)", format=DIGITS),
            alt.Tooltip("interval:N", title="95% interval (ms)"),
            alt.Tooltip("gflop_per_s:Q", title="rate (GFLOP/s)", format=DIGITS),
            alt.Tooltip("fitted:N", title="slope over its sizes"),
        ],
    )
    faint = points.transform_filter(is_other).mark_point(filled=True, size=20, opacity=0.6)
    dots = points.transform_filter(f"!({is_other})").mark_point(filled=True, size=50, opacity=1)
    layers = alt.LayerChart(layer=[others, faint, lines, intervals, dots])
    sized = layers.properties(width="container", height=380)
    return finish(sized, source.label, _notes(source, frame))


def _notes(source: Source, frame: pl.DataFrame) -> list[str]:
    notes = ["Slope 1: time in proportion to FLOPs"]
    if len(source.configs) < 2:
        notes = ["One size only: there is no slope"]
    missing = frame.height - frame["time_ms"].count()
    return [*notes, f"Without a time and not drawn: {missing} cells"] if missing else notes
