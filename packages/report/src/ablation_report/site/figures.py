"""Charts as fragments of a page: the specification inline, its table below."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import altair as alt

from ablation_report import charts
from ablation_report.charts import CHARTS, ChartSpec, charts_of
from ablation_report.charts.theme import finish
from ablation_report.escaping import attribute, escape, list_item
from ablation_report.run import Run
from ablation_report.site.choose import Place
from ablation_report.site.text import details, join, slug

NO_SCRIPT = "JavaScript draws this chart, and the table of its rows."
ROWS_TITLE = "The rows behind the chart"
LEAGUE_CHART = "league"
MISSING = "Charts that these rows do not allow"
# One for each tier and number of threads
TIER_CHARTS = "bars "


def run_figures(run: Run, is_whole: bool = True, is_titled: bool = True) -> str:
    """The charts of a run as a whole, but that of the league's page; those of each tier only where
    all are wanted."""
    specs = (s for s in charts_of(run) if not s.per_case and s.key != LEAGUE_CHART)
    wanted = (s for s in specs if is_whole or not s.key.startswith(TIER_CHARTS))
    return figures(wanted, run, is_titled=is_titled)


def league_figure(run: Run) -> str:
    """The chart that compares ours with other runtimes."""
    specs = (spec for spec in CHARTS if spec.key == LEAGUE_CHART)
    named = (replace(spec, title=f"{spec.title}: {run.name}") for spec in specs)
    return figures(named, run, is_titled=False)


def case_figures(place: Place, is_titled: bool = True) -> str:
    """The charts of one case of a run."""
    wanted = (spec for spec in charts_of(place.run) if spec.per_case)
    return figures(wanted, place.run, place, is_titled)


def figures(
    specs: Iterable[ChartSpec], run: Run, place: Place | None = None, is_titled: bool = True
) -> str:
    """Charts below each other: the first that can be drawn is open, with a heading where it is to
    be titled; the others are folded, and so are the reasons of those that cannot be drawn."""
    parts: list[str] = []
    missing: list[str] = []
    for spec in specs:
        if why_not := charts.needs(spec, run, place.case if place else None):
            missing.append(list_item(f"{spec.title}: {why_not}"))
        elif parts:
            parts.append(details(spec.title, figure(spec, run, place, is_titled=False)))
        else:
            parts.append(figure(spec, run, place, is_titled=is_titled))
    return join(*parts, details(MISSING, "\n".join(missing)) if missing else None).rstrip()


def beside_published(place: Place, other: Run) -> str:
    """The chart that sets a case of a recorded run beside a published one, without a heading."""
    spec = charts.against_published(other)
    return figure(spec, place.run, place, other.name, is_titled=False)


def figure(
    spec: ChartSpec,
    run: Run,
    place: Place | None = None,
    other: str = "",
    is_titled: bool = True,
) -> str:
    """One chart with its heading, caption and table; empty where it cannot be drawn."""
    case = place.case if place else None
    if charts.needs(spec, run, case):
        return ""
    # The words of a case are long, and a config says them
    where = (place.config or place.case) if place else ""
    anchor = slug(" ".join(filter(None, (spec.key, run.suite, run.name, other, where))))
    name = f"chart-{anchor}"
    return join(
        f"### {escape(spec.title)} {{ #{anchor} data-search-exclude }}" if is_titled else None,
        fragment(name, spec.title, spec.caption, charts.draw(spec, run, case)),
        # They are in the specification: charts.js makes the table when it is opened
        f'<details data-rows="{name}" data-search-exclude>'
        f"<summary>{ROWS_TITLE}</summary></details>",
    ).rstrip()


def fragment(name: str, title: str, caption: str, drawn: Mapping[str, Any]) -> str:
    """The HTML of a chart, which charts.js draws; `pictures.py` adds a picture for pages without.

    A browser may not fetch a file beside a page that it opened from the disk, so the specification
    stands in the page.
    """
    # No "<" at all: "<!--" too changes where a script ends
    content = json.dumps(packed(drawn), separators=(",", ":")).replace("<", "\\u003c")
    label = attribute(title)
    return (
        '<figure class="chart" data-search-exclude>\n'
        f'<div class="vega-chart" id="{name}" role="img" aria-label="{label}"></div>\n'
        f'<script type="application/json" data-chart="{name}">{content}</script>\n'
        f"<noscript>{NO_SCRIPT}</noscript>\n"
        f"<figcaption>{escape(caption)}</figcaption>\n"
        "</figure>"
    )


def packed(drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Return a specification with its data by columns, six digits of each number, which no chart
    shows more of, and without the looks that all charts share: a third of the bytes. charts.js
    unpacks it.
    """
    short: dict[str, Any] = _short(drawn)
    if short.get("config") == shared_looks():
        del short["config"]
    datasets = {
        name: {"n": len(rows), "columns": {key: _column(rows, key) for key in (rows or [{}])[0]}}
        for name, rows in short.get("datasets", {}).items()
    }
    return {**short, "datasets": datasets} if datasets else short


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> list[list[Any]]:
    """The values of a column; where they repeat, each once, and the place of that of each row."""
    values = [row[name] for row in rows]
    places = {value: place for place, value in enumerate(dict.fromkeys(values))}
    if len(places) == 1:
        return [values[:1]]
    if 2 * len(places) > len(values):
        return [values]
    return [list(places), [places[value] for value in values]]


def unpacked(specification: Mapping[str, Any]) -> dict[str, Any]:
    """Return a specification as Vega-Lite has it."""
    datasets = {
        name: [
            {key: _value(stored, row) for key, stored in data["columns"].items()}
            for row in range(data["n"])
        ]
        for name, data in specification.get("datasets", {}).items()
    }
    found = {"config": shared_looks(), **specification}
    return {**found, "datasets": datasets} if datasets else found


def _value(stored: Sequence[Sequence[Any]], row: int) -> Any:
    values, *places = stored
    if places:
        return values[places[0][row]]
    return values[0] if len(values) == 1 else values[row]


@cache
def shared_looks() -> dict[str, Any]:
    """Return what every chart says of fonts, axes and legends; charts.js has it once."""
    found: dict[str, Any] = _short(finish(alt.Chart().mark_point(), "").to_dict()["config"])
    return found


def _short(value: Any) -> Any:
    """Nested lists and tables with six digits of each number."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {name: _short(entry) for name, entry in value.items()}
    return [_short(entry) for entry in value] if isinstance(value, list) else value
