"""Dispatch at small sizes: how many times as fast as PyTorch the compiled block is."""

from __future__ import annotations

from collections.abc import Sequence

from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict, judged, not_measured
from ablation_report.findings.judge import (
    Gap,
    combine,
    compare,
    compare_at,
    gaps_text,
    is_published_rung,
    missing,
    resolves,
    timed,
    why_not,
)
from ablation_report.findings.words import name_of, placed, speed_up
from ablation_report.ladder import NAIVE
from ablation_report.sources import Comparison, Source

CONFIGS = ("Toy", "Small")
# The published range of the speed-up
LOW, HIGH = 7.0, 10.0
# The rung that leaves the graph as it is
PLAIN = "passes-none"


def evaluate(source: Source) -> Outcome:
    """Set PT naive against the fastest compiled variant of the published ladder."""
    found: list[Comparison] = []
    gaps: list[Gap] = []
    for config in CONFIGS:
        best = next(iter(timed(source, config, is_published_rung)), None)
        comparison = compare(source, config, best, NAIVE) if best else None
        if comparison is not None:
            found.append(comparison)
        elif best is None and config in source.by_config:
            gaps.append((config, "no compiled variant with a time"))
        else:
            gaps.append((config, why_not(source, config, *([best] if best else []), NAIVE)))
    if not found:
        return not_measured(gaps_text(gaps))
    verdicts = [in_range(source, comparison) for comparison in found]
    alone, _ = compare_at(source, CONFIGS, PLAIN, NAIVE)
    sentence = _sentence(source, found, verdicts, alone) + missing(gaps)
    return judged(combine(verdicts), sentence, [*found, *alone])


def in_range(source: Source, comparison: Comparison) -> OutcomeVerdict:
    """Say whether a speed-up, with its interval and the floor, lies in the range or outside it."""
    floor = comparison.floor
    if floor is None or not resolves(source, comparison):
        return "not resolved"
    least, most = 1 / comparison.ratio.high, 1 / comparison.ratio.low
    if least >= LOW * (1 + floor) and most <= HIGH * (1 - floor):
        return "holds"
    if most < LOW * (1 - floor) or least > HIGH * (1 + floor):
        return "does not hold"
    return "not resolved"


def _sentence(
    source: Source,
    found: Sequence[Comparison],
    verdicts: Sequence[OutcomeVerdict],
    alone: Sequence[Comparison],
) -> str:
    best = [f"{speed_up(c)} at {c.config} ({name_of(source, c.variant)})" for c in found]
    text = f"{name_of(source, NAIVE)} over the best compiled variant: {', '.join(best)}"
    if alone:
        plain = ", ".join(f"{speed_up(c)} at {c.config}" for c in alone)
        text += f"; over {name_of(source, PLAIN)}, which leaves the graph as it is: {plain}"
    words: dict[OutcomeVerdict, str] = {
        "holds": "inside at",
        "does not hold": "outside at",
        "not resolved": "not resolved from its ends at",
    }
    parts = placed([c.config for c in found], verdicts, words)
    return f"{text}. Of the range of {LOW:g}x to {HIGH:g}x the best one is {', '.join(parts)}."


FINDING = Finding(
    key="dispatch_overhead",
    title="Dispatch overhead at small sizes",
    claim="At Toy and Small the best compiled variant of the published ladder is 7 to 10 times as "
    "fast as PT naive.",
    published="Dispatch overhead dominates at small sizes: compiled is 7-10x faster than PyTorch "
    "at Toy and Small.",
    evaluate=evaluate,
)
