"""The best of our variants at each config, and whether the runner-up is really slower."""

from __future__ import annotations

from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict, judged, not_measured
from ablation_report.findings.judge import (
    Gap,
    combine,
    compare,
    gaps_text,
    is_our_rung,
    is_twin,
    missing,
    timed,
)
from ablation_report.findings.words import name_of, said, time_change
from ablation_report.metrics import Verdict
from ablation_report.sources import Comparison, Source

# The medians put the runner-up behind: a paired ratio that calls it faster settles nothing
_JUDGED: dict[Verdict, OutcomeVerdict] = {
    "slower": "holds",
    "same": "does not hold",
    "faster": "not resolved",
    "not resolved": "not resolved",
}


def evaluate(source: Source) -> Outcome:
    """Compare the second smallest median with the smallest; two names of a program are one."""
    found: list[Comparison] = []
    gaps: list[Gap] = []
    for config in source.configs:
        comparison = runner_up_against_best(source, config)
        if comparison is None:
            gaps.append((config, "no two compiled variants with times to pair"))
        else:
            found.append(comparison)
    if not found:
        return not_measured(gaps_text(gaps))

    def write(comparison: Comparison) -> str:
        best, second = name_of(source, comparison.base), name_of(source, comparison.variant)
        return f"best {best}, then {second} {time_change(comparison)}"

    sentence = f"The runner-up is {said(found, write)}.{missing(gaps)}"
    return judged(combine(_JUDGED[c.verdict] for c in found), sentence, found)


def runner_up_against_best(source: Source, config: str) -> Comparison | None:
    """Compare the runner-up with the best of ours; None where there are no two."""
    variants = list(timed(source, config, is_our_rung))
    rivals = [name for name in variants[1:] if not is_twin(source, config, name, variants[0])]
    return compare(source, config, rivals[0], variants[0]) if rivals else None


FINDING = Finding(
    key="best_variant",
    title="The best variant",
    claim="At each config the best of our variants is faster than the runner-up.",
    published=None,
    evaluate=evaluate,
)
