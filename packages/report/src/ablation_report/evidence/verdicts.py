"""How often a verdict is wrong, and how often it says something."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ablation_report.evidence.candidates import Candidate, Samples, Times, samples_of
from ablation_report.run import Row, Run
from ablation_report.stats import MIN_ROUNDS, Interval, Verdict, is_different

# Parts by which one of two equal programs is made slower.
INJECTED = (0.02, 0.05, 0.10, 0.20)
# Classes of floors, by their upper ends.
FLOORS = (0.01, 0.02, 0.05, 0.10)
# Random exchanges, and random divisions, of each pair and row.
N_DRAWS = 20
SEED = 18
Name = tuple[str, str, str]


@dataclass(frozen=True)
class Counted:
    """How many of n verdicts were called."""

    called: int
    n: int

    @property
    def share(self) -> float | None:
        """The part of them; None of none."""
        return self.called / self.n if self.n else None


@dataclass(frozen=True)
class Quality:
    """What a candidate says of recorded rows.

    `twins` counts the pairs of one program under two names that are called different by the floor
    of the other pairs of their case; `exchanged` the same after each round's two times changed
    places at random, so that nothing but noise differs; `divided` the rows whose rounds, dealt to
    two names at random, are called different. `power` counts the exchanged pairs that are called
    after one side was made slower, by that part and the class of the floor; `false_same` those of
    them that are called the same at 5 % or more. `resolved` counts the comparisons of recorded
    rows, with their parents and with the baseline, that have a verdict.
    """

    candidate: Candidate
    twins: Counted
    exchanged: Counted
    divided: Counted
    false_same: Counted
    power: dict[tuple[float, float | None], Counted]
    resolved: Counted

    def power_at(self, injected: float) -> float | None:
        """The share of all exchanged pairs that are called at this size, whatever the floor."""
        found = [c for (size, _), c in self.power.items() if size == injected]
        return Counted(sum(c.called for c in found), sum(c.n for c in found)).share


@dataclass(frozen=True)
class Pair:
    """Two rows of a case with their samples in the rounds that both ran in."""

    names: frozenset[str]
    phase: str
    first: Samples
    second: Samples


@dataclass(frozen=True)
class Asked:
    """A case: its twins, its rows that took turns, and each with what it is compared with."""

    twins: Sequence[Pair]
    rows: Sequence[Samples]
    compared: Sequence[Pair]


@dataclass
class Tally:
    """Verdicts by what was asked."""

    called: Counter[object] = field(default_factory=Counter)
    asked: Counter[object] = field(default_factory=Counter)

    def add(self, what: object, is_called: bool) -> None:
        """Count a verdict."""
        self.asked[what] += 1
        self.called[what] += is_called

    def of(self, what: object) -> Counted:
        """Return what was counted."""
        return Counted(self.called[what], self.asked[what])


def paired(row: Row | None, base: Row | None) -> Pair | None:
    """Pair two rows that took turns in enough rounds for a verdict; None of others."""
    if row is None or base is None or not row["samples_ns"] or not base["samples_ns"]:
        return None
    is_one = row["session"] == base["session"] and row["interleaved"] and base["interleaved"]
    first, second = samples_of(row), samples_of(base)
    common = sorted(first.keys() & second.keys()) if is_one else []
    if len(common) < MIN_ROUNDS:
        return None
    names = frozenset((row["variant"], base["variant"]))
    sides = ({index: side[index] for index in common} for side in (first, second))
    return Pair(names, row["phase"], *sides)


def twins_of(run: Run, case: str) -> list[Pair]:
    """Return the pairs of a case that are one program under two names."""
    phases = dict.fromkeys(row["phase"] for row in run.by_case[case])
    found = (
        paired(run.row(case, first, phase), run.row(case, second, phase))
        for first, second in run.twins
        for phase in phases
    )
    return [pair for pair in found if pair is not None]


def comparisons_of(run: Run, case: str) -> Iterator[tuple[Name, Pair]]:
    """Yield every row of a case over its parent and over the baseline."""
    for row in run.by_case[case]:
        for base in dict.fromkeys((row["parent"], run.baseline)):
            if base is not None and base != row["variant"]:
                pair = paired(row, run.row(case, base, row["phase"]))
                if pair is not None:
                    yield (row["variant"], base, row["phase"]), pair


def ratio_of(candidate: Candidate, pair: Pair) -> Interval | None:
    """Return the ratio of a pair by a candidate."""
    return candidate.ratio(candidate.times(pair.first), candidate.times(pair.second))


def floor_of_case(candidate: Candidate, twins: Sequence[Pair]) -> float | None:
    """Return the floor that pairs of one program give by a candidate."""
    ratios = (ratio_of(candidate, pair) for pair in twins)
    return candidate.floor(ratio for ratio in ratios if ratio is not None)


def qualities(runs: Sequence[Run], candidates: Sequence[Candidate]) -> tuple[Quality, ...]:
    """Return what each candidate says of the same pairs, drawn alike."""
    cases = [
        Asked(
            twins,
            [samples_of(r) for r in run.by_case[case] if r["samples_ns"] and r["interleaved"]],
            [pair for _, pair in comparisons_of(run, case)],
        )
        for run in runs
        for case in run.cases
        if (twins := twins_of(run, case))
    ]
    return tuple(_quality(candidate, cases) for candidate in candidates)


def _quality(candidate: Candidate, cases: Sequence[Asked]) -> Quality:
    tally, draw = Tally(), random.Random(SEED)
    for case in cases:
        twins = case.twins
        for pair in twins:
            others = [each for each in twins if each.names != pair.names]
            if others:
                _ask_twins(candidate, tally, draw, pair, floor_of_case(candidate, others))
        floor = floor_of_case(candidate, twins)
        for row in case.rows:
            _ask_row(candidate, tally, draw, row, floor)
        for pair in case.compared:
            ratio = ratio_of(candidate, pair)
            said = candidate.said(ratio, floor) if ratio else "not resolved"
            tally.add("resolved", said != "not resolved")
    classes = (*FLOORS, None)
    return Quality(
        candidate,
        tally.of("twins"),
        tally.of("exchanged"),
        tally.of("divided"),
        tally.of("same"),
        {key: tally.of(key) for key in itertools.product(INJECTED, classes)},
        tally.of("resolved"),
    )


def floor_class(floor: float) -> float | None:
    """Return the upper end of the class of a floor, None above all."""
    return next((end for end in FLOORS if floor <= end), None)


def slowed(ratio: Interval, part: float) -> Interval:
    """Return a ratio whose time was made slower by a part."""
    by = 1 + part
    return Interval(ratio.value * by, ratio.low * by, ratio.high * by, ratio.n)


def _ask_twins(
    candidate: Candidate, tally: Tally, draw: random.Random, pair: Pair, floor: float | None
) -> None:
    """Ask of a pair as it was recorded, and with its times exchanged, alike and slowed."""
    first, second = candidate.times(pair.first), candidate.times(pair.second)
    if floor is None:
        return
    recorded = candidate.ratio(first, second)
    tally.add("twins", recorded is not None and is_different(candidate.said(recorded, floor)))
    for _ in range(N_DRAWS):
        ratio = candidate.ratio(*_exchanged(draw, first, second))
        if ratio is None:
            continue
        tally.add("exchanged", is_different(candidate.said(ratio, floor)))
        for part in INJECTED:
            said: Verdict = candidate.said(slowed(ratio, part), floor)
            tally.add((part, floor_class(floor)), said == "slower")
            if part >= 0.05:
                tally.add("same", said == "same")


def _exchanged(draw: random.Random, first: Times, second: Times) -> tuple[Times, Times]:
    """Let the two times of each round change places with even odds."""
    mine, theirs = dict(first), dict(second)
    for index in first:
        if draw.random() < 0.5:
            mine[index], theirs[index] = theirs[index], mine[index]
    return mine, theirs


def _ask_row(
    candidate: Candidate, tally: Tally, draw: random.Random, row: Samples, floor: float | None
) -> None:
    """Deal the rounds of a row to two names, neighbors to different ones, and ask whether they
    differ; a row of too few rounds is not asked."""
    times = candidate.times(row)
    order = sorted(times)
    couples = list(zip(order[::2], order[1::2], strict=False))
    if len(couples) < MIN_ROUNDS or floor is None:
        return
    first = {number: times[one] for number, (one, _) in enumerate(couples)}
    second = {number: times[other] for number, (_, other) in enumerate(couples)}
    ratio = candidate.ratio(*_exchanged(draw, first, second))
    tally.add("divided", ratio is not None and is_different(candidate.said(ratio, floor)))
