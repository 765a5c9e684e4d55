"""From the rows of a case to what each factor is worth in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ablation_report.attribution import engine
from ablation_report.attribution.lattice import Edge, Point
from ablation_report.attribution.points import UnansweredError, places_of, read_points, usable
from ablation_report.attribution.result import Attribution, Step, Worth
from ablation_report.attribution.spread import drawn_times, interval_of
from ablation_report.run import FORWARD, Run
from ablation_report.stats import CONFIDENCE_ODDS, MIN_ROUNDS, Interval, is_too_noisy


def attributions_of(run: Run) -> tuple[Attribution, ...]:
    """Return what can be attributed in each case and phase of a run."""
    found = []
    for case, phase in places_of(run):
        try:
            found.append(_Case(run, case, phase).attribution())
        except UnansweredError:
            continue
    return tuple(found)


def why_not(run: Run, case: str, phase: str = FORWARD) -> str | None:
    """Say why there is no attribution of a case; None where there is one."""
    try:
        _Case(run, case, phase)
    except UnansweredError as error:
        return str(error)
    return None


@dataclass(frozen=True)
class _Figures:
    """The contributions by step and factor of one set of times, by factor as nanoseconds, and
    their sum."""

    steps: list[float]
    factors: list[float]
    ns: list[float]
    total: float


class _Case:
    """A case and phase whose times say what its factors are worth."""

    def __init__(self, run: Run, case: str, phase: str) -> None:
        """Compute what every figure needs; UnansweredError where nothing can be said."""
        self.points = read_points(run, case, phase)
        self.used = usable(self.points, lambda row: run.time(row) is not None)
        self.lattice = self.used.lattice
        found = {point: run.time(self.points.rows[point]) for point in self.lattice.points}
        times = {point: time.value for point, time in found.items() if time}
        self.values = self._logs(times)
        self.value_at = dict(zip(self.lattice.points, self.values, strict=True))
        self.whole = self._figures(times)
        self.n_rounds, drawn = self._drawn(run)
        self.draws = [self._figures(each) for each in drawn]
        self.base_ns, self.top_ns = self._ends(times)
        self.floor = run.floor(case)
        self.has_effect = self.points.has_effect
        # Bonferroni: the intervals of all factors hold at once
        self.odds = CONFIDENCE_ODDS * max(1, sum(self.has_effect))

    def _logs(self, times: Mapping[Point, float]) -> list[float]:
        """ln(time of the lowest point / time) of each point."""
        base = math.log(self._ends(times)[0])
        return [base - math.log(times[point]) for point in self.lattice.points]

    def _ends(self, times: Mapping[Point, float]) -> tuple[float, float]:
        points = self.lattice.points
        return times[points[self.lattice.base]], times[points[self.lattice.top]]

    def _figures(self, times: Mapping[Point, float]) -> _Figures:
        values = self._logs(times)
        steps = engine.phi(self.lattice, values, self.used.weights)
        factors = engine.by_factor(self.lattice, steps)
        mean = engine.log_mean(*self._ends(times))
        ns = [mean * each for each in factors]
        return _Figures(steps, factors, ns, values[self.lattice.top])

    def _drawn(self, run: Run) -> tuple[int, list[dict[Point, float]]]:
        """Return the number of rounds that every program ran in, and the times of all points by
        each draw of these; none where the programs were not interleaved in one session."""
        rows = {point: self.points.rows[point] for point in self.lattice.points}
        programs = {row["variant"]: row for row in rows.values()}
        sessions = {(row["session"], row["interleaved"]) for row in programs.values()}
        if len(sessions) > 1 or not next(iter(sessions))[1]:
            return 0, []
        times = [run.round_times(row) for row in programs.values()]
        common = sorted(set.intersection(*map(set, times)))
        drawn = drawn_times([[each[index] for index in common] for each in times])
        named = [dict(zip(programs, each, strict=True)) for each in drawn]
        by_point = [{point: each[row["variant"]] for point, row in rows.items()} for each in named]
        return len(common), by_point

    def attribution(self) -> Attribution:
        """Put the figures together."""
        points = self.points
        printed = [factor["printed_name"] for factor in points.factors]
        pairs, higher = self._interactions()
        return Attribution(
            case=points.case,
            phase=points.phase,
            base=points.base,
            top=points.top,
            base_ns=self.base_ns,
            top_ns=self.top_ns,
            total=self._interval(lambda figures: figures.total, CONFIDENCE_ODDS),
            floor=self.floor,
            worths=self._worths(),
            pairs=pairs,
            higher=higher,
            no_effect=tuple(n for n, has in zip(printed, self.has_effect, strict=True) if not has),
            programs=points.programs,
            n_points=len(points.rows),
            n_orders=None if self.used.orders is None else len(self.used.orders),
            is_complete=self.used.is_complete,
        )

    def _interactions(self) -> tuple[dict[tuple[str, str], float], float | None]:
        if not self.used.is_complete:
            return {}, None
        names = [factor["name"] for factor in self.points.factors]
        found = engine.interactions(self.lattice, self.values)
        pairs = {
            (names[one], names[other]): value
            for (one, other), value in found.pairs.items()
            if self.has_effect[one] and self.has_effect[other]
        }
        return pairs, found.higher

    def _worths(self) -> tuple[Worth, ...]:
        steps = self._steps()
        ranges = engine.ranges(self.lattice, self.values)
        mains: list[float] | None = None
        if self.used.is_complete:
            effects = engine.main_effects(self.lattice, self.values)
            mains = engine.by_factor(self.lattice, effects)
        errors: list[float] | None = None
        if self.used.orders is not None:
            errors = engine.sampling_errors(self.lattice, self.values, self.used.orders)
        return tuple(
            self._worth(
                index,
                steps[index],
                ranges[index],
                None if mains is None else mains[index],
                0.0 if errors is None else errors[index],
            )
            for index, has in enumerate(self.has_effect)
            if has
        )

    def _worth(
        self,
        index: int,
        steps: tuple[Step, ...],
        contributions: tuple[float, float],
        main: float | None,
        error: float,
    ) -> Worth:
        factor = self.points.factors[index]
        mean = engine.log_mean(self.base_ns, self.top_ns)
        phi = self._interval(lambda figures: figures.factors[index], self.odds, error)
        ns = self._interval(lambda figures: figures.ns[index], self.odds, mean * error)
        return Worth(
            name=factor["name"],
            printed_name=factor["printed_name"],
            what=factor["what"],
            phi=phi,
            ns=ns,
            first=_sum([step.first for step in steps]),
            last=_sum([step.last for step in steps]),
            lowest=contributions[0],
            highest=contributions[1],
            main=main,
            sampling_error=error,
            verdict=_verdict(phi, self.floor),
            steps=steps,
        )

    def _interval(
        self, figure: Callable[[_Figures], float], odds: int, sampling_error: float = 0.0
    ) -> Interval:
        draws = [figure(each) for each in self.draws]
        return interval_of(figure(self.whole), draws, self.n_rounds, odds, sampling_error)

    def _steps(self) -> list[tuple[Step, ...]]:
        """The steps of each factor."""
        found: list[list[Step]] = [[] for _ in self.points.factors]
        contexts = engine.contexts(self.points.lattice)
        for number, (factor, level) in enumerate(self.lattice.steps):
            marginals = engine.marginals(self.lattice, self.values, number)
            first, last = (self._at(edge) for edge in contexts[number])
            found[factor].append(
                Step(
                    level=self.points.factors[factor]["levels"][level],
                    phi=self.whole.steps[number],
                    first=first,
                    last=last,
                    lowest=min(marginals),
                    highest=max(marginals),
                )
            )
        return [tuple(steps) for steps in found]

    def _at(self, edge: Edge | None) -> float | None:
        """What a step adds at an edge; None where that was not measured."""
        if edge is None or self.used.orders is not None:
            return None
        ends = (self.points.lattice.points[index] for index in (edge.lower, edge.upper))
        lower, upper = (self.value_at.get(point) for point in ends)
        return None if lower is None or upper is None else upper - lower


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) if len(known) == len(values) else None


def _verdict(phi: Interval, floor: float | None) -> str:
    """Say "worth", "costs" or "not resolved".

    A contribution counts when its whole interval lies beyond ln(1 + floor) on one side of 0.
    Fewer than `MIN_ROUNDS` rounds, no floor, or a case that is too noisy resolve nothing.
    """
    if phi.n >= MIN_ROUNDS and floor is not None and not is_too_noisy(floor):
        least = math.log1p(floor)
        if phi.low > least:
            return "worth"
        if phi.high < -least:
            return "costs"
    return "not resolved"
