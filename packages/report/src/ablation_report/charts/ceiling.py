"""How much of the machine's multiply-add ceiling the best of each kind reaches."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts.frames import Schema, ends, frame_of, why_no_time
from ablation_report.charts.theme import BLUE, DIGITS, GRAY, GREEN, ORANGE, finish, room, span
from ablation_report.ladder import LEAGUE, SDPA
from ablation_report.sources import Source

OURS, PYTORCH, LEAGUE_BEST = "best of ours", "PT SDPA", "best of the league"
COLORS = {OURS: BLUE, PYTORCH: ORANGE, LEAGUE_BEST: GREEN}
SCHEMA: Schema = {
    **dict.fromkeys(("config", "series", "variant", "printed_name"), pl.String),
    **dict.fromkeys(("time_ms", "gflop_per_s", "ceiling_gflop_per_s"), pl.Float64),
    **dict.fromkeys(("share", "share_low", "share_high"), pl.Float64),
}


def rows(source: Source) -> pl.DataFrame:
    """Return a row for each config and kind: the block's FLOPs in its time, over the ceiling.

    Null where a kind has no time at a config, or the run did not measure its ceiling. The FLOPs are
    those of the block, whatever a runtime really computes.
    """
    found: list[dict[str, Any]] = []
    for config in source.configs:
        best = {
            OURS: source.best(config),
            PYTORCH: SDPA if source.time(config, SDPA) else None,
            LEAGUE_BEST: _best_of_league(source, config),
        }
        for series, variant in best.items():
            row: dict[str, Any] = {"config": config, "series": series, "variant": variant}
            found.append(row | (_reached(source, config, variant) if variant else {}))
    return frame_of(found, SCHEMA)


def _best_of_league(source: Source, config: str) -> str | None:
    times = {
        name: time.median
        for name, cell in source.by_config[config].items()
        if cell["group"] == LEAGUE and (time := source.time(config, name))
    }
    return min(times, key=lambda name: times[name]) if times else None


def _reached(source: Source, config: str, variant: str) -> dict[str, Any]:
    cell, time = source.by_config[config][variant], source.time(config, variant)
    if time is None:
        return {}
    # FLOPs per nanosecond are GFLOP per second
    rate = cell["flops"] / time.median
    row = {
        "printed_name": cell["printed_name"],
        "time_ms": time.median / 1e6,
        "gflop_per_s": rate,
    }
    if source.ceiling_flops_per_s is None:
        return row
    ceiling = source.ceiling_flops_per_s / 1e9
    fastest, slowest = ends(time)
    return row | {
        "ceiling_gflop_per_s": ceiling,
        "share": rate / ceiling,
        "share_low": cell["flops"] / slowest / ceiling if slowest else None,
        "share_high": cell["flops"] / fastest / ceiling if fastest else None,
    }


def needs(source: Source) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    if source.ceiling_flops_per_s is None:
        return f"{source.label} did not measure the ceiling of its machine."
    absent = why_no_time(source)
    if absent or rows(source)["share"].count():
        return absent
    return f"{source.label} has no time of ours, of PT SDPA or of the league."


def chart(source: Source) -> alt.LayerChart:
    """Draw the rows: bars for each config, and the ceiling as a line at 100%."""
    frame = rows(source)
    shown = [s for s in COLORS if frame.filter(pl.col("series") == s)["share"].count()]
    tops = [value for value in [*frame["share"], *frame["share_high"]] if value is not None]
    y_title = "share of the multiply-add ceiling (%)"
    y_scale = alt.Scale(domain=[0, 1.05 * max([1.0, *tops])], nice=False)
    y_axis = alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1])
    base = (
        alt.Chart(frame)
        .transform_filter("isValid(datum.share)")
        .transform_calculate(interval=span("share_low", "share_high", ".1%"))
        .encode(
            x=alt.X(
                "config:N",
                title="config, smallest first",
                scale=alt.Scale(domain=list(source.configs)),
                axis=alt.Axis(labelAngle=0),
            ),
            xOffset=alt.XOffset("series:N", scale=alt.Scale(domain=shown)),
        )
    )
    bars = base.mark_bar().encode(
        y=alt.Y("share:Q", title=y_title, scale=y_scale, axis=y_axis),
        color=alt.Color(
            "series:N",
            title=None,
            scale=alt.Scale(domain=shown, range=[COLORS[series] for series in shown]),
        ),
        tooltip=[
            alt.Tooltip("config:N"),
            alt.Tooltip("series:N", title="kind"),
            alt.Tooltip("printed_name:N", title="variant"),
            alt.Tooltip("share:Q", title="share of the ceiling", format=".1%"),
            alt.Tooltip("interval:N", title="95% interval"),
            alt.Tooltip("gflop_per_s:Q", title="rate (GFLOP/s)", format=DIGITS),
            alt.Tooltip("time_ms:Q", title="time (ms)", format=DIGITS),
        ],
    )
    intervals = (
        base.transform_filter("isValid(datum.share_low)")
        .mark_rule(color=GRAY, strokeWidth=2)
        .encode(
            y=alt.Y("share_low:Q", title=y_title, scale=y_scale, axis=y_axis), y2="share_high:Q"
        )
    )
    limit = (
        alt.Chart(frame)
        .transform_aggregate(ceiling="max(ceiling_gflop_per_s)")
        .transform_calculate(one="1")
        .mark_rule(color=GRAY, strokeDash=[4, 3])
        .encode(
            y=alt.Y("one:Q", title=y_title, scale=y_scale, axis=y_axis),
            tooltip=[alt.Tooltip("ceiling:Q", title="ceiling (GFLOP/s)", format=DIGITS)],
        )
    )
    layers = alt.LayerChart(layer=[limit, bars, intervals])
    sized = layers.properties(width="container", height=300)
    sized.usermeta = room(aside=65, each=44, count=len(source.configs))
    return finish(sized, source.label, _notes(source, shown))


def _notes(source: Source, shown: list[str]) -> list[str]:
    ceiling = (source.ceiling_flops_per_s or 0.0) / 1e9
    notes = [f"Ceiling: {ceiling:.0f} GFLOP/s of multiply-adds, measured in this run"]
    absent = [series for series in COLORS if series not in shown]
    return [*notes, f"Not measured: {', '.join(absent)}"] if absent else notes
