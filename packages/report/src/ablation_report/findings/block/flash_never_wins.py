"""Flash against fused attention: whether tiles of scores ever win over whole rows of them."""

from __future__ import annotations

from ablation_report.findings.base import Finding, Outcome, not_measured
from ablation_report.findings.judge import (
    Gap,
    compare,
    gaps_text,
    judged,
    missing,
    never,
    why_not,
)
from ablation_report.findings.words import case_name, name_of, said
from ablation_report.run import BLOCK, Comparison, Run

# The same step in two groups; the second is taken where a run leaves the first out.
PAIRS = (
    ("attention-flash-parallel", "attention-fused-parallel"),
    ("flash-layernorm", "layernorm-parallel"),
)


def flash_against_fused(run: Run) -> tuple[list[Comparison], list[Gap]]:
    """Compare flash with fused in each case; return also the cases without both."""
    found: list[Comparison] = []
    gaps: list[Gap] = []
    for case in run.cases:
        pairs = [compare(run, run.row(case, flash), fused) for flash, fused in PAIRS]
        there = [comparison for comparison in pairs if comparison is not None]
        found += there[:1]
        if not there:
            gaps.append((case_name(run, case), why_not(run, case, *PAIRS[0])))
    return found, gaps


def by_pair(run: Run, found: list[Comparison]) -> str:
    """Write the comparisons by the two variants that were compared."""
    pairs = dict.fromkeys((c.variant, c.base_variant) for c in found)
    return ". ".join(
        f"{name_of(run, variant)} against {name_of(run, base)}: "
        + said(run, (c for c in found if (c.variant, c.base_variant) == (variant, base)))
        for variant, base in pairs
    )


def evaluate(run: Run) -> Outcome:
    """Judge whether flash is faster anywhere."""
    found, gaps = flash_against_fused(run)
    if not found:
        return not_measured(gaps_text(gaps))
    verdict = never(run, found, bad="faster", good="slower")
    return judged(run, verdict, f"{by_pair(run, found)}.{missing(gaps)}", found)


FINDING = Finding(
    key="flash_never_wins",
    suite=BLOCK,
    claim="In a block, flash attention is never faster than fused attention.",
    published="Flash attention never wins on a CPU.",
    evaluate=evaluate,
)
