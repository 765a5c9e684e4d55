"""The pass that turns a product and an addition into one call of BLAS: gain or cost."""

from __future__ import annotations

from ablation_report.findings.base import Finding, Outcome, judged, not_measured
from ablation_report.findings.judge import compare_at, gaps_text, missing, never
from ablation_report.findings.words import name_of, said
from ablation_report.sources import Source

VARIANT, PARENT = "passes-matmul-add", "passes-absorb"


def evaluate(source: Source) -> Outcome:
    """Judge the pass against the rung below at each config."""
    found, gaps = compare_at(source, source.configs, VARIANT, PARENT)
    if not found:
        return not_measured(gaps_text(gaps))
    names = f"{name_of(source, VARIANT)} against {name_of(source, PARENT)}"
    verdict = never(source, found, bad="slower", good="faster")
    return judged(verdict, f"{names}: {said(found)}.{missing(gaps)}", found)


FINDING = Finding(
    key="matmul_add_worth",
    title="What + MATMUL_ADD is worth",
    claim="The pass + MATMUL_ADD costs more than it gains at no config.",
    published=None,
    evaluate=evaluate,
)
