"""LayerNorm at medium sizes: what SIMD and threads are worth, together and apart."""

from __future__ import annotations

from ablation_report.findings.base import Finding, Outcome, judged, not_measured
from ablation_report.findings.judge import combine, compare_at, faster_holds, gaps_text, missing
from ablation_report.findings.words import name_of, said
from ablation_report.sources import Source

CONFIGS = ("Medium", "GPT-2")
SCALAR, SIMD, PARALLEL = "layernorm-scalar", "layernorm-simd", "layernorm-parallel"


def evaluate(source: Source) -> Outcome:
    """Judge SIMD with threads against scalar; say besides what each of the two steps does."""
    found, gaps = compare_at(source, CONFIGS, PARALLEL, SCALAR)
    if not found:
        return not_measured(gaps_text(gaps))
    text = f"{name_of(source, PARALLEL)} against {name_of(source, SCALAR)}: {said(found)}."
    every = [*found]
    for what, variant, base in (("SIMD", SIMD, SCALAR), ("threads", PARALLEL, SIMD)):
        step, step_gaps = compare_at(source, [c.config for c in found], variant, base)
        if step:
            text += f" The step of {what} alone: {said(step)}."
        gaps += step_gaps
        every += step
    verdict = combine(faster_holds(comparison) for comparison in found)
    return judged(verdict, text + missing(gaps), every)


FINDING = Finding(
    key="layer_norm_at_medium",
    title="LayerNorm at medium sizes",
    claim="At Medium and GPT-2, LayerNorm with SIMD and threads makes the block faster than scalar "
    "LayerNorm.",
    published="LayerNorm with SIMD and threads matters at medium sizes.",
    evaluate=evaluate,
)
