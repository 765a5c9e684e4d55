"""Ours and the runtimes of others by size, each over PyTorch eager: the chart of the first page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts import frames, theme
from ablation_report.means import ratio_text
from ablation_report.run import SDPA, Row, Run, is_ours

TITLE = "Time of a call, runtime / PyTorch eager"
CAPTION = "A shorter bar is faster; the figures are of ours."
# Below the names of the cases, in pixels under the axis
FIGURES_BELOW = 26
OURS, EAGER = "ours", "PyTorch eager"


def _of_origin(origin: str) -> Callable[[Row], bool]:
    return lambda row: bool(row["origin"] == origin)


# Of several variants of a runtime the fastest is drawn
SERIES: Mapping[str, Callable[[Row], bool]] = {
    EAGER: lambda row: bool(row["variant"] == SDPA),
    "torch.compile": _of_origin("inductor"),
    "ONNX Runtime": _of_origin("onnxruntime"),
    "OpenVINO": _of_origin("openvino"),
    "JAX": _of_origin("jax"),
    OURS: is_ours,
}
COLORS: Mapping[str, str] = {
    EAGER: theme.GRAY,
    "torch.compile": theme.ORANGE,
    "ONNX Runtime": theme.PURPLE,
    "OpenVINO": theme.GREEN,
    "JAX": theme.SKY,
    OURS: theme.BETTER,
}
SCHEMA: frames.Schema = {
    **dict.fromkeys(("case", "series", "variant", "printed_name"), pl.String),
    **frames.TIME_MS,
    **frames.RATIO,
    "label": pl.String,
}
Case = tuple[str, Run, str]


def rows(cases: Sequence[Case]) -> pl.DataFrame:
    """Return a row for each case and runtime: its time, and its time over that of PyTorch eager.

    A case is the name that is drawn, its run and its label there. A runtime without a time has
    nulls; so have the ratios of a case without PyTorch eager.
    """
    found: list[dict[str, Any]] = []
    for name, run, case in cases:
        eager = run.best(case, SERIES[EAGER])
        for series, wanted in SERIES.items():
            row = run.best(case, wanted)
            told: dict[str, Any] = {"case": name, "series": series}
            if row is not None:
                compared = run.compare(row, eager)
                told |= {key: row[key] for key in ("variant", "printed_name")}
                told |= frames.time_columns(run.time(row)) | frames.ratio_columns(compared)
                told["label"] = ratio_text(compared.ratio.value) if compared else None
            found.append(told)
    return frames.frame_of(found, SCHEMA)


def chart(cases: Sequence[Case], height: int = 190) -> alt.LayerChart:
    """Draw the rows: a group of bars for each case, and below its name the figure of ours."""
    frame = rows(cases)
    known = frame.filter(pl.col("ratio").is_not_null())
    shown = [series for series in SERIES if series in set(known["series"])]
    most = max([1.0, *known["ratio"]])
    scale = alt.Scale(domain=[0, most * 1.08], nice=False)
    y = alt.Y("ratio:Q", title=f"time / {EAGER}", scale=scale, axis=alt.Axis(tickCount=5))
    base = (
        alt.Chart(known)
        .transform_calculate(interval=theme.span("ratio_low", "ratio_high", ".3f"))
        .encode(
            x=alt.X(
                "case:N",
                title=None,
                scale=alt.Scale(domain=[name for name, _, _ in cases], paddingInner=0.2),
                axis=alt.Axis(labelAngle=0),
            )
        )
    )
    bars = base.mark_bar().encode(
        xOffset=alt.XOffset("series:N", scale=alt.Scale(domain=shown)),
        y=y,
        color=theme.colors("series", {series: COLORS[series] for series in shown}),
        tooltip=[
            alt.Tooltip("series:N", title="runtime"),
            alt.Tooltip("printed_name:N", title="variant"),
            alt.Tooltip("case:N", title="size"),
            alt.Tooltip("time_ms:Q", title="time (ms)", format=theme.DIGITS),
            *theme.ratio_tooltips(f"time / {EAGER}"),
        ],
    )
    labels = (
        base.transform_filter(f"datum.series === '{OURS}'")
        .mark_text(fontSize=11, fontWeight="bold", color=theme.BETTER)
        .encode(y=alt.value(height + FIGURES_BELOW), text=alt.Text("label:N"))
    )
    layers = alt.LayerChart(layer=[bars, labels]).properties(width="container", height=height)
    layers.usermeta = theme.room(aside=50, each=38, count=len(cases))
    return theme.finish(layers, "")
