"""Threads in attention: whether they are the largest step between the attention variants."""

from __future__ import annotations

from collections.abc import Sequence

from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict, not_measured
from ablation_report.findings.judge import (
    combine,
    compare,
    compare_at,
    gaps_text,
    judged,
    missing,
    resolves,
)
from ablation_report.findings.words import (
    MARKS_NOTE,
    case_name,
    marked,
    name_of,
    place_of,
    placed,
    said,
    time_change,
)
from ablation_report.run import BLOCK, Comparison, Run
from ablation_report.stats import median
from ablation_report.tables import Table

UNFUSED, SCALAR = "attention-unfused-scalar", "attention-fused-scalar"
SIMD, PARALLEL = "attention-fused-simd", "attention-fused-parallel"
STEPS = ((SCALAR, UNFUSED), (SIMD, SCALAR), (PARALLEL, SIMD))


def evaluate(run: Run) -> Outcome:
    """Set the step from SIMD to parallel against the other steps of the group, by block time."""
    found, gaps = compare_at(run, run.cases, PARALLEL, SIMD)
    if not found:
        return not_measured(gaps_text(gaps))
    others: list[Comparison] = []
    verdicts: list[OutcomeVerdict] = []
    for threads in found:
        pairs = [compare(run, run.row(threads.case, step), base) for step, base in STEPS[:-1]]
        rivals = [comparison for comparison in pairs if comparison is not None]
        verdicts.append(is_largest(run, threads, rivals))
        others += rivals
    vector = [comparison for comparison in others if comparison.variant == SIMD]
    text = f"{name_of(run, PARALLEL)} against {name_of(run, SIMD)}: {said(run, found)}."
    if vector:
        text += f" {name_of(run, SIMD)} against {name_of(run, SCALAR)}: {said(run, vector)}."
    text += f" {_places(run, found, verdicts)}{missing(gaps)}"
    table = _table(run, [comparison.case for comparison in found])
    return judged(run, combine(verdicts), text, [*found, *others], table=table)


def is_largest(run: Run, threads: Comparison, rivals: Sequence[Comparison]) -> OutcomeVerdict:
    """Say whether the step of the threads is worth more than every other one, beyond the noise."""
    if threads.floor is None or not resolves(run, threads):
        return "not resolved"
    if threads.verdict in ("slower", "same"):
        return "does not hold"
    margin = 1 + threads.floor
    if any(threads.ratio.low > rival.ratio.high * margin for rival in rivals):
        return "does not hold"
    is_ahead = all(threads.ratio.high * margin < rival.ratio.low for rival in rivals)
    is_known = bool(rivals) and all(resolves(run, rival) for rival in rivals)
    return "holds" if threads.verdict == "faster" and is_ahead and is_known else "not resolved"


def _places(run: Run, found: Sequence[Comparison], verdicts: Sequence[OutcomeVerdict]) -> str:
    words: dict[OutcomeVerdict, str] = {
        "holds": "the largest step of the group at",
        "does not hold": "not the largest at",
        "not resolved": "not resolved from the other steps at",
    }
    parts = placed([place_of(run, c.row) for c in found], verdicts, words)
    return f"The step to threads is {', '.join(parts)}."


def _table(run: Run, cases: Sequence[str]) -> Table:
    """Lay out each step: the ratio of the block's times, and that of the attention parts alone."""
    groups = []
    for case in cases:
        rows = []
        for variant, base in STEPS:
            comparison = compare(run, run.row(case, variant), base)
            if comparison is not None:
                texts = [marked(comparison), time_change(comparison), _attention(comparison)]
                rows.append([run.printed(variant), run.printed(base), *texts])
        groups.append((case_name(run, case), rows))
    header = ("Step", "over", "block", "change", "attention part")
    return Table(f"Steps of attention: {run.name}", header, groups, (MARKS_NOTE,))


def _attention(comparison: Comparison) -> str:
    rows = comparison.row, comparison.base
    mine, theirs = ((row["profile"] or {}).get("attention") for row in rows)
    return f"{median(mine) / median(theirs):.2f}x" if mine and theirs and median(theirs) else "-"


FINDING = Finding(
    key="threading_in_attention",
    suite=BLOCK,
    claim="The step to threads is the largest step between the attention variants.",
    published="Threading dominates attention.",
    evaluate=evaluate,
)
