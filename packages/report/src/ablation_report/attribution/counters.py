"""Counters of programs: what each factor adds to them, exactly.

A counter is a whole number that the shapes of a program fix, so the contributions of the factors
are fractions that sum to top minus base.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from ablation_report.attribution import engine
from ablation_report.attribution.points import CasePoints, UnansweredError, read_points, usable
from ablation_report.rows import COUNTERS
from ablation_report.run import FORWARD, Row, Run


@dataclass(frozen=True)
class CounterWorth:
    """A counter of the lowest and the highest point, and what each factor adds by its name: the
    mean over all orders. The contributions sum to `top` - `base`."""

    base: int
    top: int
    worths: Mapping[str, Fraction]


def counter_of(row: Row, name: str) -> int | None:
    """Return a counter of a row; None where it was not counted."""
    value: int | None = (row.get("counters") or {}).get(name)
    return value


def counter_worths(run: Run, case: str, phase: str = FORWARD) -> dict[str, CounterWorth]:
    """Return what each factor adds to each counter of a case.

    A counter is left out where too few programs have it. Empty for a case without points.
    """
    try:
        points = read_points(run, case, phase)
    except UnansweredError:
        return {}
    found = {name: _counter_worth(points, name) for name in COUNTERS}
    return {name: worth for name, worth in found.items() if worth is not None}


def _counter_worth(points: CasePoints, name: str) -> CounterWorth | None:
    counts = {point: counter_of(row, name) for point, row in points.rows.items()}
    try:
        used = usable(points, lambda row: counter_of(row, name) is not None)
    except UnansweredError:
        return None
    lattice = used.lattice
    values = [count for point in lattice.points if (count := counts[point]) is not None]
    steps = engine.exact_phi(lattice, values, used.weights)
    names = [factor["name"] for factor in points.factors]
    worths = dict(zip(names, engine.by_factor(lattice, steps), strict=True))
    return CounterWorth(values[lattice.base], values[lattice.top], worths)
