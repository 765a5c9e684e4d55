"""What compile chooses by itself, against the best variant of the published ladder."""

from __future__ import annotations

from ablation_report.findings.base import Finding, Outcome, not_measured
from ablation_report.findings.block.steps import is_published_rung
from ablation_report.findings.judge import (
    Gap,
    compare,
    gaps_text,
    judged,
    missing,
    never,
    why_not,
)
from ablation_report.findings.words import case_name, name_of, said, time_change
from ablation_report.run import BLOCK, DEFAULT, Comparison, Run


def evaluate(run: Run) -> Outcome:
    """Compare the default with the smallest time of the published ladder in each case."""
    found: list[Comparison] = []
    gaps: list[Gap] = []
    for case in run.cases:
        best = run.best(case, is_published_rung)
        comparison = compare(run, run.row(case, DEFAULT), best)
        if comparison is not None:
            found.append(comparison)
        elif best is None:
            reason = "no variant of the published ladder with a time"
            gaps.append((case_name(run, case), reason))
        else:
            gaps.append((case_name(run, case), why_not(run, case, DEFAULT)))
    if not found:
        return not_measured(gaps_text(gaps))

    def write(comparison: Comparison) -> str:
        return f"against {name_of(run, comparison.base_variant)}, {time_change(comparison)}"

    sentence = f"{name_of(run, DEFAULT)} is {said(run, found, write)}.{missing(gaps)}"
    return judged(run, never(run, found, bad="slower", good="faster"), sentence, found)


FINDING = Finding(
    key="default_never_loses",
    suite=BLOCK,
    claim="What compile chooses is never slower than the best of the published ladder.",
    published=None,
    evaluate=evaluate,
)
