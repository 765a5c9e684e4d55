"""The best of our variants in each case, and whether the runner-up is really slower."""

from __future__ import annotations

from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict, not_measured
from ablation_report.findings.judge import (
    Gap,
    combine,
    compare,
    fastest,
    gaps_text,
    is_twin,
    judged,
    missing,
)
from ablation_report.findings.words import case_name, name_of, said, time_change
from ablation_report.run import BLOCK, Comparison, Run, is_ours
from ablation_report.stats import Verdict

# The times put the runner-up behind: a ratio that calls it faster settles nothing.
_JUDGED: dict[Verdict, OutcomeVerdict] = {
    "slower": "holds",
    "same": "does not hold",
    "faster": "not resolved",
    "not resolved": "not resolved",
}


def evaluate(run: Run) -> Outcome:
    """Compare the second smallest time with the smallest; two names of a program are one."""
    found: list[Comparison] = []
    gaps: list[Gap] = []
    for case in run.cases:
        comparison = runner_up_against_best(run, case)
        if comparison is None:
            gaps.append((case_name(run, case), "fewer than two compiled variants have a time"))
        else:
            found.append(comparison)
    if not found:
        return not_measured(gaps_text(gaps))

    def write(comparison: Comparison) -> str:
        best, second = name_of(run, comparison.base_variant), name_of(run, comparison.variant)
        return f"best {best}, then {second} {time_change(comparison)}"

    sentence = f"Our second best is {said(run, found, write)}.{missing(gaps)}"
    return judged(run, combine(_JUDGED[c.verdict] for c in found), sentence, found)


def runner_up_against_best(run: Run, case: str) -> Comparison | None:
    """Compare the runner-up with the best of ours; None where there are no two."""
    ordered = fastest(run, case, is_ours)
    if not ordered:
        return None
    best = ordered[0]
    rivals = (row for row in ordered[1:] if not is_twin(run, case, row["variant"], best["variant"]))
    return compare(run, next(rivals, None), best)


FINDING = Finding(
    key="best_variant",
    suite=BLOCK,
    claim="At every config our best variant is faster than our second best.",
    published=None,
    evaluate=evaluate,
)
