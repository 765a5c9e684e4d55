"""The charts of the further suites, and which of them a source has."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from ablation_report.charts import (
    ChartSpec,
    suites_bars,
    suites_heatmap,
    suites_memory,
    suites_plane,
    suites_scaling,
    suites_steps,
)
from ablation_report.suite_sources import SuiteSource
from ablation_report.suite_tables import tier_title

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
_BARS = "Median of a call, with the 5th and 95th of a hundred."
_ABSENT = "What has no time is named at the axis."
_KEYS: Mapping[str, tuple[str, ...]] = {
    "attention-sweep": ("heatmap", "scaling", "memory"),
    "lm-step": ("steps", "heatmap"),
    "attention-backward": ("heatmap", "scaling", "memory"),
    "attention-parts": ("plane", "heatmap", "scaling"),
}


def suite_charts(source: SuiteSource) -> list[ChartSpec]:
    """Return the charts of a source: those of its suite, then the bars of each of its tiers."""
    found = []
    for key in _KEYS[source.suite]:
        module, title, caption = _WORDS[key]
        found.append(ChartSpec(key, title, caption, False, module.rows, module.chart, module.needs))
    caption = "The published figure of a call." if source.is_published else _BARS
    for tier, threads in suites_bars.groups(source):
        which: dict[str, Any] = {"tier": tier, "threads": threads}
        found.append(
            ChartSpec(
                f"bars {tier} {threads or ''}".rstrip(),
                f"Times of {tier_title(source, tier, threads)}",
                f"{caption} {_ABSENT}",
                False,
                partial(suites_bars.rows, **which),
                partial(suites_bars.chart, **which),
                partial(suites_bars.needs, **which),
            )
        )
    return found
