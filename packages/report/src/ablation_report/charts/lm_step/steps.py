"""A step of training as stacked bars: forward, backward, optimizer."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts import frames, panels, theme
from ablation_report.run import Row, Run
from ablation_report.tables.details import part_medians

TITLE = "Forward, backward, optimizer"
CAPTION = "The parts of a step of training, stacked."
PART_COLORS = {
    "zero_grad": theme.GRAY,
    "fwd": theme.BLUE,
    "bwd": theme.ORANGE,
    "opt": theme.PURPLE,
    "rest": theme.SKY,
}
PUBLISHED_PARTS = ("fwd_nograd", "fwd_bwd", "step")
MOST_PANELS = 16
SCHEMA: frames.Schema = {
    **panels.PANEL,
    **frames.IDENTITY,
    "part": pl.String,
    "order": pl.Int64,
    **dict.fromkeys(("part_ms", "step_ms", "step_low_ms", "step_high_ms"), pl.Float64),
}


def rows(run: Run) -> pl.DataFrame:
    """Return a row for each part of each step, by the marks inside it.

    A step without a time has one row, with its status. The parts of a step without marks, as of a
    published one, are what each phase adds to the time of the one before.
    """
    found: list[dict[str, Any]] = []
    for row in run.select(lambda row: row["phase"] == "step"):
        panel = f"{row['tier']}: {frames.case_name(row)}{frames.threads_end(row)}"
        known = frames.identity(row) | {"panel": panel}
        step = frames.time_columns(run.time(row))
        if not step:
            found.append(known)
        known |= {f"step_{name.removeprefix('time_')}": value for name, value in step.items()}
        for order, (name, ns) in enumerate(_parts(run, row).items() if step else ()):
            found.append({**known, "part": name, "order": order, "part_ms": ns / 1e6})
    frame = frames.frame_of(found, SCHEMA)
    # A case of which nothing was timed has no bars to name a status beside
    return frame.filter(pl.col("part_ms").count().over("panel") > 0)


def _parts(run: Run, row: Row) -> dict[str, float]:
    """The nanoseconds of each part of a step: medians by the marks inside it, or by the phases that
    were timed apart; empty without either."""
    times = [run.time(run.row(row["case"], row["variant"], phase)) for phase in PUBLISHED_PARTS]
    forward, both, step = (time.value if time else 0.0 for time in times)
    parts = {"fwd": forward, "bwd": both - forward, "opt": step - both}
    return part_medians(row) or (parts if min(parts.values()) > 0 else {})


def needs(run: Run) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    if not rows(run)["part_ms"].count():
        return f"{run.label} has no step with its parts."
    return None


def chart(run: Run) -> alt.FacetChart:
    """Draw the rows: a panel for each case, a bar for each variant."""
    frame, n_panels = panels.first_panels(rows(run), MOST_PANELS)
    names = frame["printed_name"].unique(maintain_order=True).to_list()
    base = alt.Chart(frame).encode(y=theme.names_axis(names))
    shown = frame["part"].to_list()
    color = theme.colors("part", {k: v for k, v in PART_COLORS.items() if k in shown})
    bars = (
        base.transform_filter("isValid(datum.part_ms)")
        .mark_bar(height=11, **theme.bar_style(run.is_published))
        .encode(
            x=alt.X("part_ms:Q", title="time (ms)", stack="zero"),
            color=color,
            stroke=color,
            order=alt.Order("order:Q"),
            tooltip=panels.tooltips(
                alt.Tooltip("part:N"),
                alt.Tooltip("part_ms:Q", title="part (ms)", format=theme.DIGITS),
                alt.Tooltip("step_ms:Q", title="step (ms)", format=theme.DIGITS),
            ),
        )
    )
    intervals = (
        base.transform_filter("isValid(datum.step_low_ms)")
        .mark_rule(color=theme.GRAY, strokeWidth=1.5)
        .encode(x=alt.X("step_low_ms:Q", title="time (ms)"), x2=alt.X2("step_high_ms:Q"))
    )
    absent = theme.status_text(base, size=10)
    layers = panels.layered(frame, ("part_ms", bars), ("step_low_ms", intervals), ("panel", absent))
    sized = layers.properties(width=230, height=alt.Step(17))
    faceted = panels.in_panels(sized, frame, has_long_titles=True).resolve_scale(x="independent")
    note = "Parts: medians by marks inside the step; gray: the step's 95% interval"
    if run.is_published:
        note = "Hollow: published; parts are differences between printed times"
    return panels.finish_panels(faceted, run, note, MOST_PANELS, n_panels)
