"""Flash against fused attention: whether tiles of scores ever win over whole rows of them."""

from __future__ import annotations

from ablation_report.findings.base import Finding, Outcome, judged, not_measured
from ablation_report.findings.judge import Gap, compare, gaps_text, missing, never, why_not
from ablation_report.findings.words import name_of, said
from ablation_report.sources import Comparison, Source

# The same step in two groups; the second is taken where a run leaves the first out
PAIRS = (
    ("attention-flash-parallel", "attention-fused-parallel"),
    ("flash-layernorm", "layernorm-parallel"),
)


def flash_against_fused(source: Source) -> tuple[list[Comparison], list[Gap]]:
    """Compare flash with fused at each config; return also the configs without both."""
    found: list[Comparison] = []
    gaps: list[Gap] = []
    for config in source.configs:
        pairs = [compare(source, config, *pair) for pair in PAIRS]
        there = [comparison for comparison in pairs if comparison is not None]
        found += there[:1]
        if not there:
            gaps.append((config, why_not(source, config, *PAIRS[0])))
    return found, gaps


def by_pair(source: Source, found: list[Comparison]) -> str:
    """Write the comparisons by the two variants that were compared."""
    pairs = dict.fromkeys((comparison.variant, comparison.base) for comparison in found)
    return ". ".join(
        f"{name_of(source, variant)} against {name_of(source, base)}: "
        + said(c for c in found if (c.variant, c.base) == (variant, base))
        for variant, base in pairs
    )


def evaluate(source: Source) -> Outcome:
    """Judge whether flash is faster anywhere."""
    found, gaps = flash_against_fused(source)
    if not found:
        return not_measured(gaps_text(gaps))
    verdict = never(source, found, bad="faster", good="slower")
    return judged(verdict, f"{by_pair(source, found)}.{missing(gaps)}", found)


FINDING = Finding(
    key="flash_never_wins",
    title="Flash attention on a CPU",
    claim="Flash attention is faster than fused attention at no config.",
    published="Flash attention never wins on a CPU.",
    evaluate=evaluate,
)
