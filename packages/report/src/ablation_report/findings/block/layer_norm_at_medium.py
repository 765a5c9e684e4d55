"""LayerNorm at medium sizes: what SIMD and threads are worth, together and apart."""

from __future__ import annotations

from ablation_report.findings.base import Finding, Outcome, not_measured
from ablation_report.findings.block.steps import cases_of
from ablation_report.findings.judge import (
    combine,
    compare_at,
    faster_holds,
    gaps_text,
    judged,
    missing,
)
from ablation_report.findings.words import name_of, said
from ablation_report.run import BLOCK, Run

CONFIGS = ("Medium", "GPT-2")
SCALAR, SIMD, PARALLEL = "layernorm-scalar", "layernorm-simd", "layernorm-parallel"


def evaluate(run: Run) -> Outcome:
    """Judge SIMD with threads against scalar, and say what each of the two steps does."""
    found, gaps = compare_at(run, cases_of(run, CONFIGS), PARALLEL, SCALAR)
    if not found:
        return not_measured(gaps_text(gaps))
    text = f"{name_of(run, PARALLEL)} against {name_of(run, SCALAR)}: {said(run, found)}."
    every = [*found]
    for what, variant, base in (("SIMD", SIMD, SCALAR), ("threads", PARALLEL, SIMD)):
        step, step_gaps = compare_at(run, [c.case for c in found], variant, base)
        if step:
            text += f" The step of {what} alone: {said(run, step)}."
        gaps += step_gaps
        every += step
    verdict = combine(faster_holds(comparison) for comparison in found)
    return judged(run, verdict, text + missing(gaps), every)


FINDING = Finding(
    key="layer_norm_at_medium",
    suite=BLOCK,
    claim="At Medium and GPT-2, SIMD and threads in LayerNorm make the block faster.",
    published="LayerNorm with SIMD and threads matters at medium sizes.",
    evaluate=evaluate,
)
