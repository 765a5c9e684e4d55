"""The charts of the report: each a frame, and a Vega-Lite chart that draws exactly that frame.

A chart is a module and a line of `CHARTS`. The module has TITLE and CAPTION, and three functions of
a run: `rows` returns the frame, `chart` draws it, `needs` says why it cannot be drawn, or None.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Any

import altair as alt
import polars as pl

from ablation_report.attribution.worths import SUITE as ATTRIBUTION
from ablation_report.charts import bars, cases, growth, memory
from ablation_report.charts.attention import plane, rate
from ablation_report.charts.attribution import bars as worth_bars
from ablation_report.charts.attribution import brackets, interactions, strip
from ablation_report.charts.attribution import waterfall as worth_waterfall
from ablation_report.charts.block import ceiling, league, published, scaling
from ablation_report.charts.ladder import breakdown, heatmap, ratio, waterfall
from ablation_report.charts.lm_step import steps
from ablation_report.charts.theme import GRAY, sentence_chart
from ablation_report.escaping import all_visible, visible
from ablation_report.run import BLOCK, Run
from ablation_report.tables import NOTHING, Table
from ablation_report.tables import block as block_tables

__all__ = [
    "CHARTS",
    "ChartSpec",
    "against_published",
    "charts_of",
    "draw",
    "inside_brackets",
    "needs",
    "rows",
    "to_svg",
    "to_table",
    "visible_dict",
]

SVG_WIDTH = 720


@dataclass(frozen=True)
class ChartSpec:
    """A chart: how pages name it, the runs that it is for, and its three functions.

    They take a run, and where `per_case` is true the label of one of its cases as well.
    """

    key: str
    title: str
    caption: str
    is_for: Callable[[Run], bool]
    per_case: bool
    rows: Callable[..., pl.DataFrame]
    chart: Callable[..., alt.TopLevelMixin]
    needs: Callable[..., str | None]


def _of(*suites: str) -> Callable[[Run], bool]:
    """The runs of these suites."""
    return lambda run: run.suite in suites


def _has_ladder(run: Run) -> bool:
    """True for rungs of a ladder; the programs of an attribution are too many for these charts."""
    return run.suite != ATTRIBUTION and block_tables.has_ladder(run)


def _is_flat(run: Run) -> bool:
    """True for variants that stand on no ladder and in no lattice."""
    return run.suite != ATTRIBUTION and not block_tables.has_ladder(run)


def _is_profiled(run: Run) -> bool:
    """True where calls were taken apart."""
    return _has_ladder(run) or (_is_flat(run) and any(row["profile"] for row in run.rows))


def _has_crossover(run: Run) -> bool:
    """True where the tier was measured that shows which form of attention wins from which length
    on."""
    return run.suite == "attention-sweep" and any(row["tier"] == rate.TIER for row in run.rows)


def _spec(
    key: str, module: ModuleType, is_for: Callable[[Run], bool], per_case: bool = False
) -> ChartSpec:
    return ChartSpec(
        key,
        module.TITLE,
        module.CAPTION,
        is_for,
        per_case,
        module.rows,
        module.chart,
        module.needs,
    )


_SWEEPS = ("attention-sweep", "attention-backward")
# In the order of pages. The bars stand once for each tier and number of threads.
CHARTS: tuple[ChartSpec, ...] = (
    _spec("heatmap", heatmap, _has_ladder),
    _spec("scaling", scaling, _of(BLOCK)),
    _spec("ceiling", ceiling, _of(BLOCK)),
    _spec("league", league, _of(BLOCK)),
    _spec("breakdown", breakdown, _is_profiled, per_case=True),
    _spec("waterfall", waterfall, _has_ladder, per_case=True),
    _spec("ratio", ratio, _has_ladder, per_case=True),
    _spec("worths", worth_bars, _of(ATTRIBUTION), per_case=True),
    _spec("savings", worth_waterfall, _of(ATTRIBUTION), per_case=True),
    _spec("interactions", interactions, _of(ATTRIBUTION), per_case=True),
    _spec("programs", strip, _of(ATTRIBUTION), per_case=True),
    _spec("steps", steps, _of("lm-step")),
    _spec("plane", plane, _of("attention-parts")),
    _spec("attention", rate, _has_crossover),
    _spec("cases", cases, _is_flat),
    _spec("growth", growth, _of(*_SWEEPS, "attention-parts")),
    _spec("memory", memory, _of(*_SWEEPS)),
    _spec("bars", bars, _is_flat),
)


def charts_of(run: Run) -> list[ChartSpec]:
    """Return the charts that are for a run, in the order of pages; the bars of each of its tiers
    as charts of their own."""
    found: list[ChartSpec] = []
    for spec in CHARTS:
        if spec.is_for(run):
            found += _bars(spec, run) if spec.key == "bars" else [spec]
    return found


def _bars(spec: ChartSpec, run: Run) -> list[ChartSpec]:
    return [
        replace(
            spec,
            key=f"bars {tier} {threads or ''}".rstrip(),
            title=f"Times of {title}",
            rows=partial(bars.rows, group=(tier, threads)),
            chart=partial(bars.chart, group=(tier, threads)),
            needs=partial(bars.needs, group=(tier, threads)),
        )
        for (tier, threads), title in bars.groups(run).items()
    ]


def against_published(other: Run) -> ChartSpec:
    """Return the chart that sets a case of a recorded run beside this published one."""
    return replace(
        _spec("published", published, _of(BLOCK), per_case=True),
        rows=lambda run, case: published.rows(run, other, case),
        chart=lambda run, case: published.chart(run, other, case),
        needs=lambda run, case: published.needs(run, other, case),
    )


def inside_brackets(rungs: brackets.Rungs) -> ChartSpec:
    """Return the chart that draws these ladders of the block inside the brackets of a case."""
    return replace(
        _spec("brackets", brackets, _of(ATTRIBUTION), per_case=True),
        rows=lambda run, case: brackets.rows(run, rungs, case),
        chart=lambda run, case: brackets.chart(run, rungs, case),
        needs=lambda run, case: brackets.needs(run, rungs, case),
    )


def needs(spec: ChartSpec, run: Run, case: str | None = None) -> str | None:
    """Say in a sentence why a chart cannot be drawn, or return None."""
    return spec.needs(*_arguments(spec, run, case))


def rows(spec: ChartSpec, run: Run, case: str | None = None) -> pl.DataFrame:
    """Return the frame behind a chart."""
    return spec.rows(*_arguments(spec, run, case))


def draw(spec: ChartSpec, run: Run, case: str | None = None) -> dict[str, Any]:
    """Return a chart as Vega-Lite; where it cannot be drawn, a picture of why not, in a sentence.

    Raises:
        ValueError: the chart is of one case, and none is named.
    """
    why_not = needs(spec, run, case)
    if why_not is not None:
        return sentence_chart(visible(why_not)).to_dict()
    return visible_dict(spec.chart(*_arguments(spec, run, case)))


def visible_dict(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """Return a chart as Vega-Lite with nothing in its texts that a reader cannot see."""
    # Vega checks it when it draws
    drawn: dict[str, Any] = all_visible(chart.to_dict(validate=False))
    return drawn


def _arguments(spec: ChartSpec, run: Run, case: str | None) -> tuple[Any, ...]:
    if not spec.per_case:
        return (run,)
    if case is None:
        raise ValueError(f"the chart {spec.key} is of one case, and none is named")
    return run, case


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
    """Lay out the frame of a chart; numbers have four digits, what is not known is "-".

    A column without a value is left out, and printed names that are the variants' own.
    """
    names = [name for name in frame.columns if frame.is_empty() or frame[name].count()]
    if {"variant", "printed_name"} <= set(names) and (
        frame["variant"].to_list() == frame["printed_name"].to_list()
    ):
        names.remove("printed_name")
    lines = [[_text(value) for value in row] for row in frame.select(names).iter_rows()]
    return Table(title, names, [("", lines)])


def _text(value: Any) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, float):
        return f"{float(f'{value:.4g}'):,.10g}"
    return str(value)
