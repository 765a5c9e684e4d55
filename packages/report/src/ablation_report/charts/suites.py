"""The charts of the further suites: which a source has, each as rows, as a picture and a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import altair as alt
import polars as pl

from ablation_report.charts import (
    suites_bars,
    suites_heatmap,
    suites_memory,
    suites_plane,
    suites_scaling,
    suites_steps,
)
from ablation_report.charts.theme import sentence_chart
from ablation_report.suite_sources import SuiteSource
from ablation_report.suite_tables import tier_title


@dataclass(frozen=True)
class SuiteChart:
    """A chart of one source: how pages name it, and its three functions, as those of `ChartSpec`
    but of a source that is known."""

    key: str
    title: str
    caption: str
    rows: Callable[[], pl.DataFrame]
    chart: Callable[[], alt.TopLevelMixin]
    needs: Callable[[], str | None]

    def draw(self) -> dict[str, Any]:
        """Return the chart as Vega-Lite; where it cannot be drawn, a sentence that says why."""
        why_not = self.needs()
        drawn: dict[str, Any]
        drawn = sentence_chart(why_not).to_dict() if why_not else self.chart().to_dict()
        return drawn


_WORDS: Mapping[str, tuple[Any, str, str]] = {
    "heatmap": (
        suites_heatmap,
        "Every implementation in every case",
        "Color: time over that of the best of the case. Text: the time, or the status.",
    ),
    "scaling": (
        suites_scaling,
        "Time over length",
        "A slope of 2 is the square of the length. Whiskers: 5th to 95th of a hundred samples.",
    ),
    "memory": (
        suites_memory,
        "Memory over length",
        "Bytes of one call above what was there before, its result included.",
    ),
    "steps": (
        suites_steps,
        "Forward, backward, optimizer",
        "The parts of a step of training, stacked.",
    ),
    "plane": (
        suites_plane,
        "Time against scratch",
        "Down and to the left is better. Both axes are logarithmic.",
    ),
}
_KEYS: Mapping[str, tuple[str, ...]] = {
    "attention-sweep": ("heatmap", "scaling", "memory"),
    "lm-step": ("steps", "heatmap"),
    "attention-backward": ("heatmap", "scaling", "memory"),
    "attention-parts": ("plane", "heatmap", "scaling"),
}


def suite_charts(source: SuiteSource) -> list[SuiteChart]:
    """Return the charts of a source: those of its suite, then the bars of each of its tiers."""
    found = []
    for key in _KEYS[source.suite]:
        module, title, caption = _WORDS[key]
        functions = [partial(f, source) for f in (module.rows, module.chart, module.needs)]
        found.append(SuiteChart(key, title, caption, *functions))
    for tier, threads in suites_bars.groups(source):
        functions = [
            partial(f, source, tier, threads)
            for f in (suites_bars.rows, suites_bars.chart, suites_bars.needs)
        ]
        title = f"Times of {tier_title(source, tier, threads)}"
        caption = (
            "Median of a call, with the 5th and 95th of a hundred. What has no time is named at "
            "the axis."
        )
        if source.is_published:
            caption = "The published figure of a call. What has no time is named at the axis."
        found.append(SuiteChart(f"bars {tier} {threads or ''}", title, caption, *functions))
    return found
