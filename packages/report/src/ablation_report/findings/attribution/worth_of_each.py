"""What each optimization is worth, averaged over all orders."""

from __future__ import annotations

from collections.abc import Mapping

from ablation_report.attribution import Attribution, Worth, worths
from ablation_report.findings.attribution import SUITE, Said, evaluate_cases
from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict
from ablation_report.findings.judge import combine
from ablation_report.findings.words import MOST_LISTED, counted, listed
from ablation_report.run import Run
from ablation_report.tables import NOTHING, Table

_JUDGED: Mapping[str, OutcomeVerdict] = {
    "worth": "holds",
    "costs": "does not hold",
    worths.NOT_RESOLVED: "not resolved",
}


def evaluate(run: Run) -> Outcome:
    """Judge whether every factor that changes a program is worth something."""
    return evaluate_cases(run, _say, _table)


def _say(run: Run, found: Attribution) -> Said | str:
    shown = worths.largest_first(found)
    if not shown:
        return "no factor changes a program"
    verdict = combine(_JUDGED[worth.verdict] for worth in shown)
    parts = [f"all {counted(len(shown), 'factor')} together {worths.text(found.total.value)}"]
    clear = [worth for worth in shown if worth.verdict == "worth"]
    if clear:
        named = ", ".join(map(_named, clear[:MOST_LISTED]))
        parts.append(f"the largest {named}" if len(clear) > MOST_LISTED else named)
    if costing := [worth for worth in shown if worth.verdict == "costs"]:
        parts.append(f"cost time: {', '.join(map(_named, costing))}")
    if unclear := [w.printed_name for w in shown if w.verdict == worths.NOT_RESOLVED]:
        is_short = len(unclear) <= MOST_LISTED
        named = listed(unclear) if is_short else counted(len(unclear), "factor")
        parts.append(f"not resolved: {named}")
    if found.no_effect:
        parts.append(f"no effect here: {listed(found.no_effect)}")
    figures = {worth.printed_name: worths.ratio(worth.phi.value) for worth in shown}
    return Said(verdict, "; ".join(parts), figures)


def _named(worth: Worth) -> str:
    return f"{worth.printed_name} {worths.text(worth.phi.value)}"


def _table(run: Run, asked: Mapping[str, Attribution]) -> Table:
    """Lay out the worth of each factor in each case."""
    factors = [(factor["name"], factor["printed_name"]) for factor in run.header["factors"]]
    at = {name: {w.name: w for w in found.worths} for name, found in asked.items()}
    rows = []
    for key, printed in factors:
        marks = [
            "no effect" if printed in found.no_effect else _mark(at[name].get(key))
            for name, found in asked.items()
        ]
        rows.append([printed, *marks])
    totals = [worths.text(found.total.value) for found in asked.values()]
    rows.append(["All together", *totals])
    notes = ["time without the factor over time with it, mean over all orders; ~ not resolved"]
    return Table(f"Worths: {run.name}", ("Factor", *asked), [("", rows)], notes)


def _mark(worth: Worth | None) -> str:
    if worth is None:
        return NOTHING
    mark = " ~" if worth.verdict == worths.NOT_RESOLVED else ""
    return f"{worths.text(worth.phi.value)}{mark}"


FINDING = Finding(
    key="worth_of_each",
    suite=SUITE,
    claim="On average over all orders, every optimization that changes the program saves time.",
    published=None,
    evaluate=evaluate,
)
