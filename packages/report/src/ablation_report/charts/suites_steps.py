"""A step of training as stacked bars: forward, backward, optimizer."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts.frames import Schema, frame_of
from ablation_report.charts.suites_common import (
    IDENTITY,
    finish_panels,
    first_panels,
    identity,
    in_panels,
    layered,
    threads_text,
    tooltips,
)
from ablation_report.charts.theme import (
    BLUE,
    DIGITS,
    GRAY,
    ORANGE,
    SKY,
    VERMILION,
)
from ablation_report.suite_detail_tables import part_medians
from ablation_report.suite_series import short_case
from ablation_report.suite_sources import SuiteSource

PART_COLORS = {"zero_grad": GRAY, "fwd": BLUE, "bwd": ORANGE, "opt": VERMILION, "rest": SKY}
PUBLISHED_PARTS = ("fwd_nograd", "fwd_bwd", "step")
MOST_PANELS = 16
SCHEMA: Schema = {
    **IDENTITY,
    "part": pl.String,
    "order": pl.Int64,
    **dict.fromkeys(("part_ms", "step_ms", "step_p05_ms", "step_p95_ms"), pl.Float64),
}


def rows(source: SuiteSource) -> pl.DataFrame:
    """Return a row for each part of each step, by the marks inside it.

    A step without a time has one row, with its status. A published step has no marks: its parts are
    what each printed time adds to the one before.
    """
    found: list[dict[str, Any]] = []
    for measure in source.measures:
        if measure["phase"] != "step":
            continue
        panel = f"{measure['tier']}: {short_case(measure)}{threads_text(measure)}"
        known = identity(measure, panel)
        timing = measure.timing
        if timing is None:
            found.append(known)
            continue
        parts = part_medians(measure) or _differences(source, measure["case"], measure["impl"])
        ends = {
            "step_ms": timing.time_ns,
            "step_p05_ms": timing.p05_ns,
            "step_p95_ms": timing.p95_ns,
        }
        told = {name: None if ns is None else ns / 1e6 for name, ns in ends.items()}
        for order, (name, ns) in enumerate(parts.items()):
            found.append(known | told | {"part": name, "order": order, "part_ms": ns / 1e6})
    frame = frame_of(found, SCHEMA)
    # A case of which nothing was timed has no bars to name a status beside
    return frame.filter(pl.col("part_ms").count().over("panel") > 0)


def _differences(source: SuiteSource, case: str, impl: str) -> dict[str, float]:
    """The parts of a published step by its phases; empty where one is missing."""
    times = [source.find(case, impl, phase) for phase in PUBLISHED_PARTS]
    known = [m.time_ns for m in times if m is not None and m.time_ns is not None]
    if len(known) < len(PUBLISHED_PARTS):
        return {}
    forward, both, step = known
    parts = {"fwd": forward, "bwd": both - forward, "opt": step - both}
    return parts if all(part > 0 for part in parts.values()) else {}


def needs(source: SuiteSource) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    frame = rows(source)
    if not frame["part_ms"].count():
        return f"{source.label} has no step with its parts."
    return None


def chart(source: SuiteSource) -> alt.FacetChart:
    """Draw the rows: a panel for each case, a bar for each implementation."""
    frame, n_panels = first_panels(rows(source), MOST_PANELS)
    names = frame["impl"].unique(maintain_order=True).to_list()
    parts = [name for name in PART_COLORS if name in frame["part"].to_list()]
    y = alt.Y("impl:N", title=None, scale=alt.Scale(domain=names), axis=alt.Axis(labelLimit=190))
    base = alt.Chart(frame).encode(y=y)
    color = alt.Color(
        "part:N",
        title=None,
        scale=alt.Scale(domain=parts, range=[PART_COLORS[name] for name in parts]),
    )
    filled = 0.0 if source.is_published else 0.9
    bars = (
        base.transform_filter("isValid(datum.part_ms)")
        .mark_bar(fillOpacity=filled, height=11, strokeWidth=1.2)
        .encode(
            x=alt.X("part_ms:Q", title="time (ms)", stack="zero"),
            color=color,
            stroke=color,
            order="order:Q",
            tooltip=tooltips(
                alt.Tooltip("part:N"),
                alt.Tooltip("part_ms:Q", title="part (ms)", format=DIGITS),
                alt.Tooltip("step_ms:Q", title="step (ms)", format=DIGITS),
            ),
        )
    )
    whiskers = (
        base.transform_filter("isValid(datum.step_p05_ms)")
        .mark_rule(color=GRAY, strokeWidth=1.5)
        .encode(x=alt.X("step_p05_ms:Q", title="time (ms)"), x2="step_p95_ms:Q")
    )
    absent = (
        base.transform_filter("datum.status !== 'ok'")
        .mark_text(align="left", dx=3, fontSize=10, fontStyle="italic", color=GRAY)
        .encode(
            x=alt.value(0),
            text="status:N",
            tooltip=tooltips(alt.Tooltip("status:N"), alt.Tooltip("reason:N")),
        )
    )
    layers = layered(frame, ("part_ms", bars), ("step_p05_ms", whiskers), ("panel", absent))
    sized = layers.properties(width=230, height=alt.Step(17))
    faceted = in_panels(sized, frame, has_long_titles=True).resolve_scale(x="independent")
    return finish_panels(faceted, source, _note(source), MOST_PANELS, n_panels)


def _note(source: SuiteSource) -> str:
    if source.is_published:
        return "Hollow: published; parts are differences between printed times"
    return "Parts: medians by marks inside the step; whiskers: the step's p05 to p95"
