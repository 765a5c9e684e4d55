"""How the time of each variant grows with the work of the block, on logarithmic axes."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts import frames, theme
from ablation_report.fit import slope
from ablation_report.run import DEFAULT, NAIVE, SDPA, Row, Run, batch_of, layers_of

TITLE = "Time over size"
CAPTION = "Median time of a call over the FLOPs of the block; slope 1 is proportional."
# The few that are told apart; lines of all would hide each other
COLORED = {
    NAIVE: theme.ORANGE,
    SDPA: theme.OLIVE,
    "passes-none": theme.PURPLE,
    "flash-layernorm": theme.SKY,
    DEFAULT: theme.BLUE,
    "openvino": theme.GREEN,
}
SHAPES = ("circle", "square", "cross", "diamond", "triangle-up", "triangle-down")
OTHERS = "the other variants"
SCHEMA: frames.Schema = {
    **frames.IDENTITY,
    "gflop": pl.Float64,
    **frames.TIME_MS,
    **dict.fromkeys(("gflop_per_s", "slope"), pl.Float64),
    **dict.fromkeys(("layers", "n_sizes"), pl.Int64),
    "series": pl.String,
}


def rows(run: Run) -> pl.DataFrame:
    """Return a row for each variant and case: the FLOPs of the block, the time, and the slope of
    the variant.

    A slope of 1 is time in proportion to FLOPs; it is fitted over all sizes of the variant with as
    many layers, and null where there are not two.
    """
    points: dict[tuple[str, tuple[int, int]], list[tuple[float, float]]] = {}
    for row in run.rows:
        if (time := run.time(row)) and row["flops"]:
            place = row["variant"], _depth(row)
            points.setdefault(place, []).append((row["flops"], time.value))
    fewest = min(map(_depth, run.rows), default=(1, 1))
    found: list[dict[str, Any]] = []
    for case, name in frames.case_names(run).items():
        for row in frames.rungs(run, case):
            sizes = points.get((row["variant"], _depth(row)), [])
            named = slope(points.get((row["variant"], fewest), []))
            found.append(
                {
                    **frames.identity(row, name),
                    **frames.time_columns(run.time(row)),
                    "gflop": row["flops"] / 1e9 if row["flops"] else None,
                    "gflop_per_s": run.gflops(row),
                    "layers": layers_of(row),
                    "slope": slope(sizes),
                    "n_sizes": len(sizes),
                    "series": _series(row, named),
                }
            )
    return frames.frame_of(found, SCHEMA)


def _depth(row: Row) -> tuple[int, int]:
    """The layers and sequences of a case: a slope is over cases that have as many."""
    return layers_of(row), batch_of(row)


def _series(row: Row, fitted: float | None) -> str:
    if row["variant"] not in COLORED:
        return OTHERS
    known = "no slope" if fitted is None else f"slope {fitted:.2f}"
    return f"{row['printed_name']}, {known}"


def needs(run: Run) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    return frames.why_no_time(run)


def chart(run: Run) -> alt.LayerChart:
    """Draw the rows: a line for each variant, a few of them in color."""
    frame = rows(run)
    series = {row["variant"]: row["series"] for row in frame.iter_rows(named=True)}
    colored = [variant for variant in COLORED if variant in series]
    names = [series[variant] for variant in colored]
    colors = [COLORED[variant] for variant in colored]
    shapes = list(SHAPES[: len(names)])
    if OTHERS in series.values():
        names, colors, shapes = (
            [*names, OTHERS],
            [*colors, theme.PALE_GRAY],
            [*shapes, "triangle-right"],
        )
    timed = frame.filter(pl.col("time_ms").is_not_null())
    x = theme.log_channel(alt.X, "work of the block (GFLOP, logarithmic)", timed["gflop"])
    values = [*timed["time_ms"], *timed["low_ms"], *timed["high_ms"]]
    y = theme.log_channel(alt.Y, "time of a call (ms, logarithmic)", values)
    legend = alt.Legend(columns=3, symbolOpacity=1)
    color = theme.colors("series", dict(zip(names, colors, strict=True)), legend=legend)
    base = (
        alt.Chart(frame)
        .transform_filter("isValid(datum.time_ms)")
        .transform_calculate(
            interval=theme.span("low_ms", "high_ms"), fitted=theme.optional("slope", ".2f")
        )
        .encode(x=x("gflop"), y=y("time_ms"), color=color, detail=["variant:N", "layers:N"])
    )
    is_other = f"datum.series === '{OTHERS}'"
    # Painted first, so that what has a color lies above
    others = base.transform_filter(is_other).mark_line(strokeWidth=0.75, opacity=0.5)
    lines = base.transform_filter(f"!({is_other})").mark_line(strokeWidth=1.5)
    intervals = (
        base.transform_filter("isValid(datum.low_ms)")
        .mark_rule(color=theme.GRAY)
        .encode(y=y("low_ms"), y2=alt.Y2("high_ms:Q"))
    )
    points = base.encode(
        shape=alt.Shape(
            "series:N", title=None, scale=alt.Scale(domain=names, range=shapes), legend=legend
        ),
        tooltip=theme.tooltips(
            alt.Tooltip("gflop:Q", title="work (GFLOP)", format=theme.DIGITS),
            alt.Tooltip("time_ms:Q", title="time (ms)", format=theme.DIGITS),
            alt.Tooltip("interval:N", title="95% interval (ms)"),
            alt.Tooltip("gflop_per_s:Q", title="rate (GFLOP/s)", format=theme.DIGITS),
            alt.Tooltip("fitted:N", title="slope over its sizes"),
        ),
    )
    is_filled = not run.is_published
    faint = points.transform_filter(is_other).mark_point(filled=is_filled, size=20, opacity=0.6)
    dots = points.transform_filter(f"!({is_other})").mark_point(
        filled=is_filled, size=50, opacity=1
    )
    layers = alt.LayerChart(layer=[others, faint, lines, intervals, dots])
    sized = layers.properties(width="container", height=380)
    return theme.finish(sized, run.label, _notes(run, frame))


def _notes(run: Run, frame: pl.DataFrame) -> list[str]:
    notes = ["Slope 1: time in proportion to FLOPs"]
    if len(run.cases) < 2:
        notes = ["One size only: there is no slope"]
    missing = frame.height - frame["time_ms"].count()
    return [*notes, f"Without a time and not drawn: {missing} rows"] if missing else notes
