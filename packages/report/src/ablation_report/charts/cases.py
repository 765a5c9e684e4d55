"""Every variant in every case: its time over that of the best of the case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts import frames, panels, theme
from ablation_report.run import FORWARD, Row, Run

TITLE = "Every variant in every case"
CAPTION = "Color: time, variant / fastest of the case. Text: the time, or the status."
SCHEMA: frames.Schema = {
    **panels.PANEL,
    **frames.IDENTITY,
    "column": pl.String,
    "label": pl.String,
    "time_ms": pl.Float64,
    "over_best": pl.Float64,
    "text": pl.String,
}
LEVELS = [1, 2, 5, 10]
# A column is as wide as many of them allow, and wide enough for the shortest text of a time
COLUMN_WIDTH, LEAST_WIDTH, COLUMNS_WIDTH = 40, 28, 520
LABEL_LIMIT = 400
PADDING = {"left": 5, "top": 5, "bottom": 5, "right": 60}
# A place is narrow; the tooltip and the table have the whole word and its reason
SHORT = {
    "oom": "oom",
    "timeout": "late",
    "incorrect": "wrong",
    "unsupported": "none",
    "error": "error",
    "skipped": "skip",
    "ok": "no time",
}


def rows(run: Run) -> pl.DataFrame:
    """Return a row for each case, variant and phase, with its time over the shortest time of the
    same case and phase; what has no time has its status for a text.

    Without the variants that every case skips: they have a tier of their own.
    """
    tried = {row["variant"] for row in run.rows if row["status"] != "skipped"}
    kept = [row for row in run.rows if row["variant"] in tried]
    shared = shared_parts([_column(row) for row in kept])
    times = [run.time(row) for row in kept]
    best: dict[tuple[str, str], float] = {}
    for row, time in zip(kept, times, strict=True):
        if time is not None:
            key = (row["case"], row["phase"])
            best[key] = min(best.get(key, time.value), time.value)
    found = []
    for row, time in zip(kept, times, strict=True):
        column = _column(row)
        label = ", ".join(part for part in column.split(", ") if part not in shared)
        figures: dict[str, Any] = {"column": column, "label": label, "text": SHORT[row["status"]]}
        if time is not None:
            figures["text"] = two_or_three_digits(time.value / 1e6)
            figures["time_ms"] = time.value / 1e6
            figures["over_best"] = time.value / best[row["case"], row["phase"]]
        panel = f"{row['tier']}{frames.threads_end(row)}"
        found.append(frames.identity(row) | {"panel": panel} | figures)
    return frames.frame_of(found, SCHEMA)


def two_or_three_digits(value: float) -> str:
    """Write a time as short as a narrow place needs: 0.51, 5.1, 132, 12.4k."""
    if value >= 1e4:
        return f"{value / 1e3:.3g}k"
    return f"{value:.0f}" if value >= 99.5 else f"{value:.2g}"


def _column(row: Row) -> str:
    phase = "" if row["phase"] == FORWARD else f", {row['phase']}"
    return f"{row['tier']}: {frames.case_name(row)}{frames.threads_end(row)}{phase}"


def shared_parts(labels: Sequence[str]) -> list[str]:
    """Return the parts between commas that all labels have, unless one of them has no others."""
    split = [label.split(", ") for label in labels]
    shared = [part for part in next(iter(split), []) if all(part in parts for parts in split)]
    return shared if all(set(parts) - set(shared) for parts in split) else []


def needs(run: Run) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    return frames.why_no_time(run)


def chart(run: Run) -> alt.LayerChart:
    """Draw the rows: cases down, variants across; white is the best of its case."""
    frame = rows(run)
    shared = shared_parts(frame["column"].to_list())
    labels = frame["label"].unique(maintain_order=True).to_list()
    names = panels.drawn_names(run, frame)
    x = alt.X(
        "printed_name:N",
        title=None,
        scale=alt.Scale(domain=names),
        axis=alt.Axis(orient="top", labelAngle=-40, domain=False, ticks=False, labelLimit=240),
    )
    axis = alt.Axis(labelLimit=LABEL_LIMIT)
    y = alt.Y("label:N", title=None, scale=alt.Scale(domain=labels), axis=axis)
    base = alt.Chart(frame).encode(x=x, y=y)
    color = alt.Color(
        "over_best:Q",
        title=theme.ratio_title("variant", "fastest of the case") + " (logarithmic)",
        scale=alt.Scale(
            type="log",
            domain=[LEVELS[0], LEVELS[-1]],
            range=[theme.PALE, theme.WORSE],
            interpolate="lab",
            clamp=True,
            nice=False,
        ),
        legend=alt.Legend(values=LEVELS, format="~g", gradientLength=220),
    )
    tips = panels.tooltips(
        alt.Tooltip("time_ms:Q", title="time (ms)", format=",.4~r"),
        alt.Tooltip("over_best:Q", title="variant / fastest", format=".2f"),
    )
    known = base.transform_filter("isValid(datum.over_best)")
    squares = known.mark_rect(stroke=theme.GRAY, strokeOpacity=0.25).encode(
        color=color, tooltip=tips
    )
    figures = known.mark_text(fontSize=9, color="black").encode(
        text=alt.Text("text:N"), tooltip=tips
    )
    missing = (
        base.transform_filter("!isValid(datum.over_best)")
        .mark_text(fontSize=9, fontStyle="italic", color=theme.GRAY)
        .encode(
            text=alt.Text("text:N"),
            tooltip=panels.tooltips(alt.Tooltip("status:N"), alt.Tooltip("reason:N")),
        )
    )
    layers = alt.LayerChart(layer=[squares, figures, missing])
    width = max(LEAST_WIDTH, min(COLUMN_WIDTH, COLUMNS_WIDTH // len(names)))
    sized = layers.properties(width=alt.Step(width), height=alt.Step(theme.ROW_HEIGHT))
    everywhere = f"; {', '.join(shared)}" if shared else ""
    notes = [
        f"On {panels.device_of(run)}{everywhere}; times in ms",
        "none: unsupported; late: timeout; wrong: incorrect; an empty place was not measured",
    ]
    # The last of the slanted names reaches beyond the squares
    return theme.finish(sized, run.label, notes).properties(padding=PADDING)
