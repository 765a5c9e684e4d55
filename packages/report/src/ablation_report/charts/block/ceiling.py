"""How much of the machine's multiply-add ceiling the best of each kind reaches."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts import frames, theme
from ablation_report.rows import peak_flops_per_s
from ablation_report.run import LEAGUE, SDPA, Row, Run, is_ours

TITLE = "Share of the ceiling"
CAPTION = (
    "The block's FLOPs in the time of a call, over the rate of multiply-adds that the same run "
    "measured."
)
OURS, PYTORCH, LEAGUE_BEST = "best of ours", "PT SDPA", "best of the league"
COLORS = {OURS: theme.BLUE, PYTORCH: theme.ORANGE, LEAGUE_BEST: theme.GREEN}
SCHEMA: frames.Schema = {
    **dict.fromkeys(("case", "series", "variant", "printed_name"), pl.String),
    **dict.fromkeys(("time_ms", "gflop_per_s", "ceiling_gflop_per_s"), pl.Float64),
    **dict.fromkeys(("share", "share_low", "share_high"), pl.Float64),
}


def rows(run: Run) -> pl.DataFrame:
    """Return a row for each case and kind: the block's FLOPs in its time, over the ceiling.

    Null where a kind has no time in a case, or the run did not measure its ceiling. The FLOPs are
    those of the block, whatever a runtime really computes.
    """
    found: list[dict[str, Any]] = []
    for case, name in frames.case_names(run).items():
        best = {
            OURS: run.best(case, is_ours),
            PYTORCH: run.row(case, SDPA),
            LEAGUE_BEST: run.best(case, lambda row: row["group"] == LEAGUE),
        }
        for series, row in best.items():
            found.append({"case": name, "series": series, **_reached(run, row)})
    return frames.frame_of(found, SCHEMA)


def _reached(run: Run, row: Row | None) -> dict[str, Any]:
    time = run.time(row)
    if row is None or time is None:
        return {}
    known = {name: row[name] for name in ("variant", "printed_name")}
    known |= {"time_ms": time.value / 1e6, "gflop_per_s": run.gflops(row)}
    share = run.of_ceiling(row)
    ceiling = peak_flops_per_s(run.ceilings, row["threads"]) if share is not None else None
    if share is None or ceiling is None:
        return known
    fastest, slowest = frames.ends(time, time.value)
    return known | {
        "ceiling_gflop_per_s": ceiling / 1e9,
        "share": share,
        "share_low": share / slowest if slowest else None,
        "share_high": share / fastest if fastest else None,
    }


def needs(run: Run) -> str | None:
    """Say why the chart cannot be drawn, or return None."""
    if not run.ceilings:
        return f"{run.label} did not measure the ceiling of its machine."
    absent = frames.why_no_time(run)
    if absent or rows(run)["share"].count():
        return absent
    return f"{run.label} has no time of ours, of PT SDPA or of the league."


def chart(run: Run) -> alt.LayerChart:
    """Draw the rows: bars for each case, and the ceiling as a line at 100%."""
    frame, cases = rows(run), list(frames.case_names(run).values())
    shown = [s for s in COLORS if frame.filter(pl.col("series") == s)["share"].count()]
    tops = [value for value in [*frame["share"], *frame["share_high"]] if value is not None]
    y_title = "share of the multiply-add ceiling (%)"
    y_scale = alt.Scale(domain=[0, 1.05 * max([1.0, *tops])], nice=False)
    y_axis = alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1])

    def y(column: str) -> alt.Y:
        return alt.Y(f"{column}:Q", title=y_title, scale=y_scale, axis=y_axis)

    base = (
        alt.Chart(frame)
        .transform_filter("isValid(datum.share)")
        .transform_calculate(interval=theme.span("share_low", "share_high", ".1%"))
        .encode(
            x=alt.X(
                "case:N",
                title="config, smallest first",
                scale=alt.Scale(domain=cases),
                axis=alt.Axis(labelAngle=0),
            ),
            xOffset=alt.XOffset("series:N", scale=alt.Scale(domain=shown)),
        )
    )
    bars = base.mark_bar().encode(
        y=y("share"),
        color=theme.colors("series", {series: COLORS[series] for series in shown}),
        tooltip=[
            alt.Tooltip("case:N"),
            alt.Tooltip("series:N", title="kind"),
            alt.Tooltip("printed_name:N", title="variant"),
            alt.Tooltip("share:Q", title="share of the ceiling", format=".1%"),
            alt.Tooltip("interval:N", title="95% interval"),
            alt.Tooltip("gflop_per_s:Q", title="rate (GFLOP/s)", format=theme.DIGITS),
            alt.Tooltip("time_ms:Q", title="time (ms)", format=theme.DIGITS),
        ],
    )
    intervals = (
        base.transform_filter("isValid(datum.share_low)")
        .mark_rule(color=theme.GRAY, strokeWidth=2)
        .encode(y=y("share_low"), y2=alt.Y2("share_high:Q"))
    )
    limit = (
        alt.Chart(frame)
        .transform_aggregate(ceiling="max(ceiling_gflop_per_s)")
        .transform_calculate(one="1")
        .mark_rule(color=theme.GRAY, strokeDash=[4, 3])
        .encode(
            y=y("one"),
            tooltip=[alt.Tooltip("ceiling:Q", title="ceiling (GFLOP/s)", format=theme.DIGITS)],
        )
    )
    layers = alt.LayerChart(layer=[limit, bars, intervals])
    sized = layers.properties(width="container", height=300)
    sized.usermeta = theme.room(aside=65, each=44, count=len(cases))
    return theme.finish(sized, run.label, _notes(frame, shown))


def _notes(frame: pl.DataFrame, shown: list[str]) -> list[str]:
    ceilings = frame["ceiling_gflop_per_s"].drop_nulls().unique().sort()
    told = ", ".join(f"{ceiling:.0f}" for ceiling in ceilings)
    notes = [f"Ceiling: {told} GFLOP/s of multiply-adds, measured in this run"]
    absent = [series for series in COLORS if series not in shown]
    return [*notes, f"Not measured: {', '.join(absent)}"] if absent else notes
