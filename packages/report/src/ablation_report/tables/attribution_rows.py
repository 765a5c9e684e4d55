"""Attribution as rows: of many runs one frame, a row for each case's total, factor, step, pair and
counter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import polars as pl

from ablation_report.attribution import Attribution, Worth, attributions
from ablation_report.attribution.change import CounterChange
from ablation_report.attribution.counters import counter_worths
from ablation_report.attribution.points import places_of
from ablation_report.run import Run

_LOGS = ("phi", "phi_low", "phi_high", "first", "last", "lowest", "highest", "main")
# `kind`: total, factor, step, pair, higher, counter. Logarithms of time without over time with.
ATTRIBUTION: Mapping[str, pl.DataType | type[pl.DataType]] = {
    **dict.fromkeys(("run", "case", "phase", "kind", "factor", "level", "other"), pl.String),
    **dict.fromkeys((*_LOGS, "sampling_error", "ns", "ns_low", "ns_high"), pl.Float64),
    **dict.fromkeys(("verdict", "counter"), pl.String),
    # What a factor adds to the counter, and the counters of base and top in the row of the total.
    **dict.fromkeys(("added", "base", "top", "floor"), pl.Float64),
    **dict.fromkeys(("rounds", "points", "orders"), pl.Int64),
}
CHANGES: Mapping[str, pl.DataType | type[pl.DataType]] = {
    **dict.fromkeys(("case", "phase", "program", "point", "counter"), pl.String),
    **dict.fromkeys(("before", "after"), pl.Int64),
}


def attribution_frame(runs: Iterable[Run]) -> pl.DataFrame:
    """Return the columns of `ATTRIBUTION` for every case that has worths or counters."""
    rows: list[dict[str, Any]] = []
    for run in runs:
        for found in attributions(run):
            rows += ({"run": run.name, **row} for row in _time_rows(found))
        for case, phase in places_of(run):
            rows += ({"run": run.name, **row} for row in _counter_rows(run, case, phase))
    return pl.DataFrame(rows, schema=dict(ATTRIBUTION), orient="row")


def changes_frame(changes: Iterable[CounterChange]) -> pl.DataFrame:
    """Return the columns of `CHANGES`, a row for each counter of a program that changed."""
    rows = [vars(change) for change in changes]
    return pl.DataFrame(rows, schema=dict(CHANGES), orient="row")


def _time_rows(found: Attribution) -> Iterator[dict[str, Any]]:
    place = {"case": found.case, "phase": found.phase}
    total = found.total
    yield {
        **place,
        "kind": "total",
        "phi": total.value,
        "phi_low": total.low,
        "phi_high": total.high,
        "ns": found.base_ns - found.top_ns,
        "base": found.base_ns,
        "top": found.top_ns,
        "floor": found.floor,
        "rounds": total.n,
        "points": found.n_points,
        "orders": found.n_orders,
    }
    for worth in found.worths:
        yield {**place, **_factor_row(worth)}
        for step in worth.steps:
            named = {"kind": "step", "factor": worth.name, "level": step.level, "phi": step.phi}
            logs = {name: getattr(step, name) for name in ("first", "last", "lowest", "highest")}
            yield {**place, **named, **logs}
    for (one, other), phi in found.pairs.items():
        yield {**place, "kind": "pair", "factor": one, "other": other, "phi": phi}
    if found.higher is not None:
        yield {**place, "kind": "higher", "phi": found.higher}


def _factor_row(worth: Worth) -> dict[str, Any]:
    same = ("first", "last", "lowest", "highest", "main", "sampling_error", "verdict")
    return {
        "kind": "factor",
        "factor": worth.name,
        "rounds": worth.phi.n,
        "phi": worth.phi.value,
        "phi_low": worth.phi.low,
        "phi_high": worth.phi.high,
        "ns": worth.ns.value,
        "ns_low": worth.ns.low,
        "ns_high": worth.ns.high,
        **{name: getattr(worth, name) for name in same},
    }


def _counter_rows(run: Run, case: str, phase: str) -> Iterator[dict[str, Any]]:
    place = {"case": case, "phase": phase, "kind": "counter"}
    for counter, found in counter_worths(run, case, phase).items():
        ends = {"base": float(found.base), "top": float(found.top)}
        yield {**place, "counter": counter, "added": float(found.top - found.base), **ends}
        for factor, added in found.worths.items():
            yield {**place, "counter": counter, "factor": factor, "added": float(added)}
