"""What findings, charts and pages ask of an attribution: that of a case or why there is none, how a
worth is written, and what the noise of a case resolves."""

from __future__ import annotations

import math

from ablation_report.attribution import Attribution, Worth, attributions, why_not
from ablation_report.means import ratio_text
from ablation_report.run import Run
from ablation_report.series import short_case
from ablation_report.stats import MARGIN, is_too_noisy

SUITE = "attribution"
NOT_RESOLVED = "not resolved"
# The times that a figure is made of. Each may be off by the floor of its case, so that a figure
# says something only beyond so many floors.
ONE_CONTRIBUTION = 2
TWO_CONTRIBUTIONS = 4


def attribution_of(run: Run, case: str) -> Attribution | None:
    """Return the attribution of a case; None where its rows allow none."""
    return next((found for found in attributions(run) if found.case == case), None)


def why_none(run: Run, case: str) -> str:
    """Say in a few words why a case has no attribution."""
    rows = run.by_case.get(case, ())
    if not rows:
        return "it was not measured"
    if not any(run.time(row) for row in rows) and any(row.get("counters") for row in rows):
        return "only counters were recorded, no time"
    return str(why_not(run, case, rows[0]["phase"]))


def without(run: Run, case: str) -> str | None:
    """Say in a sentence why a case has no attribution; None where it has one."""
    rows = run.by_case.get(case, ())
    if not rows:
        return f"{case} was not measured."
    if attribution_of(run, case):
        return None
    return f"No worth at {short_case(rows[0])}: {why_none(run, case)}."


def largest_first(found: Attribution) -> list[Worth]:
    """Return the worths of a case, of those factors that change a program."""
    return sorted(found.worths, key=lambda worth: -worth.phi.value)


def ratio(log: float) -> float:
    """Return a logarithm of time without over time with as this ratio: above 1 is faster."""
    return math.exp(log)


def text(log: float) -> str:
    """Write a logarithm as the ratio that it is of: 1.62x."""
    value = ratio(log)
    return f"{value:.3g}x" if value >= 10 else ratio_text(value)


def is_beyond(log: float, n_times: int, floor: float | None) -> bool:
    """True where a figure made of so many times differs from 0 even if each is off by the floor."""
    if floor is None or is_too_noisy(floor):
        return False
    return abs(log) > n_times * math.log1p(floor)


def is_no_cost(log: float, n_times: int, floor: float | None) -> bool:
    """True where a figure made of so many times costs nothing that matters, even if each is off by
    the floor."""
    if floor is None or is_too_noisy(floor):
        return False
    return log - n_times * math.log1p(floor) >= -math.log1p(MARGIN)


def is_nothing(log: float, floor: float | None) -> bool:
    """True where a figure is 0 for all practical purposes, and the case quiet enough to say so."""
    return floor is not None and floor < MARGIN and abs(log) <= math.log1p(MARGIN)


def orders_text(found: Attribution) -> str | None:
    """Say which orders a case was measured in; None where it was all of them."""
    if found.n_orders is not None:
        return f"{found.n_orders} sampled orders"
    return None if found.is_complete else "orders that avoid programs without a time"
