"""Which two factors save the same time: the pair that gains least together."""

from __future__ import annotations

from ablation_report.attribution import Attribution, worths
from ablation_report.findings.attribution import SUITE, Said, evaluate_cases
from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict
from ablation_report.run import Run


def evaluate(run: Run) -> Outcome:
    """Judge whether some pair gains less together than the product of what each gains alone."""
    return evaluate_cases(run, _say)


def _say(run: Run, found: Attribution) -> Said | str:
    if not found.pairs:
        return worths.orders_text(found) or "no two factors"
    printed = {worth.name: worth.printed_name for worth in found.worths}
    (first, second), least = min(found.pairs.items(), key=lambda pair: pair[1])
    largest = max(map(abs, found.pairs.values()))
    verdict: OutcomeVerdict = "not resolved"
    if least < 0 and worths.is_beyond(least, worths.TWO_CONTRIBUTIONS, found.floor):
        verdict = "holds"
    elif worths.is_nothing(largest, found.floor):
        verdict = "does not hold"
    names = f"{printed.get(first, first)} and {printed.get(second, second)}"
    share = f"{worths.ratio(least):.2f}"
    text = f"the lowest of all pairs is {share} ({names})"
    if verdict == "holds":
        text = f"{names} gain {share} of the product of what each gains alone"
    elif verdict == "not resolved":
        text += ", within the noise"
    return Said(verdict, text, {names: worths.ratio(least)})


FINDING = Finding(
    key="same_time",
    suite=SUITE,
    claim="In every case, two optimizations save the same time: together they gain less than the "
    "product of their gains.",
    published=None,
    evaluate=evaluate,
)
