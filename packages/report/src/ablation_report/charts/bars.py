"""Times of a tier as bars with intervals; what has no time is named at the axis, never a bar."""

from __future__ import annotations

import altair as alt
import polars as pl

from ablation_report.charts import frames, panels, theme
from ablation_report.run import Run, detail
from ablation_report.tables.layout import tier_title

TITLE = "Times"
CAPTION = (
    "Time of a call with its 95% interval; of a published source the figure that it prints. The "
    "axis names variants without a time."
)
# More panels than this are a wall; the map and the lines show those tiers
MOST_PANELS = 16
ORIGIN_COLORS = {
    "torch": theme.ORANGE,
    "inductor": theme.PURPLE,
    "triton": theme.GREEN,
    "ablation": theme.BLUE,
}
SCHEMA: frames.Schema = {
    **panels.PANEL,
    **frames.IDENTITY,
    **frames.TIME_MS,
    "n_rounds": pl.Int64,
    "kind": pl.String,
}
Group = tuple[str, int | None]


def groups(run: Run) -> dict[Group, str]:
    """Return the tiers of a run with their numbers of threads, in order, and the title of each."""
    return {
        (row["tier"], row["threads"]): tier_title(run, row["tier"], row["threads"])
        for row in run.rows
    }


def rows(run: Run, group: Group) -> pl.DataFrame:
    """Return a row for each case, variant and phase of a tier on so many threads.

    `kind` says what the time is: the first quartile over rounds, or of a published one the mean,
    or one cold run, that was printed.
    """
    found = []
    has_phases = len({row["phase"] for row in run.rows}) > 1
    for row in run.rows:
        if (row["tier"], row["threads"]) != group:
            continue
        panel = frames.case_name(row) + (f", {row['phase']}" if has_phases else "")
        told = frames.identity(row) | {"panel": panel}
        if time := run.time(row):
            kind = detail(row, "time_kind") or "first quartile"
            told |= frames.time_columns(time) | {"n_rounds": time.n, "kind": kind}
        found.append(told)
    return frames.frame_of(found, SCHEMA)


def needs(run: Run, group: Group) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    if absent := frames.why_no_time(run):
        return absent
    frame = rows(run, group)
    if not frame["time_ms"].count():
        return f"No time was measured in tier {group[0]}."
    count = frame["panel"].n_unique()
    if count > MOST_PANELS:
        return f"{count} cases and phases are too many for bars; the map and the lines show them."
    return None


def chart(run: Run, group: Group) -> alt.FacetChart:
    """Draw the rows: a panel for each case, a bar for each variant."""
    frame = rows(run, group)
    names = panels.names_of(row for row in run.rows if row["tier"] == group[0])
    scale, axis = theme.log_axis([*frame["time_ms"], *frame["low_ms"], *frame["high_ms"]])
    x = alt.X("time_ms:Q", title="time of a call (ms, logarithmic)", scale=scale, axis=axis)
    origins = frame["origin"].unique(maintain_order=True).to_list()
    color = theme.colors(
        "origin", {origin: ORIGIN_COLORS.get(origin, theme.PALE_GRAY) for origin in origins}
    )
    base = (
        alt.Chart(frame)
        .transform_calculate(interval=theme.span("low_ms", "high_ms"))
        .encode(y=theme.names_axis(names))
    )
    timed = base.transform_filter("isValid(datum.time_ms)")
    # Published figures are hollow; a bar starts at the axis, since a log scale has no zero
    bars = timed.mark_bar(height=9, **theme.bar_style(run.is_published)).encode(
        x=x,
        x2=alt.datum(scale.to_dict()["domain"][0]),
        color=color,
        stroke=color,
        tooltip=panels.tooltips(
            alt.Tooltip("time_ms:Q", title="time (ms)", format=theme.DIGITS),
            alt.Tooltip("kind:N", title="which is the"),
            alt.Tooltip("interval:N", title="95% interval (ms)"),
            alt.Tooltip("n_rounds:Q", title="rounds"),
        ),
    )
    intervals = (
        timed.transform_filter("isValid(datum.low_ms)")
        .mark_rule(color=theme.GRAY, strokeWidth=1.5)
        .encode(x=alt.X("low_ms:Q", scale=scale, axis=axis), x2=alt.X2("high_ms:Q"))
    )
    absent = theme.status_text(base, size=10)
    layers = panels.layered(frame, ("time_ms", bars), ("low_ms", intervals), ("panel", absent))
    sized = layers.properties(width=230, height=alt.Step(15))
    faceted = panels.in_panels(sized, frame, has_long_titles=True)
    note = "Bars: first quartile over rounds, with its interval"
    if run.is_published:
        note = "Hollow: published, one figure each, without an interval"
    notes = [f"On {panels.device_of(run)}", note]
    return theme.finish(faceted, f"{run.label}: {groups(run)[group]}", notes)
