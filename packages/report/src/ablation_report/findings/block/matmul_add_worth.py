"""The pass that turns a product and an addition into one call of BLAS: gain or cost."""

from __future__ import annotations

from ablation_report.findings.base import Finding, Outcome, not_measured
from ablation_report.findings.judge import compare_at, gaps_text, judged, missing, never
from ablation_report.findings.words import name_of, said
from ablation_report.run import BLOCK, Run

VARIANT, PARENT = "passes-matmul-add", "passes-absorb"


def evaluate(run: Run) -> Outcome:
    """Judge the pass against the rung below in each case."""
    found, gaps = compare_at(run, run.cases, VARIANT, PARENT)
    if not found:
        return not_measured(gaps_text(gaps))
    names = f"{name_of(run, VARIANT)} against {name_of(run, PARENT)}"
    verdict = never(run, found, bad="slower", good="faster")
    return judged(run, verdict, f"{names}: {said(run, found)}.{missing(gaps)}", found)


FINDING = Finding(
    key="matmul_add_worth",
    suite=BLOCK,
    claim="The fusion of a product and an addition (+ MATMUL_ADD) never makes the block slower.",
    published=None,
    evaluate=evaluate,
)
