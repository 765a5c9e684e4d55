"""How every variant stands against PyTorch in one case, with intervals and the noise floor."""

from __future__ import annotations

import altair as alt
import polars as pl

from ablation_report.charts import frames, theme
from ablation_report.run import SDPA, Row, Run

TITLE = "Against PyTorch"
CAPTION = (
    "Time, variant / PyTorch, of common rounds, with the 95% interval and the noise floor. Below 1 "
    "the variant is faster."
)
SCHEMA: frames.Schema = {**frames.IDENTITY, "base": pl.String, **frames.RATIO}


def base_of(run: Run, case: str) -> Row | None:
    """Return what ratios are to: PT SDPA, or the baseline where that has no time in the case."""
    found = (run.row(case, name, frames.main_phase(run)) for name in (SDPA, run.baseline))
    return next((row for row in found if run.time(row)), None)


def rows(run: Run, case: str) -> pl.DataFrame:
    """Return a row for each variant but the base: its ratio to it, and the verdict."""
    base, name = base_of(run, case), frames.case_names(run).get(case)
    found = [
        {
            **frames.identity(row, name),
            "base": base["variant"] if base else None,
            **frames.ratio_columns(run.compare(row, base)),
        }
        for row in frames.rungs(run, case)
        if row is not base
    ]
    return frames.frame_of(found, SCHEMA)


def needs(run: Run, case: str) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    absent = frames.why_no_time(run, case)
    if absent:
        return absent
    name, base = frames.case_names(run)[case], base_of(run, case)
    if base is None:
        return f"{run.printed(SDPA)} and {run.printed(run.baseline)} have no time at {name}."
    if rows(run, case)["ratio"].count() == 0:
        return f"{base['printed_name']} is the only variant with a time at {name}."
    return None


def chart(run: Run, case: str) -> alt.LayerChart:
    """Draw the rows: a point with its interval, shaped and colored by verdict."""
    frame, base_row, floor = rows(run, case), base_of(run, case), run.floor(case)
    printed = base_row["printed_name"] if base_row else run.baseline
    named = theme.ratio_title("variant", printed)
    band = [1 - floor, 1 + floor] if floor is not None else [1.0]
    values = [*frame["ratio"], *frame["ratio_low"], *frame["ratio_high"], *band]
    x = theme.log_channel(alt.X, f"{named} (logarithmic)", values)
    base = (
        alt.Chart(frame)
        .transform_calculate(interval=theme.span("ratio_low", "ratio_high", ".3f"))
        .encode(y=theme.names_axis(frame["printed_name"].to_list()))
    )
    # One mark for all rows: marks of each would lie over one another
    floor_band = (
        alt.Chart(frame)
        .transform_aggregate(floor="max(floor)")
        .transform_filter("isValid(datum.floor)")
        .transform_calculate(low="1 - datum.floor", high="1 + datum.floor")
        .mark_rect(color=theme.GRAY, opacity=0.2)
        .encode(
            x=x("low"),
            x2=alt.X2("high:Q"),
            tooltip=[alt.Tooltip("floor:Q", title="noise floor", format=".1%")],
        )
    )
    intervals = (
        base.transform_filter("isValid(datum.ratio_low)")
        .mark_rule(color=theme.GRAY, strokeWidth=2)
        .encode(x=x("ratio_low"), x2=alt.X2("ratio_high:Q"))
    )
    shapes = alt.Scale(domain=list(theme.VERDICT_SHAPES), range=list(theme.VERDICT_SHAPES.values()))
    heading = f"against {printed}"
    points = (
        base.transform_filter("isValid(datum.ratio)")
        .mark_point(filled=not run.is_published, size=90, opacity=1)
        .encode(
            x=x("ratio"),
            color=theme.verdict_color(heading),
            shape=alt.Shape("verdict:N", title=heading, scale=shapes),
            tooltip=theme.tooltips(*theme.ratio_tooltips(named)),
        )
    )
    one = theme.line_at_one(frame, x, [4, 3])
    layers = alt.LayerChart(layer=[floor_band, one, intervals, points, theme.status_text(base)])
    sized = layers.properties(width="container", height=alt.Step(theme.ROW_HEIGHT))
    notes = [frames.floor_note(run, case) + (" (gray band)" if floor is not None else "")]
    return theme.finish(sized, f"{frames.case_names(run)[case]}, {run.label}", notes)
