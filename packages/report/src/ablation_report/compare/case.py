"""A case in two runs: what the machine, each process and each row changed by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ablation_report.compare.judging import Floors, common_change, judge, over, quotient
from ablation_report.run import Row, Run
from ablation_report.stats import MIN_ROUNDS, Interval, Verdict, is_different, median
from ablation_report.tables.layout import status_text

# With fewer rows of a process, a change of one looks like a change of all.
MIN_ROWS = 5
# Fewer processes of controls do not say by how much the states of processes differ.
MIN_CONTROLS = 2
OURS = "ablation"
# A variant and a phase of a case, and its row in the first run and in the second; None where it is
# not there.
Place = tuple[str, str]
Pair = tuple[Row | None, Row | None]


@dataclass(frozen=True)
class ProcessChange:
    """What a worker process changed by as a whole in a case, second run over first.

    `ratio` is corrected for the machine and has the ends of the half of the rows that agrees best
    instead of an interval; None with fewer than `MIN_ROWS`.
    """

    case: str
    worker: str
    n_rows: int
    ratio: Interval | None
    floors: Floors
    verdict: Verdict


@dataclass(frozen=True)
class Change:
    """One row in two runs: its times, and second over first beyond what it shares with others.

    `row` is that of the second run, or of the first where it is only there. `ratio` is corrected
    for the machine and for what its process changed by as a whole; `floor` is the part by which it
    must differ from 1, `noise` the part of it that is not the machine's change; `peak` is second
    over first of the measured memory.
    """

    row: Row
    first: Interval | None
    second: Interval | None
    ratio: Interval | None
    floor: float | None
    noise: float | None
    peak: float | None
    verdict: str

    @property
    def kernels(self) -> tuple[str, ...]:
        """The kernels of the row."""
        kernels = [op["kernel"] for op in self.row["ops"] or () if op["kernel"]]
        return tuple(dict.fromkeys(kernels or (self.row["kernels"] or {}).values()))


@dataclass(frozen=True)
class CaseOfTwoRuns:
    """A case in two runs, by its label; `margin` is that of `judge`."""

    first: Run
    second: Run
    label: str
    margin: float

    @cached_property
    def pairs(self) -> Mapping[Place, Pair]:
        """The rows of both runs, in the order of the second."""
        runs = (self.second, self.first)
        rows = (row for run in runs for row in run.by_case.get(self.label, ()))
        places = dict.fromkeys((row["variant"], row["phase"]) for row in rows)
        return {
            place: (self.first.row(self.label, *place), self.second.row(self.label, *place))
            for place in places
        }

    @cached_property
    def ratios(self) -> Mapping[Place, Interval]:
        """Second over first of the rows that have a time in both runs."""
        found = {}
        for place, pair in self.pairs.items():
            before, after = self.first.time(pair[0]), self.second.time(pair[1])
            if before and after:
                found[place] = quotient(after, before)
        return found

    @cached_property
    def machine(self) -> float:
        """How much slower the machine was in the second run; 1 where that is not known."""
        return math.exp(median(self._controls)) if self._controls else 1.0

    @cached_property
    def _controls(self) -> Sequence[float]:
        """Logarithms of what rows changed by that run code of others. Without such a row in both
        runs the fixed product that a run times before and after each case stands in."""
        rows = {place: _known(self.pairs[place]) for place in self.ratios}
        logs = [math.log(self.ratios[p].value) for p, r in rows.items() if r["origin"] != OURS]
        products = [_calibration(run, self.label) for run in (self.first, self.second)]
        if logs or not products[0] or not products[1]:
            return logs
        return [math.log(b / a) for a, b in zip(products[0], products[1], strict=True)]

    @cached_property
    def floors(self) -> Floors:
        """The largest of the floors of both runs and of how far the controls disagree, and to be
        called different of the machine's change too: what it does to one row it need not do to
        another."""
        known = [self.first.floor(self.label), self.second.floor(self.label)]
        floors = [floor for floor in known if floor is not None]
        if not floors or not self._controls:
            return Floors(None, None)
        middle = math.log(self.machine)
        spread = max(abs(value - middle) for value in self._controls)
        same = max(*floors, math.expm1(spread))
        return Floors(max(same, math.expm1(abs(middle))), same)

    @cached_property
    def processes(self) -> Mapping[str, ProcessChange]:
        """What each process changed by; empty where none holds two variants."""
        variants: dict[str, set[str]] = {}
        changes: dict[str, list[float]] = {}
        for place, pair in self.pairs.items():
            row = _known(pair)
            variants.setdefault(row["worker"], set()).add(row["variant"])
            if place in self.ratios:
                ratio = self.ratios[place].value / self.machine
                changes.setdefault(row["worker"], []).append(ratio)
        if all(len(names) == 1 for names in variants.values()):
            return {}
        return {worker: self._process(worker, ratios) for worker, ratios in changes.items()}

    def _process(self, worker: str, ratios: Sequence[float]) -> ProcessChange:
        common = common_change(ratios) if len(ratios) >= MIN_ROWS else None
        said = judge(common, self.floors, self.margin) if common else "not resolved"
        return ProcessChange(self.label, worker, len(ratios), common, self.floors, said)

    def change(self, place: Place) -> Change:
        """Return what a row changed by beyond what it shares with others."""
        pair, ratio = self.pairs[place], self.ratios.get(place)
        row = _known(pair)
        if ratio is not None:
            process = self.processes.get(row["worker"])
            shared = process.ratio.value if process and process.ratio else 1.0
            ratio = over(ratio, self.machine * shared)
        times = self.first.time(pair[0]), self.second.time(pair[1])
        peaks = [each["memory"]["peak"] if each else None for each in pair]
        peak = peaks[1] / peaks[0] if peaks[0] and peaks[1] else None
        floors = (self.floors.different, self.floors.same)
        return Change(row, *times, ratio, *floors, peak, self._said(pair, ratio))

    def _said(self, pair: Pair, ratio: Interval | None) -> str:
        if pair[0] is None or pair[1] is None:
            return f"only in {(self.first if pair[1] is None else self.second).name}"
        if ratio is None:
            return " and ".join(dict.fromkeys(status_text(row) for row in pair if row))
        verdict = judge(ratio, self.floors, self.margin)
        is_open = is_different(verdict) and not self._is_known(pair[1]["worker"])
        return "not resolved" if is_open or ratio.n < MIN_ROUNDS else verdict

    def _is_known(self, worker: str) -> bool:
        """True where the state of a process is taken out of its rows, or in the floor."""
        if self.processes:
            return self.processes[worker].ratio is not None
        rows = (_known(self.pairs[place]) for place in self.ratios)
        return len({row["worker"] for row in rows if row["origin"] != OURS}) >= MIN_CONTROLS


def _known(pair: Pair) -> Row:
    row = pair[1] or pair[0]
    assert row is not None
    return row


def _calibration(run: Run, case: str) -> tuple[float, float] | None:
    """Medians of the fixed product before and after a case."""
    for row in run.by_case.get(case, ()):
        before, after = row["calibration_before_ns"], row["calibration_after_ns"]
        if before and after:
            return median(before), median(after)
    return None
