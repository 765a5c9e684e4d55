"""Attention alone where one form overtakes another: the rate of each variant over the length."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts import frames, panels, theme
from ablation_report.run import Row, Run
from ablation_report.series import mask_of

TITLE = "Attention alone"
CAPTION = "Useful FLOPs over the time of a call, by sequence length."
TIER = "crossover"
SCHEMA: frames.Schema = {
    **panels.PANEL,
    **frames.IDENTITY,
    **dict.fromkeys(("threads", "heads", "seq_len"), pl.Int64),
    "causal": pl.Boolean,
    **dict.fromkeys(("time_ms", "gflop_per_s", "low_gflop_per_s", "high_gflop_per_s"), pl.Float64),
    "base": pl.String,
    **frames.RATIO,
}


def rows(run: Run) -> pl.DataFrame:
    """Return a row for each case and variant of the tier, panel by panel.

    Rates count useful FLOPs, with the ends of the 95% interval of the time; the ratio is the time
    over that of the baseline, of common rounds.
    """
    found = [_told(run, row) for row in run.rows if row["tier"] == TIER]
    return frames.frame_of(found, SCHEMA).sort(
        "threads", "heads", "causal", "seq_len", maintain_order=True
    )


def _told(run: Run, row: Row) -> dict[str, Any]:
    sizes = row["sizes"]
    heads = "1 head" if sizes["H"] == 1 else f"{sizes['H']} heads"
    told = frames.identity(row) | {
        "panel": f"{mask_of(row)}, {heads}{frames.threads_end(row)}",
        "threads": row["threads"],
        "causal": sizes["causal"],
        "heads": sizes["H"],
        "seq_len": sizes["Nk"],
        "base": run.baseline,
    }
    time, flops = run.time(row), row["flops"]
    if time is None or not flops:
        return told
    fastest, slowest = frames.ends(time)
    return {
        **told,
        "time_ms": time.value / 1e6,
        "gflop_per_s": flops / time.value,
        "low_gflop_per_s": flops / slowest if slowest else None,
        "high_gflop_per_s": flops / fastest if fastest else None,
        **frames.ratio_columns(run.compare(row, run.baseline)),
    }


def needs(run: Run) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    if rows(run)["time_ms"].count():
        return None
    return frames.why_no_time(run) or f"{run.label} has no time in tier {TIER}."


def chart(run: Run) -> alt.FacetChart:
    """Draw the rows: a line for each variant, a panel for each mask, heads and threads."""
    frame = rows(run)
    names = panels.drawn_names(run, frame)

    def y(column: str) -> alt.Y:
        return alt.Y(f"{column}:Q", title="useful GFLOP/s")

    base = (
        alt.Chart(frame)
        .transform_filter("isValid(datum.gflop_per_s)")
        .transform_calculate(
            interval=theme.span("low_gflop_per_s", "high_gflop_per_s"),
            against=(
                "isValid(datum.ratio) ? format(datum.ratio, '.3f') + ' (' + "
                f"({theme.span('ratio_low', 'ratio_high', '.3f')}) + ')' : 'not known'"
            ),
        )
        .encode(x=panels.over_length(frame), color=panels.color_by_variant(run, names))
    )
    lines = base.mark_line(strokeWidth=1.5).encode(y=y("gflop_per_s"))
    intervals = (
        base.transform_filter("isValid(datum.low_gflop_per_s)")
        .mark_rule(color=theme.GRAY)
        .encode(y=y("low_gflop_per_s"), y2=alt.Y2("high_gflop_per_s:Q"))
    )
    dots = base.mark_point(filled=not run.is_published, size=45, opacity=1).encode(
        y=y("gflop_per_s"),
        shape=panels.shape_by_variant(names),
        tooltip=panels.tooltips(
            alt.Tooltip("gflop_per_s:Q", title="rate (GFLOP/s)", format=theme.DIGITS),
            alt.Tooltip("interval:N", title="95% interval (GFLOP/s)"),
            alt.Tooltip("time_ms:Q", title="time (ms)", format=theme.DIGITS),
            alt.Tooltip("against:N", title=f"{theme.ratio_title('variant', run.baseline)} (95%)"),
        ),
    )
    layers = alt.LayerChart(layer=[lines, intervals, dots])
    order = frame["panel"].unique(maintain_order=True).to_list()
    facet = alt.Facet("panel:N", title=None, sort=order)
    faceted = layers.properties(width=250, height=170).facet(facet=facet, columns=2)
    # One thread and two would share an axis that hides what one thread does
    apart: alt.FacetChart = faceted.resolve_scale(y="independent")
    apart.usermeta = theme.panel_room(len(order), aside=5, each=68, least=200)
    notes = ["Useful FLOPs: 4 d for each pair of a query and a key that it sees"]
    missing = frame.height - frame["time_ms"].count()
    if missing:
        notes.append(f"Without a time and not drawn: {missing} rows")
    return theme.finish(apart, run.label, notes)
