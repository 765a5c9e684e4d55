"""What each rung is worth: its time over that of the rung below, in every case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict, not_measured
from ablation_report.findings.block.steps import steps
from ablation_report.findings.judge import combine, judged, never
from ablation_report.findings.words import MARKS_NOTE, case_name, listed, marked, name_of
from ablation_report.run import BLOCK, Comparison, Run
from ablation_report.tables import Table

# These begin an axis anew, at its slowest.
RESTARTS = ("attention-unfused-scalar", "layernorm-scalar")
_RESTARTS_NOTE = "a rung in parentheses starts an axis at its slowest setting and is not judged"
# In a published row of the attention group LayerNorm is scalar, except in the unfused one.
LAYER_NORM_CHANGES = "attention-fused-scalar"
_PUBLISHED_NOTE = 'in the published rows the step to "Attn: fused scalar" also changes LayerNorm'


def evaluate(run: Run) -> Outcome:
    """Judge of each rung whether it gains anywhere; lay out all of them."""
    by_rung: dict[str, list[Comparison]] = {}
    for comparison in steps(run):
        by_rung.setdefault(comparison.variant, []).append(comparison)
    verdicts = {
        variant: _gains(run, found) for variant, found in by_rung.items() if variant not in RESTARTS
    }
    if not verdicts:
        return not_measured("no rung has a time together with its parent")
    found = [comparison for variant in verdicts for comparison in by_rung[variant]]
    sentence = _sentence(run, verdicts)
    table = _table(run, by_rung)
    return judged(run, combine(verdicts.values()), sentence, found, table=table)


def _gains(run: Run, found: Sequence[Comparison]) -> OutcomeVerdict:
    """Say whether a rung is faster in some case: the reverse of never being faster."""
    reverse: dict[OutcomeVerdict, OutcomeVerdict] = {
        "holds": "does not hold",
        "does not hold": "holds",
    }
    verdict = never(run, found, bad="faster", good="slower")
    return reverse.get(verdict, verdict)


def _sentence(run: Run, verdicts: Mapping[str, OutcomeVerdict]) -> str:
    names: dict[OutcomeVerdict, list[str]] = {}
    for variant, verdict in verdicts.items():
        names.setdefault(verdict, []).append(name_of(run, variant))
    gaining = names.get("holds", [])
    text = f"{len(gaining)} of {len(verdicts)} rungs save time at some config"
    text += f": {listed(gaining)}." if gaining else "."
    if losing := names.get("does not hold"):
        text += f" At no config: {listed(losing)}."
    if unclear := names.get("not resolved"):
        text += f" Not resolved: {listed(unclear)}."
    return text


def _table(run: Run, by_rung: Mapping[str, Sequence[Comparison]]) -> Table:
    rows = []
    for variant, found in by_rung.items():
        at = {comparison.case: comparison for comparison in found}
        name = run.printed(variant)
        shown = f"({name})" if variant in RESTARTS else name
        bases = listed(list(dict.fromkeys(run.printed(c.base_variant) for c in found)))
        rows.append([shown, bases, *(marked(at.get(case)) for case in run.cases)])
    notes = [MARKS_NOTE]
    if any(variant in by_rung for variant in RESTARTS):
        notes.append(_RESTARTS_NOTE)
    if run.is_published and LAYER_NORM_CHANGES in by_rung:
        notes.append(_PUBLISHED_NOTE)
    header = ("Rung", "over", *(case_name(run, case) for case in run.cases))
    return Table(f"Rungs: {run.name}", header, [("", rows)], notes)


FINDING = Finding(
    key="rungs",
    suite=BLOCK,
    claim="Every rung of the ladder makes the block faster at some config.",
    published=None,
    evaluate=evaluate,
)
