"""One ceiling for one machine: every page divides by the same rate.

A ceiling is the highest rate that any run of a machine measured, by instruction set and number of
threads. A run on a shared machine may measure less than the machine can do, never more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ablation_report.compare.conditions import hardware
from ablation_report.load import Gathered
from ablation_report.run import Run

Key = tuple[str, str | None, bool]
# By number of threads, as `Run.ceilings`
Ceilings = dict[str, dict[str, Any]]
MULTIPLY_ADDS = "multiply_add_flops_per_s"


def with_one_ceiling(gathered: Gathered, mine: Iterable[str] = ()) -> Gathered:
    """Give each recorded run the ceilings of its machine in place of those that it measured.

    Runs named in `mine` make ceilings of their own, so that they change no other page. A run of a
    machine without a ceiling stays as it is.
    """
    own = frozenset(mine)
    found: dict[Key, Ceilings] = {}
    for run in gathered.runs:
        if not run.is_published:
            _raise_to(found.setdefault(_key(run, own), {}), run.ceilings)

    def placed(run: Run) -> Run:
        ceilings = None if run.is_published else found[_key(run, own)]
        if not ceilings:
            return run
        # The machine's own stand where the run's were refuted
        kept = {name: v for name, v in run.header.items() if name != "refuted_ceilings"}
        return replace(run, header={**kept, "ceilings": ceilings})

    return replace(gathered, runs=tuple(map(placed, gathered.runs)))


def _key(run: Run, own: frozenset[str]) -> Key:
    return hardware(run.header), run.header["providers"].get("simd"), run.name in own


def _raise_to(known: Ceilings, measured: Mapping[str, Any]) -> None:
    """Raise each rate of a machine to the one measured; what is no rate goes with the highest rate
    of multiply-adds."""
    for threads, rates in measured.items():
        told = known.setdefault(threads, {})
        is_highest = (rates.get(MULTIPLY_ADDS) or 0.0) > (told.get(MULTIPLY_ADDS) or 0.0)
        for name, value in rates.items():
            if name.endswith("_per_s"):
                told[name] = max(value or 0.0, told.get(name) or 0.0) or None
            elif is_highest or name not in told:
                told[name] = value
