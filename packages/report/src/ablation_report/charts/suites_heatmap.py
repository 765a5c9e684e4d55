"""Every implementation in every case: its time over that of the best of the case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts.frames import Schema, frame_of
from ablation_report.charts.suites_common import (
    IDENTITY,
    device_of,
    identity,
    names_of,
    threads_text,
    tooltips,
    why_no_time,
)
from ablation_report.charts.theme import GRAY, ROW_HEIGHT, VERMILION, finish
from ablation_report.suite_series import short_case
from ablation_report.suite_sources import Measure, SuiteSource

SCHEMA: Schema = {
    **IDENTITY,
    "column": pl.String,
    "label": pl.String,
    "time_ms": pl.Float64,
    "over_best": pl.Float64,
    "text": pl.String,
}
LEVELS = [1, 2, 5, 10]
COLUMN_WIDTH = 40
LABEL_LIMIT = 400
PADDING = {"left": 5, "top": 5, "bottom": 5, "right": 60}
# A cell is narrow; the tooltip and the table have the whole word and its reason
SHORT = {
    "oom": "oom",
    "timeout": "late",
    "incorrect": "wrong",
    "unsupported": "none",
    "error": "error",
    "skipped": "skip",
}


def rows(source: SuiteSource) -> pl.DataFrame:
    """Return a row for each case, implementation and phase, with its time over the shortest time of
    the same case and phase; what has no time has its status for a text.

    Without the implementations that every case skips: they have a tier of their own.
    """
    measured = [measure for measure in source.measures if measure["status"] != "skipped"]
    names = names_of(measured)
    measures = [measure for measure in source.measures if measure["impl"] in names]
    shared = shared_parts([_column(measure) for measure in measures])
    best: dict[tuple[str, str], float] = {}
    for measure in measures:
        if measure.time_ns is not None:
            key = (measure["case"], measure["phase"])
            best[key] = min(best.get(key, measure.time_ns), measure.time_ns)
    found = []
    for measure in measures:
        time = measure.time_ns
        text = two_or_three_digits(time / 1e6) if time is not None else SHORT[measure["status"]]
        column = _column(measure)
        label = ", ".join(part for part in column.split(", ") if part not in shared)
        figures: dict[str, Any] = {"column": column, "label": label, "text": text}
        if time is not None:
            figures["time_ms"] = time / 1e6
            figures["over_best"] = time / best[measure["case"], measure["phase"]]
        found.append(identity(measure, _panel(measure)) | figures)
    return frame_of(found, SCHEMA)


def two_or_three_digits(value: float) -> str:
    """Write a time as short as a narrow cell needs: 0.51, 5.1, 132, 12.4k."""
    if value >= 1e4:
        return f"{value / 1e3:.3g}k"
    return f"{value:.0f}" if value >= 99.5 else f"{value:.2g}"


def _panel(measure: Measure) -> str:
    return f"{measure['tier']}{threads_text(measure)}"


def _column(measure: Measure) -> str:
    phase = "" if measure["phase"] == "fwd" else f", {measure['phase']}"
    return f"{measure['tier']}: {short_case(measure)}{threads_text(measure)}{phase}"


def shared_parts(labels: Sequence[str]) -> list[str]:
    """Return the parts between commas that all labels have, unless one of them has no others."""
    split = [label.split(", ") for label in labels]
    shared = [part for part in next(iter(split), []) if all(part in parts for parts in split)]
    return shared if all(set(parts) - set(shared) for parts in split) else []


def needs(source: SuiteSource) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    return why_no_time(source)


def chart(source: SuiteSource) -> alt.LayerChart:
    """Draw the rows: cases down, implementations across; white is the best of its case."""
    frame = rows(source)
    names = [name for name in names_of(source.measures) if name in set(frame["impl"])]
    shared = shared_parts(frame["column"].to_list())
    labels = frame["label"].unique(maintain_order=True).to_list()
    x = alt.X(
        "impl:N",
        title=None,
        scale=alt.Scale(domain=names),
        axis=alt.Axis(orient="top", labelAngle=-40, domain=False, ticks=False, labelLimit=240),
    )
    axis = alt.Axis(labelLimit=LABEL_LIMIT)
    y = alt.Y("label:N", title=None, scale=alt.Scale(domain=labels), axis=axis)
    base = alt.Chart(frame).encode(x=x, y=y)
    color = alt.Color(
        "over_best:Q",
        title="time over the best of the case (logarithmic)",
        scale=alt.Scale(
            type="log",
            domain=[LEVELS[0], LEVELS[-1]],
            range=["#F2F2F2", VERMILION],
            interpolate="lab",
            clamp=True,
            nice=False,
        ),
        legend=alt.Legend(values=LEVELS, format="~g", gradientLength=220),
    )
    tips = tooltips(
        alt.Tooltip("time_ms:Q", title="time (ms)", format=",.4~r"),
        alt.Tooltip("over_best:Q", title="over the best", format=".2f"),
    )
    known = base.transform_filter("isValid(datum.over_best)")
    cells = known.mark_rect(stroke=GRAY, strokeOpacity=0.25).encode(color=color, tooltip=tips)
    figures = known.mark_text(fontSize=9, color="black").encode(text="text:N", tooltip=tips)
    missing = (
        base.transform_filter("!isValid(datum.over_best)")
        .mark_text(fontSize=9, fontStyle="italic", color=GRAY)
        .encode(
            text="text:N",
            tooltip=tooltips(alt.Tooltip("status:N"), alt.Tooltip("reason:N")),
        )
    )
    layers = alt.LayerChart(layer=[cells, figures, missing])
    sized = layers.properties(width=alt.Step(COLUMN_WIDTH), height=alt.Step(ROW_HEIGHT))
    everywhere = f"; {', '.join(shared)}" if shared else ""
    notes = [
        f"On {device_of(source)}{everywhere}; times in ms",
        "none: unsupported; late: timeout; wrong: incorrect; an empty cell was not asked for",
    ]
    # The last of the slanted names reaches beyond the cells
    return finish(sized, source.label, notes).properties(padding=PADDING)
