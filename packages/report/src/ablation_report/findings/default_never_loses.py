"""What compile chooses by itself, against the best variant of the published ladder."""

from __future__ import annotations

from ablation_report.findings.base import Finding, Outcome, judged, not_measured
from ablation_report.findings.judge import (
    Gap,
    compare,
    gaps_text,
    is_published_rung,
    missing,
    never,
    timed,
    why_not,
)
from ablation_report.findings.words import name_of, said, time_change
from ablation_report.ladder import DEFAULT
from ablation_report.sources import Comparison, Source


def evaluate(source: Source) -> Outcome:
    """Compare the default with the smallest median of the published ladder at each config."""
    found: list[Comparison] = []
    gaps: list[Gap] = []
    for config in source.configs:
        best = next(iter(timed(source, config, is_published_rung)), None)
        comparison = compare(source, config, DEFAULT, best)
        if comparison is not None:
            found.append(comparison)
        elif best is None:
            gaps.append((config, "no variant of the published ladder with a time"))
        else:
            gaps.append((config, why_not(source, config, DEFAULT)))
    if not found:
        return not_measured(gaps_text(gaps))

    def write(comparison: Comparison) -> str:
        return f"against {name_of(source, comparison.base)}, {time_change(comparison)}"

    sentence = f"{name_of(source, DEFAULT)} is {said(found, write)}.{missing(gaps)}"
    return judged(never(source, found, bad="slower", good="faster"), sentence, found)


FINDING = Finding(
    key="default_never_loses",
    title="The tuned default",
    claim="What compile chooses by itself is slower than the best variant of the published ladder "
    "at no config.",
    published=None,
    evaluate=evaluate,
)
