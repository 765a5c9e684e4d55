"""Attention alone: the rate of each implementation over the sequence length."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.attention_rows import AttentionRun
from ablation_report.attention_tables import SDPA, cases_of
from ablation_report.charts.frames import Schema, ends, frame_of
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
    panel_room,
    span,
)
from ablation_report.metrics import median_interval, rounds_ns, rounds_ratio

COLORS = (ORANGE, VERMILION, PURPLE, "#A6A6A6", GREEN, SKY, BLUE)
SHAPES = ("square", "diamond", "triangle-down", "triangle-up", "cross", "triangle-right", "circle")
SCHEMA: Schema = {
    "panel": pl.String,
    "threads": pl.Int64,
    "causal": pl.Boolean,
    "heads": pl.Int64,
    "seq_len": pl.Int64,
    **dict.fromkeys(("impl", "status", "reason"), pl.String),
    **dict.fromkeys(("time_ms", "gflop_per_s", "low_gflop_per_s", "high_gflop_per_s"), pl.Float64),
    **dict.fromkeys(("over_sdpa", "over_sdpa_low", "over_sdpa_high"), pl.Float64),
    "n_rounds": pl.Int64,
}


def rows(run: AttentionRun) -> pl.DataFrame:
    """Return a row for each case and implementation.

    Rates count useful FLOPs, with the ends of the 95% interval of the time; `over_sdpa` is the time
    over that of PyTorch's SDPA, paired by round.
    """
    found: list[dict[str, Any]] = []
    for case in cases_of(run.rows):
        mask = "causal" if case.causal else "full"
        heads = "1 head" if case.heads == 1 else f"{case.heads} heads"
        threads = "1 thread" if case.threads == 1 else f"{case.threads} threads"
        known = {
            "panel": f"{mask}, {heads}, {threads}",
            "threads": case.threads,
            "causal": case.causal,
            "heads": case.heads,
            "seq_len": case.keys,
        }
        for impl in sorted(case.rows, key=run.header["impls"].index):
            row = case.rows[impl]
            said = {name: row[name] for name in ("impl", "status", "reason")}
            found.append(known | said | _figures(row, case.rows.get(SDPA)))
    return frame_of(found, SCHEMA)


def _figures(row: Any, sdpa: Any) -> dict[str, Any]:
    times = list(rounds_ns(row).values())
    if not times:
        return {}
    time, flops = median_interval(times), row["flops_useful"]
    fastest, slowest = ends(time)
    figures: dict[str, Any] = {
        "time_ms": time.median / 1e6,
        "gflop_per_s": flops / time.median,
        "low_gflop_per_s": flops / slowest if slowest else None,
        "high_gflop_per_s": flops / fastest if fastest else None,
        "n_rounds": time.n,
    }
    ratio = rounds_ratio(row, sdpa) if sdpa is not None else None
    if ratio is None:
        return figures
    low, high = ends(ratio)
    return figures | {"over_sdpa": ratio.median, "over_sdpa_low": low, "over_sdpa_high": high}


def needs(run: AttentionRun) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    if rows(run)["time_ms"].count():
        return None
    return f"No time of attention alone was measured in {run.name}."


def chart(run: AttentionRun) -> alt.FacetChart:
    """Draw the rows: a line for each implementation, a panel for each mask, heads and threads."""
    frame = rows(run)
    impls = [impl for impl in run.header["impls"] if impl in frame["impl"].to_list()]
    y_title = "useful GFLOP/s"
    lengths = sorted(set(frame["seq_len"].to_list()))
    legend = alt.Legend(columns=3)
    base = (
        alt.Chart(frame)
        .transform_filter("isValid(datum.gflop_per_s)")
        .transform_calculate(
            interval=span("low_gflop_per_s", "high_gflop_per_s"),
            against=(
                "isValid(datum.over_sdpa) ? format(datum.over_sdpa, '.3f') + ' (' + "
                f"({span('over_sdpa_low', 'over_sdpa_high', '.3f')}) + ')' : 'not known'"
            ),
        )
        .encode(
            x=alt.X(
                "seq_len:Q",
                title="sequence length (log)",
                scale=alt.Scale(type="log", base=2, nice=False, padding=12),
                axis=alt.Axis(values=lengths, format="d"),
            ),
            color=alt.Color(
                "impl:N",
                title=None,
                scale=alt.Scale(domain=impls, range=list(COLORS[: len(impls)])),
                legend=legend,
            ),
        )
    )
    y = alt.Y("gflop_per_s:Q", title=y_title)
    lines = base.mark_line(strokeWidth=1.5).encode(y=y)
    intervals = (
        base.transform_filter("isValid(datum.low_gflop_per_s)")
        .mark_rule(color=GRAY)
        .encode(y=alt.Y("low_gflop_per_s:Q", title=y_title), y2="high_gflop_per_s:Q")
    )
    dots = base.mark_point(filled=True, size=45, opacity=1).encode(
        y=y,
        shape=alt.Shape(
            "impl:N",
            title=None,
            scale=alt.Scale(domain=impls, range=list(SHAPES[: len(impls)])),
            legend=legend,
        ),
        tooltip=[
            alt.Tooltip("impl:N", title="implementation"),
            alt.Tooltip("panel:N", title="case"),
            alt.Tooltip("seq_len:Q", title="sequence length"),
            alt.Tooltip("gflop_per_s:Q", title="rate (GFLOP/s)", format=DIGITS),
            alt.Tooltip("interval:N", title="95% interval (GFLOP/s)"),
            alt.Tooltip("time_ms:Q", title="time (ms)", format=DIGITS),
            alt.Tooltip("against:N", title="time over SDPA (95%)"),
            alt.Tooltip("n_rounds:Q", title="rounds"),
        ],
    )
    layers = alt.LayerChart(layer=[lines, intervals, dots])
    panels = layers.properties(width=250, height=170).facet(
        facet=alt.Facet("panel:N", title=None, sort=_panels(frame)), columns=2
    )
    # One thread and two would share an axis that hides what one thread does
    apart: alt.FacetChart = panels.resolve_scale(y="independent")
    apart.usermeta = panel_room(frame["panel"].n_unique(), aside=5, each=68, least=200)
    return finish(apart, run.name, _notes(frame))


def _panels(frame: pl.DataFrame) -> list[str]:
    """Return the panels with full and causal beside each other."""
    ordered = frame.sort("threads", "heads", "causal")["panel"]
    return ordered.unique(maintain_order=True).to_list()


def _notes(frame: pl.DataFrame) -> list[str]:
    notes = ["Useful FLOPs: 4 d for each pair of a query and a key that it sees"]
    missing = frame.height - frame["time_ms"].count()
    return [*notes, f"Without a time and not drawn: {missing} cases"] if missing else notes
