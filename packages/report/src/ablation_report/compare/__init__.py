"""Compare two runs of the same work row by row, and report what changed.

Two runs share no round. The machine's speed and the state of each worker process may differ between
them, not only the code. Both are estimated from what many rows have in common, and taken out of the
single row:

- the machine, by the median change of the controls of a case: the rows that run code of others
  (PyTorch, NumPy, other runtimes). A machine that changed does not change all rows alike, so its
  change is part of the floor, as is how far the controls disagree;
- a process, by what most of its rows have in common. This is reported by itself: a state of the
  process and a change to all of its rows look the same in two runs. Where each variant has a
  process of its own, the controls disagree by the states of theirs, which the floor has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ablation_report.compare.case import CaseOfTwoRuns, Change, ProcessChange
from ablation_report.run import Run
from ablation_report.stats import MARGIN


@dataclass(frozen=True)
class Changes:
    """Two runs compared: every row, every process that has a row in both, and by how much slower
    the machine was in the second run, by case."""

    rows: tuple[Change, ...]
    processes: tuple[ProcessChange, ...]
    machine: Mapping[str, float]


def compare_runs(first: Run, second: Run, margin: float = MARGIN) -> Changes:
    """Compare every row that either run has, in the order of the second.

    A row that one run lacks has the verdict "only in FIRST" or "only in SECOND"; one without a time
    in either has its status there as verdict. One that shares its process with others, but too few
    to know what they have in common, is never called slower or faster; neither is one of a process
    of its own where fewer than `case.MIN_CONTROLS` others say by how much processes differ.
    """
    first = _with_threads_of(second, first)
    labels = dict.fromkeys((*second.cases, *first.cases))
    cases = [CaseOfTwoRuns(first, second, label, margin) for label in labels]
    return Changes(
        tuple(case.change(place) for case in cases for place in case.pairs),
        tuple(process for case in cases for process in case.processes.values()),
        {case.label: case.machine for case in cases},
    )


def _with_threads_of(run: Run, other: Run) -> Run:
    """Return another run under the labels of this one, where both are of one number of threads."""
    threads, others = run.header["threads"], other.header["threads"]
    if len(threads) != 1 or len(others) != 1 or threads == others:
        return other
    old, new = f" t{others[0]} ", f" t{threads[0]} "
    rows = tuple({**row, "case": row["case"].replace(old, new)} for row in other.rows)
    return replace(other, rows=rows)
