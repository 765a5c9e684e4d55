"""What each step of the ladder is worth: from the time of the step before to its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts import frames, theme
from ablation_report.means import ratio_text
from ablation_report.run import Row, Run, is_ours

TITLE = "What each rung is worth"
CAPTION = "From the time of the rung before to the time of the rung, along the main path."


def main_path(run: Run) -> tuple[str, ...]:
    """Return the longest chain of rungs that ends in one of ours, root first.

    Above a rung stands its parent; where the run has no row of that, the nearest of ours, or the
    baseline, before it in the table.
    """
    known = frames.variant_rows(run)
    ours = [name for name, row in known.items() if is_ours(row)]
    order = [name for name in known if name in ours or name == run.baseline]
    chains = [_chain(name, known, order) for name in ours]
    # Of two that are as long, the one whose end stands further down
    return max(reversed(chains), key=len, default=())


def _chain(variant: str, known: Mapping[str, Row], order: Sequence[str]) -> tuple[str, ...]:
    path = [variant]
    while (parent := known[path[-1]]["parent"]) is not None:
        if parent not in known:
            before = order[: order.index(path[-1])] if path[-1] in order else ()
            parent = before[-1] if before else None
        # Rows of a damaged run may name each other
        if parent is None or parent in path:
            break
        path.append(parent)
    return tuple(reversed(path))


def rows(run: Run, case: str) -> pl.DataFrame:
    """Return a row for each rung of the main path that the case has.

    `from_variant` is the nearest rung before it that has a time, which is its parent unless the
    run leaves that out; the ratio is to it, of common rounds. The first has none.
    """
    unit = frames.unit_for(run, case)
    time, before = f"time_{unit.suffix}", f"from_time_{unit.suffix}"
    schema: frames.Schema = {
        **frames.IDENTITY,
        "from_variant": pl.String,
        before: pl.Float64,
        time: pl.Float64,
        **frames.RATIO,
        "label": pl.String,
    }
    found: list[dict[str, Any]] = []
    phase, last, name = frames.main_phase(run), None, frames.case_names(run).get(case)
    for variant in main_path(run):
        row = run.row(case, variant, phase)
        if row is None:
            continue
        told = frames.identity(row, name) | frames.time_columns(run.time(row), unit)
        if time in told:
            base = frames.time_columns(run.time(last), unit)
            if last is not None and base:
                compared = frames.ratio_columns(run.compare(row, last))
                told |= {"from_variant": last["variant"], before: base[time], **compared}
                told["label"] = _label(compared)
            last = row
        found.append(told)
    return frames.frame_of(found, schema)


def _label(compared: dict[str, Any]) -> str | None:
    if not compared:
        return None
    return f"{theme.VERDICT_MARKS[compared['verdict']]} {ratio_text(compared['ratio'])}"


def needs(run: Run, case: str) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    absent = frames.why_no_time(run, case)
    if absent:
        return absent
    phase = frames.main_phase(run)
    n_timed = sum(run.time(run.row(case, name, phase)) is not None for name in main_path(run))
    if n_timed < 2:
        name = frames.case_names(run)[case]
        return f"A step takes two rungs of the ladder; {name} has a time of {n_timed}."
    return None


def chart(run: Run, case: str) -> alt.LayerChart:
    """Draw the rows: a bar from the time before to the time after, by verdict, and the ratio."""
    frame, unit = rows(run, case), frames.unit_for(run, case)
    time, before = f"time_{unit.suffix}", f"from_time_{unit.suffix}"
    title = f"time of a call ({unit.symbol}, logarithmic)"
    x = theme.log_channel(alt.X, title, [*frame[time], *frame[before]], room=0.18)
    base = (
        alt.Chart(frame)
        .transform_calculate(
            right=f"max(datum.{time}, datum.{before})",
            interval=theme.span("ratio_low", "ratio_high"),
        )
        .encode(y=theme.names_axis(frame["printed_name"].to_list()))
    )
    timed = base.transform_filter(f"isValid(datum.{time})")
    steps = base.transform_filter(f"isValid(datum.{before})")
    own = alt.Tooltip(f"{time}:Q", title=f"time ({unit.symbol})", format=theme.DIGITS)
    bars = (
        steps.transform_calculate(known_ratio=theme.optional("ratio"))
        .mark_bar(size=12, **theme.bar_style(run.is_published))
        .encode(
            x=x(before),
            x2=f"{time}:Q",
            color=theme.verdict_color("against the step before"),
            stroke=theme.verdict_color("against the step before"),
            tooltip=theme.tooltips(
                own,
                alt.Tooltip("from_variant:N", title="step from"),
                alt.Tooltip(f"{before}:Q", title=f"its time ({unit.symbol})", format=theme.DIGITS),
                alt.Tooltip("known_ratio:N", title="ratio of times, by rounds"),
                alt.Tooltip("interval:N", title="95% interval"),
                alt.Tooltip("verdict:N"),
            ),
        )
    )
    ticks = timed.mark_tick(color=theme.GRAY, opacity=1, thickness=2.5, size=17).encode(
        x=x(time), tooltip=theme.tooltips(own)
    )
    labels = (
        steps.transform_filter("isValid(datum.label)")
        .mark_text(align="left", dx=7, color=theme.GRAY, fontSize=11)
        .encode(x=x("right"), text=alt.Text("label:N"))
    )
    layers = alt.LayerChart(layer=[bars, ticks, labels, theme.status_text(base)])
    sized = layers.properties(width="container", height=alt.Step(theme.ROW_HEIGHT))
    notes = [
        f"{frames.floor_note(run, case)}; ▼ faster, ▲ slower, = same, ~ not resolved",
        "Gray mark: the time of the rung; the bar leads to it from that of the rung before",
    ]
    return theme.finish(sized, f"{frames.case_names(run)[case]}, {run.label}", notes)
