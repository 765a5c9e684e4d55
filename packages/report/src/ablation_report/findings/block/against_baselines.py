"""The best of our variants against each runtime of others, PyTorch's two blocks among them."""

from __future__ import annotations

from collections.abc import Sequence

from ablation_report.findings.base import Finding, Outcome, not_measured
from ablation_report.findings.block.steps import variants_of
from ablation_report.findings.judge import (
    Gap,
    combine,
    compare,
    faster_holds,
    gaps_text,
    judged,
    missing,
    why_not,
)
from ablation_report.findings.words import (
    MARKS_NOTE,
    case_name,
    marked,
    name_of,
    ratio_text,
    said,
)
from ablation_report.run import BLOCK, LEAGUE, Comparison, Run, is_other, is_ours
from ablation_report.tables import Table


def evaluate(run: Run) -> Outcome:
    """Compare the best of ours with every baseline in every case."""
    asked = [
        *variants_of(run, lambda row: is_other(row) and row["group"] != LEAGUE),
        *variants_of(run, lambda row: is_other(row) and row["group"] == LEAGUE),
    ]
    found: dict[str, list[Comparison]] = {variant: [] for variant in asked}
    gaps: list[Gap] = []
    for case in run.cases:
        best = run.best(case, is_ours)
        if best is None:
            gaps.append((case_name(run, case), "no compiled variant has a time"))
            continue
        for baseline in asked:
            comparison = compare(run, best, baseline)
            if comparison is None:
                gaps.append((case_name(run, case), why_not(run, case, baseline)))
            else:
                found[baseline].append(comparison)
    every = [comparison for group in found.values() for comparison in group]
    if not every:
        return not_measured(gaps_text(gaps) or "no other runtime")
    lines = [
        f"{name_of(run, baseline)}: {said(run, group, ratio_text)}"
        for baseline, group in found.items()
        if group
    ]
    sentence = f"Time of our best variant over {'. Over '.join(lines)}.{missing(gaps)}"
    verdict = combine(faster_holds(comparison) for comparison in every)
    return judged(run, verdict, sentence, every, table=_table(run, asked, every))


def _table(run: Run, baselines: Sequence[str], every: Sequence[Comparison]) -> Table:
    at = {(comparison.case, comparison.base_variant): comparison for comparison in every}
    best = {comparison.case: comparison.variant for comparison in every}
    rows = [
        [
            case_name(run, case),
            run.printed(best[case]),
            *(marked(at.get((case, baseline))) for baseline in baselines),
        ]
        for case in run.cases
        if case in best
    ]
    header = ("Config", "best of ours", *(f"over {run.printed(name)}" for name in baselines))
    return Table(f"Against baselines: {run.name}", header, [("", rows)], (MARKS_NOTE,))


FINDING = Finding(
    key="against_baselines",
    suite=BLOCK,
    claim="At every config our best variant is faster than every other runtime.",
    published=None,
    evaluate=evaluate,
)
