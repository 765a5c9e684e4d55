"""Charts as fragments of a page: the specification inline, its table below."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ablation_report import charts
from ablation_report.attention_rows import AttentionRun
from ablation_report.charts import ATTENTION, CHARTS, ChartSpec, Subject
from ablation_report.escaping import attribute, escape
from ablation_report.site.text import details, join, measures, slug
from ablation_report.sources import Source

NO_SCRIPT = "A chart is drawn by JavaScript; its figures are in the table below."
# The chart on the first page, and its config where it is of one
HOME_CHART = CHARTS[0]
HOME_CONFIG = "GPT-2"
# The chart that sets ours beside other runtimes stands on the league's page
LEAGUE_CHARTS = tuple(spec for spec in CHARTS if spec.key == "league")
CONFIG_CHARTS = tuple(spec for spec in CHARTS if spec.per_config)
LADDER_CHARTS = tuple(spec for spec in CHARTS if not spec.per_config and spec not in LEAGUE_CHARTS)


def figures(specs: Iterable[ChartSpec], source: Source, config: str | None = None) -> str:
    """Several charts of a source, or of one of its configs, below each other."""
    return join(*(figure(spec, source, source.name, config) for spec in specs)).rstrip()


def figure(spec: ChartSpec, subject: Subject, name: str, config: str | None = None) -> str:
    """One chart with its heading, caption and table; what it lacks where it cannot be drawn.

    `name` is that of the run or file, for the anchor.
    """
    anchor = slug(f"{spec.key} {name} {config or ''}")
    heading = f"### {escape(spec.title)} {{ #{anchor} }}"
    if why_not := charts.needs(spec, subject, config):
        return f"{heading}\n\n*Not drawn: {escape(why_not)}*"
    table = charts.to_table(charts.rows(spec, subject, config))
    return join(
        heading,
        fragment(f"chart-{anchor}", spec, charts.draw(spec, subject, config)),
        details(table.title, measures(table)),
    ).rstrip()


def fragment(name: str, spec: ChartSpec, drawn: Mapping[str, Any]) -> str:
    """The HTML of a chart, which charts.js draws; `pictures.py` adds a picture for pages without.

    A browser may not fetch a file beside a page that it opened from the disk, so the specification
    stands in the page.
    """
    # No "<" at all: "<!--" too changes where a script ends
    content = json.dumps(drawn, separators=(",", ":")).replace("<", "\\u003c")
    label = attribute(spec.title)
    return (
        '<figure class="chart">\n'
        f'<div class="vega-chart" id="{name}" role="img" aria-label="{label}"></div>\n'
        f'<script type="application/json" data-chart="{name}">{content}</script>\n'
        f"<noscript>{NO_SCRIPT}</noscript>\n"
        f"<figcaption>{escape(spec.caption)}</figcaption>\n"
        "</figure>"
    )


def home_figure(source: Source) -> str:
    """The chart of the first page."""
    if not HOME_CHART.per_config:
        return figure(HOME_CHART, source, source.name)
    config = HOME_CONFIG if HOME_CONFIG in source.configs else source.configs[0]
    return figure(HOME_CHART, source, source.name, config)


def attention_figure(run: AttentionRun) -> str:
    """The chart of a run of attention alone."""
    return figure(ATTENTION, run, run.name)
