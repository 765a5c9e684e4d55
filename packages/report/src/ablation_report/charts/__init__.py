"""The charts of the report: each a frame, and a Vega-Lite chart that draws exactly that frame."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import altair as alt
import polars as pl

from ablation_report.attention_rows import AttentionRun
from ablation_report.charts import (
    attention,
    breakdown,
    ceiling,
    heatmap,
    league,
    published,
    ratio,
    scaling,
    waterfall,
)
from ablation_report.charts.theme import GRAY, sentence_chart
from ablation_report.escaping import all_visible, visible
from ablation_report.sources import Source
from ablation_report.suite_sources import SuiteSource
from ablation_report.tables import NOTHING, Table

__all__ = [
    "ATTENTION",
    "CHARTS",
    "ChartSpec",
    "Subject",
    "against_published",
    "draw",
    "needs",
    "rows",
    "to_svg",
    "to_table",
]

SVG_WIDTH = 720


@dataclass(frozen=True)
class ChartSpec:
    """A chart: how pages name it, and its three functions.

    They take a source, and where `per_config` is true one of its configs as well: `rows` returns
    the frame, `chart` draws it, `needs` says in a sentence why it cannot be drawn, or None.
    """

    key: str
    title: str
    caption: str
    per_config: bool
    rows: Callable[..., pl.DataFrame]
    chart: Callable[..., alt.TopLevelMixin]
    needs: Callable[..., str | None]


CHARTS: tuple[ChartSpec, ...] = (
    ChartSpec(
        "heatmap",
        "Every variant at every config",
        "Time over that of PyTorch in the same rounds. Below 1 the variant is faster.",
        False,
        heatmap.rows,
        heatmap.chart,
        heatmap.needs,
    ),
    ChartSpec(
        "scaling",
        "Time over size",
        "Median time of a call over the FLOPs of the block; a slope of 1 is proportion.",
        False,
        scaling.rows,
        scaling.chart,
        scaling.needs,
    ),
    ChartSpec(
        "ceiling",
        "Share of the ceiling",
        "The block's FLOPs in the time of a call, over the rate of multiply-adds that the same run "
        "measured.",
        False,
        ceiling.rows,
        ceiling.chart,
        ceiling.needs,
    ),
    ChartSpec(
        "league",
        "Against the runtimes of others",
        "Time of each over that of the best of ours in the same rounds. Above 1 ours is faster.",
        False,
        league.rows,
        league.chart,
        league.needs,
    ),
    ChartSpec(
        "breakdown",
        "Where the time goes",
        "Medians of profiled calls, part by part, and the wall time of calls that are not "
        "profiled.",
        True,
        breakdown.rows,
        breakdown.chart,
        breakdown.needs,
    ),
    ChartSpec(
        "waterfall",
        "What each rung is worth",
        "From the time of the rung before to its own, along the main path of the ladder.",
        True,
        waterfall.rows,
        waterfall.chart,
        waterfall.needs,
    ),
    ChartSpec(
        "ratio",
        "Against PyTorch",
        "Time over that of PyTorch in the same rounds, with the 95% interval and the noise floor.",
        True,
        ratio.rows,
        ratio.chart,
        ratio.needs,
    ),
)
# Its functions take a run of attention alone
ATTENTION = ChartSpec(
    "attention",
    "Attention alone",
    "Useful FLOPs over the time of a call, by sequence length.",
    False,
    attention.rows,
    attention.chart,
    attention.needs,
)


def against_published(other: Source) -> ChartSpec:
    """Return the chart that sets a recorded run beside this published one."""
    return ChartSpec(
        "published",
        "Published and recorded",
        "Time over that of PT naive, each within its own source and on its own machine.",
        True,
        lambda source, config: published.rows(source, other, config),
        lambda source, config: published.chart(source, other, config),
        lambda source, config: published.needs(source, other, config),
    )


Subject = Source | AttentionRun | SuiteSource


def needs(spec: ChartSpec, source: Subject, config: str | None = None) -> str | None:
    """Say in a sentence why a chart cannot be drawn, or return None."""
    return spec.needs(*_arguments(spec, source, config))


def rows(spec: ChartSpec, source: Subject, config: str | None = None) -> pl.DataFrame:
    """Return the frame behind a chart."""
    return spec.rows(*_arguments(spec, source, config))


def draw(spec: ChartSpec, source: Subject, config: str | None = None) -> dict[str, Any]:
    """Return a chart as Vega-Lite; where it cannot be drawn, a picture of why not, in a sentence.

    Raises:
        ValueError: the chart is of one config, and none is named.
    """
    why_not = needs(spec, source, config)
    if why_not is not None:
        return sentence_chart(visible(why_not)).to_dict()
    drawn: dict[str, Any] = all_visible(spec.chart(*_arguments(spec, source, config)).to_dict())
    return drawn


def _arguments(spec: ChartSpec, source: Subject, config: str | None) -> tuple[Any, ...]:
    if not spec.per_config:
        return (source,)
    if config is None:
        raise ValueError(f"the chart {spec.key} is of one config, and none is named")
    return source, config


def to_svg(drawn: Mapping[str, Any], width: int = SVG_WIDTH) -> str:
    """Turn what `draw` returned into an SVG that is legible on a light and on a dark page.

    Raises:
        ImportError: vl-convert is not installed.
    """
    try:
        converter = importlib.import_module("vl_convert")
    except ImportError as error:
        message = "an SVG needs vl-convert: python -m pip install 'ablation-report[site]'"
        raise ImportError(message) from error
    ink = {"fill": GRAY}
    styles = ("guide-label", "guide-title", "group-title", "group-subtitle")
    config = {**drawn.get("config", {}), "style": dict.fromkeys(styles, ink)}
    sized: dict[str, Any] = {}
    if drawn.get("width") == "container":
        sized = {"width": width, "autosize": {"type": "fit-x", "contains": "padding"}}
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    return str(
        converter.vegalite_to_svg(
            json.dumps({**drawn, "config": config, **sized}), vl_version=version
        )
    )


def to_table(frame: pl.DataFrame, title: str = "The rows behind the chart") -> Table:
    """Lay out the frame of a chart; numbers have four digits, what is not known is "-"."""
    lines = [[_text(value) for value in row] for row in frame.iter_rows()]
    return Table(title, frame.columns, [("", lines)])


def _text(value: Any) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, float):
        return f"{float(f'{value:.4g}'):,.10g}"
    return str(value)
