"""Charts as fragments of a page: the specification inline, its table below."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ablation_report import charts
from ablation_report.charts import CHARTS, ChartSpec, charts_of
from ablation_report.escaping import attribute, escape
from ablation_report.run import Run
from ablation_report.site.choose import Place
from ablation_report.site.text import details, join, measures, slug

NO_SCRIPT = "A chart is drawn by JavaScript; its figures are in the table below."
# The chart on the first page, and the config that it is of where it is of one
HOME_CHART = CHARTS[0]
HOME_CONFIG = "GPT-2"
LEAGUE_CHART = "league"
# One for each tier and number of threads
TIER_CHARTS = "bars "


def run_figures(run: Run, is_whole: bool = True) -> str:
    """The charts of a run as a whole, but that of the league's page; those of each tier only where
    all are wanted."""
    specs = (s for s in charts_of(run) if not s.per_case and s.key != LEAGUE_CHART)
    wanted = (spec for spec in specs if is_whole or not spec.key.startswith(TIER_CHARTS))
    return join(*(figure(spec, run) for spec in wanted)).rstrip()


def league_figure(run: Run) -> str:
    """The chart that compares ours with other runtimes."""
    specs = (spec for spec in CHARTS if spec.key == LEAGUE_CHART)
    named = (replace(spec, title=f"{spec.title}: {run.name}") for spec in specs)
    return join(*(figure(spec, run) for spec in named)).rstrip()


def case_figures(place: Place) -> str:
    """The charts of one case of a run."""
    specs = (spec for spec in charts_of(place.run) if spec.per_case)
    return join(*(figure(spec, place.run, place) for spec in specs)).rstrip()


def beside_published(place: Place, other: Run) -> str:
    """The chart that sets a case of a recorded run beside a published one."""
    return figure(charts.against_published(other), place.run, place, other.name)


def home_figure(run: Run) -> str:
    """The chart of the first page."""
    if not HOME_CHART.per_case:
        return figure(HOME_CHART, run)
    places = [Place(run, case) for case in run.cases]
    return figure(HOME_CHART, run, next((p for p in places if p.config == HOME_CONFIG), places[0]))


def figure(spec: ChartSpec, run: Run, place: Place | None = None, other: str = "") -> str:
    """One chart with its heading, caption and table; what it lacks where it cannot be drawn."""
    case = place.case if place else None
    # The words of a case are long, and a config says them
    where = (place.config or place.case) if place else ""
    anchor = slug(" ".join(filter(None, (spec.key, run.suite, run.name, other, where))))
    heading = f"### {escape(spec.title)} {{ #{anchor} }}"
    if why_not := charts.needs(spec, run, case):
        return f"{heading}\n\n*Not drawn: {escape(why_not)}*"
    table = charts.to_table(charts.rows(spec, run, case))
    return join(
        heading,
        fragment(f"chart-{anchor}", spec.title, spec.caption, charts.draw(spec, run, case)),
        details(table.title, measures(table)),
    ).rstrip()


def fragment(name: str, title: str, caption: str, drawn: Mapping[str, Any]) -> str:
    """The HTML of a chart, which charts.js draws; `pictures.py` adds a picture for pages without.

    A browser may not fetch a file beside a page that it opened from the disk, so the specification
    stands in the page.
    """
    # No "<" at all: "<!--" too changes where a script ends
    content = json.dumps(drawn, separators=(",", ":")).replace("<", "\\u003c")
    label = attribute(title)
    return (
        '<figure class="chart">\n'
        f'<div class="vega-chart" id="{name}" role="img" aria-label="{label}"></div>\n'
        f'<script type="application/json" data-chart="{name}">{content}</script>\n'
        f"<noscript>{NO_SCRIPT}</noscript>\n"
        f"<figcaption>{escape(caption)}</figcaption>\n"
        "</figure>"
    )
