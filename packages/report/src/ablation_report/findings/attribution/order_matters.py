"""What depends on the order most: the factor whose contributions differ most between orders."""

from __future__ import annotations

from ablation_report.attribution import Attribution, worths
from ablation_report.findings.attribution import SUITE, Said, evaluate_cases
from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict
from ablation_report.run import Run


def evaluate(run: Run) -> Outcome:
    """Judge whether the largest contribution of some factor is more than its smallest."""
    return evaluate_cases(run, _say)


def _say(run: Run, found: Attribution) -> Said | str:
    shown = worths.largest_first(found)
    if not shown:
        return "no factor changes a program"
    most = max(shown, key=lambda worth: worth.highest - worth.lowest)
    spread = most.highest - most.lowest
    verdict: OutcomeVerdict = "not resolved"
    # Two contributions of each step
    if worths.is_beyond(spread, worths.TWO_CONTRIBUTIONS * len(most.steps), found.floor):
        verdict = "holds"
    elif worths.is_nothing(spread, found.floor):
        verdict = "does not hold"
    orders = worths.orders_text(found)
    least, largest = worths.text(most.lowest), worths.text(most.highest)
    text = f"the widest range is that of {most.printed_name}, {least} to {largest}"
    if verdict == "holds":
        text = (
            f"{most.printed_name} depends on the order most: {least} in one order, {largest} in "
            f"another, a factor of {worths.ratio(spread):.2f}"
        )
    elif verdict == "not resolved":
        text += ", within the noise"
    figures = {
        f"{most.printed_name}, {name}": worths.ratio(log)
        for name, log in (("least", most.lowest), ("most", most.highest), ("most / least", spread))
    }
    return Said(verdict, text + (f" ({orders})" if orders else ""), figures)


FINDING = Finding(
    key="order_matters",
    suite=SUITE,
    claim="In every case, the order changes the worth of at least one optimization.",
    published=None,
    evaluate=evaluate,
)
