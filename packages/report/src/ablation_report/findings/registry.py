"""The findings in reading order."""

from __future__ import annotations

from collections.abc import Iterable

from ablation_report.findings import (
    against_baselines,
    best_variant,
    default_never_loses,
    dispatch_overhead,
    feed_forward_dominates,
    flash_crossover,
    flash_never_wins,
    layer_norm_at_medium,
    matmul_add_worth,
    published_noise,
    rungs,
    shifts,
    threading_in_attention,
)
from ablation_report.findings.base import Finding, Outcome
from ablation_report.sources import Source

FINDINGS: tuple[Finding, ...] = (
    # The five published ones
    dispatch_overhead.FINDING,
    threading_in_attention.FINDING,
    flash_never_wins.FINDING,
    feed_forward_dominates.FINDING,
    layer_norm_at_medium.FINDING,
    # What else the published ladder says
    matmul_add_worth.FINDING,
    published_noise.FINDING,
    best_variant.FINDING,
    rungs.FINDING,
    shifts.FINDING,
    # Ours
    against_baselines.FINDING,
    flash_crossover.FINDING,
    default_never_loses.FINDING,
)


def evaluate_all(sources: Iterable[Source]) -> list[tuple[Finding, Source, Outcome]]:
    """Ask every source for every finding, in the order of the findings, then of the sources."""
    asked = tuple(sources)
    return [(finding, source, finding.evaluate(source)) for finding in FINDINGS for source in asked]
