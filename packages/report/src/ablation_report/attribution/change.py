"""What changed in the counters of programs between two runs, and which factor changed it.

A point differs in a counter by d. The Moebius terms of d take out of each point what the points
below it differ by; the lowest points that are left have no cause but their own last steps, and the
factors of these are named. So are the factors of steps that no longer lead to another program.

A factor that changes no program of a case is switched off there: a point that has it is the program
of the point without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ablation_report.attribution import engine
from ablation_report.attribution.counters import counter_of
from ablation_report.attribution.lattice import Edge, Lattice, Point
from ablation_report.attribution.points import (
    CasePoints,
    UnansweredError,
    places_of,
    read_points,
)
from ablation_report.rows import COUNTERS
from ablation_report.run import Row, Run
from ablation_report.series import short_case


@dataclass(frozen=True)
class CounterChange:
    """A counter of a program that is not what it was; None where it was not counted."""

    case: str
    phase: str
    program: str
    point: str
    counter: str
    before: int | None
    after: int | None


@dataclass(frozen=True)
class CounterChanges:
    """What two runs differ in: sentences on factors and on what one run lacks, and each counter of
    each program; `n_points` were compared in `n_cases`."""

    sentences: tuple[str, ...]
    programs: tuple[CounterChange, ...]
    n_cases: int
    n_points: int

    @property
    def is_equal(self) -> bool:
        """True where nothing differs."""
        return not self.sentences and not self.programs


def counter_changes(first: Run, second: Run) -> CounterChanges:
    """Compare the counters of every point of the first run with those of the second.

    What the first has and the second lacks is a difference; a case that only the second has is not.
    """
    sentences: list[str] = []
    programs: list[CounterChange] = []
    places = places_of(first)
    counters = compared_counters(first, second)
    n_points = 0
    for case, phase in places:
        try:
            before = read_points(first, case, phase)
            after = read_points(second, case, phase)
        except UnansweredError as error:
            sentences.append(f"{case}: {error}")
            continue
        name = short_case(before.base)
        if _levels(before) != _levels(after):
            sentences.append(f"{name}: the runs have other factors or levels")
            continue
        pair = _Pair(before, after, counters)
        sentences += (f"{name}: {sentence}" for sentence in pair.sentences())
        programs += pair.changes()
        n_points += len(pair.before)
    return CounterChanges(tuple(sentences), tuple(programs), len(places), n_points)


def compared_counters(first: Run, second: Run) -> tuple[str, ...]:
    """Return the counters that two runs should have in common: the tiles of attention, and so its
    scratch, are as large as the caches of the machine allow."""
    caches = [run.header["machine"]["caches"] for run in (first, second)]
    is_same = caches[0] == caches[1]
    return tuple(name for name in COUNTERS if is_same or name != "scratch_bytes")


class _Pair:
    """One case of both runs; `before` and `after` have the rows of the points that both have."""

    def __init__(self, first: CasePoints, second: CasePoints, counters: Sequence[str]) -> None:
        self.first = first
        self.counters = counters
        points = sorted({*first.rows, *second.rows}, key=lambda point: (sum(point), point))
        found = {point: (_row_at(first, point), _row_at(second, point)) for point in points}
        self.before = {p: row for p, (row, other) in found.items() if row and other}
        self.after = {p: row for p, (other, row) in found.items() if row and other}
        self.only_first = [point for point in points if found[point][1] is None]
        self.only_second = [point for point in points if found[point][0] is None]

    def changes(self) -> Iterator[CounterChange]:
        """Yield each counter that differs, once for the points that are one program in both."""
        seen: set[tuple[str, str]] = set()
        for point, before in self.before.items():
            after = self.after[point]
            key = before["variant"], after["variant"]
            if key in seen:
                continue
            seen.add(key)
            for counter in self.counters:
                old, new = counter_of(before, counter), counter_of(after, counter)
                if old != new:
                    place = self.first.case, self.first.phase, before["variant"], _text(point)
                    yield CounterChange(*place, counter, old, new)

    def sentences(self) -> list[str]:
        """Say which factors changed, and what one of the runs lacks."""
        found = []
        for words, points in (("no longer", self.only_first), ("only now", self.only_second)):
            if points:
                named = ", ".join(map(_text, points[:3]))
                found.append(f"points that are feasible {words}: {len(points)}, {named}")
        try:
            lattice = Lattice(self.before)
        except ValueError as error:
            return [*found, f"the common {error}"]
        return [*found, *self._base_sentences(lattice), *self._factor_sentences(lattice)]

    def _base_sentences(self, lattice: Lattice) -> list[str]:
        """Say what changed in the lowest point: all others are counted from it."""
        point = lattice.points[lattice.base]
        before, after = self.before[point], self.after[point]
        differing = _differences(
            {name: counter_of(before, name) for name in self.counters},
            {name: counter_of(after, name) for name in self.counters},
        )
        return [f"{before['printed_name']}: {differing}"] if differing else []

    def _factor_sentences(self, lattice: Lattice) -> list[str]:
        """Name the factors of the lowest points that changed by themselves."""
        joins = {edge: self._joins(lattice, edge) for edge in lattice.edges}
        turned = {edge for edge, (old, new) in joins.items() if old != new}
        changed = {edge.upper for edge in turned} | self._changed(lattice)
        into: dict[int, list[Edge]] = {}
        for edge in lattice.edges:
            into.setdefault(edge.upper, []).append(edge)
        differing: dict[int, str] = {}
        for upper in _lowest(lattice, changed):
            own = [edge for edge in into[upper] if edge in turned] or into[upper]
            for edge in own:
                differing.setdefault(edge.step, self._sentence(lattice, edge, joins))
        return [differing[step] for step in sorted(differing)]

    def _joins(self, lattice: Lattice, edge: Edge) -> tuple[bool, bool]:
        """Whether both ends of an edge are one program, in either run."""
        lower, upper = lattice.points[edge.lower], lattice.points[edge.upper]
        one, other = (rows[lower] is rows[upper] for rows in (self.before, self.after))
        return one, other

    def _changed(self, lattice: Lattice) -> set[int]:
        """The points above the lowest whose counters changed by more than those below them did."""
        found: set[int] = set()
        for counter in self.counters:
            values = []
            for point in lattice.points:
                old = counter_of(self.before[point], counter)
                new = counter_of(self.after[point], counter)
                # What one run did not count is listed by program, and has no cause in a step
                values.append(0 if old is None or new is None else new - old)
            terms = engine.moebius(lattice, values)
            found |= {i for i, term in enumerate(terms) if term and i != lattice.base}
        return found

    def _sentence(
        self, lattice: Lattice, edge: Edge, joins: Mapping[Edge, tuple[bool, bool]]
    ) -> str:
        """Say how a step changed: where it leads to another program, or what it adds there."""
        step = lattice.steps[edge.step]
        factor = self.first.factors[step.factor]
        name = f"{factor['printed_name']} ({factor['levels'][step.level]})"
        own = [joined for other, joined in joins.items() if other.step == edge.step]
        fired = [sum(not joined[run] for joined in own) for run in (0, 1)]
        if fired[0] and not fired[1]:
            return f"{name}: fires no longer"
        if fired[1] and not fired[0]:
            return f"{name}: fires now, and did not before"
        if fired[0] != fired[1]:
            return f"{name}: fires at {fired[1]} of {len(own)} points, before at {fired[0]}"
        deltas = [self._deltas(rows, lattice, edge) for rows in (self.before, self.after)]
        at = _text(lattice.points[edge.upper])
        return f"{name}: adds {_differences(*deltas) or 'another program'} at {at}"

    def _deltas(
        self, rows: Mapping[Point, Row], lattice: Lattice, edge: Edge
    ) -> dict[str, int | None]:
        """What an edge adds to each counter."""
        lower, upper = (rows[lattice.points[i]] for i in (edge.lower, edge.upper))
        found: dict[str, int | None] = {}
        for name in self.counters:
            old, new = counter_of(lower, name), counter_of(upper, name)
            found[name] = None if old is None or new is None else new - old
        return found


def _levels(points: CasePoints) -> list[tuple[str, list[str]]]:
    return [(factor["name"], factor["levels"]) for factor in points.factors]


def _row_at(points: CasePoints, point: Point) -> Row | None:
    """Return the row of a point; a factor that is switched off in a case stays at its level."""
    base, top = (points.lattice.points[i] for i in (points.lattice.base, points.lattice.top))
    ends = zip(point, base, top, strict=True)
    return points.rows.get(tuple(low if low == high else at for at, low, high in ends))


def _lowest(lattice: Lattice, indices: set[int]) -> list[int]:
    """Return the points of a set that lie above no other of it."""
    found: list[int] = []
    for index in sorted(indices):
        point = lattice.points[index]
        if not any(_is_below(lattice.points[other], point) for other in found):
            found.append(index)
    return found


def _is_below(one: Point, other: Point) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True))


def _text(point: Sequence[int]) -> str:
    return "".join(map(str, point))


def _differences(before: Mapping[str, int | None], after: Mapping[str, int | None]) -> str:
    """Write the counters that differ: "launches 12, before 14"."""
    return "; ".join(
        f"{name.replace('_', ' ')} {_count(after[name])}, before {_count(before[name])}"
        for name in before
        if before[name] != after[name]
    )


def _count(value: int | None) -> str:
    return "not counted" if value is None else f"{value:,}"
