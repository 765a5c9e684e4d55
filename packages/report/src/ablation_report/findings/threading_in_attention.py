"""Threads in attention: whether they are the largest step between the attention variants."""

from __future__ import annotations

from collections.abc import Sequence

from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict, judged, not_measured
from ablation_report.findings.judge import (
    combine,
    compare,
    compare_at,
    gaps_text,
    missing,
    resolves,
)
from ablation_report.findings.words import MARKS_NOTE, marked, name_of, placed, said, time_change
from ablation_report.metrics import median
from ablation_report.sources import Comparison, Source
from ablation_report.tables import Table

UNFUSED, SCALAR = "attention-unfused-scalar", "attention-fused-scalar"
SIMD, PARALLEL = "attention-fused-simd", "attention-fused-parallel"
STEPS = ((SCALAR, UNFUSED), (SIMD, SCALAR), (PARALLEL, SIMD))


def evaluate(source: Source) -> Outcome:
    """Set the step from SIMD to parallel against the other steps of the group, by block time."""
    found, gaps = compare_at(source, source.configs, PARALLEL, SIMD)
    if not found:
        return not_measured(gaps_text(gaps))
    others: list[Comparison] = []
    verdicts: list[OutcomeVerdict] = []
    for threads in found:
        pairs = [compare(source, threads.config, *step) for step in STEPS[:-1]]
        rivals = [comparison for comparison in pairs if comparison is not None]
        verdicts.append(is_largest(source, threads, rivals))
        others += rivals
    vector = [comparison for comparison in others if comparison.variant == SIMD]
    text = f"{name_of(source, PARALLEL)} against {name_of(source, SIMD)}: {said(found)}."
    if vector:
        text += f" {name_of(source, SIMD)} against {name_of(source, SCALAR)}: {said(vector)}."
    text += f" {_places(found, verdicts)}{missing(gaps)}"
    table = _table(source, [comparison.config for comparison in found])
    return judged(combine(verdicts), text, [*found, *others], table=table)


def is_largest(source: Source, threads: Comparison, rivals: Sequence[Comparison]) -> OutcomeVerdict:
    """Say whether the step of the threads is worth more than every other one, beyond the noise."""
    if threads.floor is None or not resolves(source, threads):
        return "not resolved"
    if threads.verdict in ("slower", "same"):
        return "does not hold"
    margin = 1 + threads.floor
    if any(threads.ratio.low > rival.ratio.high * margin for rival in rivals):
        return "does not hold"
    is_ahead = all(threads.ratio.high * margin < rival.ratio.low for rival in rivals)
    is_known = bool(rivals) and all(resolves(source, rival) for rival in rivals)
    return "holds" if threads.verdict == "faster" and is_ahead and is_known else "not resolved"


def _places(found: Sequence[Comparison], verdicts: Sequence[OutcomeVerdict]) -> str:
    words: dict[OutcomeVerdict, str] = {
        "holds": "the largest step of the group at",
        "does not hold": "not the largest at",
        "not resolved": "not resolved from the other steps at",
    }
    parts = placed([comparison.config for comparison in found], verdicts, words)
    return f"Threads are {', '.join(parts)}."


def _table(source: Source, configs: Sequence[str]) -> Table:
    """Lay out each step: the ratio of the block's times, and that of the attention parts alone."""
    groups = []
    for config in configs:
        rows = []
        for variant, base in STEPS:
            comparison = compare(source, config, variant, base)
            if comparison is not None:
                cells = [marked(comparison), time_change(comparison), _attention(comparison)]
                rows.append([source.printed(variant), source.printed(base), *cells])
        groups.append((config, rows))
    header = ("Step", "over", "block", "change", "attention part")
    return Table(f"Steps of attention: {source.label}", header, groups, (MARKS_NOTE,))


def _attention(comparison: Comparison) -> str:
    mine, theirs = (cell["profile_attention_ns"] for cell in comparison.rows)
    return f"{median(mine) / median(theirs):.2f}x" if mine and theirs and median(theirs) else "-"


FINDING = Finding(
    key="threading_in_attention",
    title="Threads in attention",
    claim="From SIMD to parallel is the step of the attention group that takes most off the "
    "block's time.",
    published="Threading dominates attention.",
    evaluate=evaluate,
)
