"""What costs time: over all orders, or in some context alone."""

from __future__ import annotations

from ablation_report.attribution import Attribution, worths
from ablation_report.attribution.brackets import step_name
from ablation_report.findings.attribution import SUITE, Said, evaluate_cases
from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict
from ablation_report.findings.words import MOST_LISTED, counted
from ablation_report.run import Run


def evaluate(run: Run) -> Outcome:
    """Judge whether no step makes any program slower."""
    return evaluate_cases(run, _say)


def _say(run: Run, found: Attribution) -> Said | str:
    shown = worths.largest_first(found)
    if not shown:
        return "no factor changes a program"
    everywhere = {
        worth.printed_name: worth.phi.value for worth in shown if worth.verdict == "costs"
    }
    lowest = {
        step_name(worth, level): step.lowest
        for worth in shown
        for level, step in enumerate(worth.steps, start=1)
    }
    somewhere = {
        name: log
        for name, log in sorted(lowest.items(), key=lambda entry: entry[1])
        if log < 0 and worths.is_beyond(log, worths.ONE_CONTRIBUTION, found.floor)
    }
    parts = []
    if everywhere:
        parts.append(f"over all orders {_named(everywhere)}")
    if somewhere:
        parts.append(f"in some contexts {_named(somewhere)}")
    verdict = _judge(found, everywhere | somewhere, min(lowest.values()))
    if not parts:
        name = min(lowest, key=lambda name: lowest[name])
        noise = ", within the noise" if verdict == "not resolved" else ""
        least = _named({name: lowest[name]})
        parts.append(f"the smallest gain of a step is {least}{noise}")
    figures = {name: worths.ratio(log) for name, log in {**somewhere, **everywhere}.items()}
    figures["least"] = worths.ratio(min(lowest.values()))
    return Said(verdict, "; ".join(parts), figures)


def _judge(found: Attribution, costing: dict[str, float], least: float) -> OutcomeVerdict:
    if costing:
        return "does not hold"
    is_no_cost = worths.is_no_cost(least, worths.ONE_CONTRIBUTION, found.floor)
    return "holds" if is_no_cost else "not resolved"


def _named(logs: dict[str, float]) -> str:
    named = [f"{name} {worths.text(log)}" for name, log in list(logs.items())[:MOST_LISTED]]
    more = len(logs) - len(named)
    return ", ".join(named) + (f" and {counted(more, 'step')} more" if more else "")


FINDING = Finding(
    key="costs_time",
    suite=SUITE,
    claim="No optimization costs time, whatever else is switched on.",
    published=None,
    evaluate=evaluate,
)
