"""Which run answers a question: the one whose rows resolve most of it.

A question is a function that returns what a place (a case of a run) says of it, an answer each.
`best` and `by_evidence` are the only rule; `ladder`, `verdicts`, `worths` and `against_others` are
the questions of the pages.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ablation_report.attribution.worths import NOT_RESOLVED, attribution_of
from ablation_report.compare.conditions import hardware
from ablation_report.machines import machine_name
from ablation_report.rows import config_name
from ablation_report.run import (
    BLOCK,
    Comparison,
    Row,
    Run,
    batch_of,
    is_other,
    is_ours,
    layers_of,
)
from ablation_report.stats import is_too_noisy, median


@dataclass(frozen=True)
class Place:
    """A case of a run."""

    run: Run
    case: str

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of the case, in the order of the table."""
        return self.run.by_case[self.case]

    @property
    def threads(self) -> int:
        """The threads of each program; 0 where a published source does not say."""
        return int(self.rows[0]["threads"] or 0)

    @property
    def config(self) -> str | None:
        """The name of the block's size, with its layers; None in another suite."""
        return config_name(self.rows[0]["sizes"])

    @property
    def layers(self) -> int:
        """The blocks that run one after another."""
        return layers_of(self.rows[0])

    @property
    def batch(self) -> int:
        """The sequences of a call."""
        return batch_of(self.rows[0])


class Answer(Protocol):
    """One thing that rows say of a question, or leave open."""

    @property
    def is_resolved(self) -> bool:
        """True where they say it beyond noise."""


# What a place says of a question
Question = Callable[[Place], Sequence[Answer]]


@dataclass(frozen=True)
class Said:
    """An answer that is no comparison of two rows."""

    is_resolved: bool


def created(run: Run) -> str:
    """Return when a run began, in a form that sorts; empty for a published one."""
    return str(run.header.get("created_utc") or "")


def configs_of(runs: Iterable[Run]) -> list[str]:
    """Return the configs that have a row, those with several layers or sequences behind the single
    blocks: in the order of the run that has them all, or the one with the fewest operations
    first."""
    groups: dict[tuple[int, int], list[list[Row]]] = {}
    for run in runs:
        firsts: dict[tuple[int, int], list[Row]] = {}
        for rows in run.by_case.values():
            firsts.setdefault((layers_of(rows[0]), batch_of(rows[0])), []).append(rows[0])
        for key, found in firsts.items():
            groups.setdefault(key, []).append(found)
    return [config for key in sorted(groups) for config in _in_order(groups[key])]


def _in_order(runs: Iterable[Iterable[Row]]) -> list[str]:
    """The configs of the first rows of each run's cases."""
    flops: dict[str, int] = {}
    fullest: list[str] = []
    for rows in runs:
        found = {name: row["flops"] or 0 for row in rows if (name := config_name(row["sizes"]))}
        flops = {**found, **flops}
        fullest = max(fullest, list(found), key=len)
    return fullest if len(fullest) == len(flops) else sorted(flops, key=lambda c: flops[c])


def places(runs: Iterable[Run], config: str | None = None) -> list[Place]:
    """Return every case of some runs, or those of a config."""
    every = (Place(run, case) for run in runs for case in run.cases)
    return [place for place in every if config in (None, place.config)]


def noisy_share(run: Run) -> float:
    """Return the part of a run's rows with an interval whose interval is too wide; 0 of none."""
    noisy, known = run.noisy_times
    return noisy / known if known else 0.0


def is_noisy(run: Run) -> bool:
    """True for a run that is too noisy to use: it leads no page."""
    return run.is_too_noisy


def is_quick(run: Run) -> bool:
    """True for a run with few warm-ups and no extra rounds."""
    return bool(run.header.get("quick"))


def by_evidence(found: Iterable[Place], question: Question) -> list[Place]:
    """Order places by what they say of a question, the best first.

    Places of noisy and of disturbed runs, and cases that are too noisy to compare, stand last. Of
    the others the one with the largest share of resolved answers is first, then that with the
    lowest floor, then the newest. The share is of the most answers that any place gives: a run that
    was asked less does not win by that.
    """
    answers = [(place, question(place)) for place in found]
    most = max((len(said) for _, said in answers), default=0)

    def weight(pair: tuple[Place, Sequence[Answer]]) -> tuple[bool, float, float, str]:
        place, said = pair
        floor = place.run.floor(place.case)
        is_last = is_noisy(place.run) or place.run.is_disturbed or is_too_noisy(floor)
        resolved = sum(answer.is_resolved for answer in said) / most if most else 0.0
        # Without a floor nothing is resolved
        quiet = -math.inf if floor is None else -floor
        return not is_last, resolved, quiet, created(place.run)

    return [place for place, _ in sorted(answers, key=weight, reverse=True)]


def best(found: Iterable[Place], question: Question) -> Place | None:
    """Return the place that answers a question best, of those that say anything of it.

    A place of a noisy run is returned only where there is no other: its page has a banner.
    """
    return next(iter(by_evidence(filter(question, found), question)), None)


def ladder(place: Place) -> list[Comparison]:
    """Return every row of a case over that of its parent."""
    found = (place.run.compare(row, row["parent"]) for row in place.rows if row["parent"])
    return [each for each in found if each]


def verdicts(place: Place) -> list[Comparison]:
    """Return every row of a case over the baseline of its suite."""
    found = (place.run.compare(row, place.run.baseline) for row in place.rows)
    return [each for each in found if each and each.row is not each.base]


def worths(place: Place) -> list[Said]:
    """Return for each factor of a case whether its worth is resolved."""
    found = attribution_of(place.run, place.case)
    return [Said(worth.verdict != NOT_RESOLVED) for worth in found.worths] if found else []


def against_others(place: Place) -> list[Comparison]:
    """Return for each phase of a case our fastest row over that of the others."""
    run, found = place.run, []
    for phase in dict.fromkeys(row["phase"] for row in place.rows):
        ours, other = (run.best(place.case, wanted, phase) for wanted in (is_ours, is_other))
        found.append(run.compare(ours, other))
    return [each for each in found if each]


@dataclass(frozen=True)
class Setting:
    """The places that were made alike: on one machine, on as many threads, by one instruction set,
    of as many layers and sequences.

    `is_whole` is true where they use all cores and the best instruction set of the machine.
    """

    places: tuple[Place, ...]
    machine: str
    hardware: str
    threads: int
    simd: str | None
    layers: int
    batch: int
    is_whole: bool

    def best(self, question: Question, found: Iterable[Place] | None = None) -> Place | None:
        """Return the place that says most of a question, of those that say anything of it."""
        return best(self.places if found is None else found, question)


def settings(found: Iterable[Place]) -> list[Setting]:
    """Group places by how they were made, those that use the whole machine first, and of these the
    noisy ones last."""
    groups: dict[tuple[str, int, str | None, int, int], list[Place]] = {}
    for place in found:
        header = place.run.header
        simd = header["providers"].get("simd")
        key = hardware(header), place.threads, simd, place.layers, place.batch
        groups.setdefault(key, []).append(place)
    made = [
        Setting(tuple(g), machine_name(g[0].run.header["machine"]), *key, is_whole(g[0]))
        for key, g in groups.items()
    ]
    return sorted(made, key=lambda setting: (not setting.is_whole, _is_all_noisy(setting)))


def _is_all_noisy(setting: Setting) -> bool:
    return all(is_noisy(run) for run in {p.run.name: p.run for p in setting.places}.values())


def is_whole(place: Place) -> bool:
    """True where all cores are used, and the best instruction set that the build found there."""
    build, cores = place.run.header["build_info"], place.run.header["machine"]["cores"]
    # The build lists the best first
    best = next(iter(build.get("isa_available") or ()), None)
    return bool(place.threads == cores and build.get("isa_used") == best)


def shown(runs: Iterable[Run], config: str) -> Place | None:
    """Return the place that the page of a config shows first; None without a run."""
    return next(iter(by_machine(places(runs, config), ladder).values()), None)


def by_machine(found: Iterable[Place], question: Question) -> dict[str, Place]:
    """Return the place of each machine that answers a question best, by the machine's name; the
    machine that answers it best is first.

    Places that use the whole machine come before those that do not.
    """
    groups: dict[str, list[Place]] = {}
    for place in found:
        groups.setdefault(hardware(place.run.header), []).append(place)
    whole = [[p for p in group if is_whole(p)] or group for group in groups.values()]
    first = by_evidence((by_evidence(group, question)[0] for group in whole), question)
    ordered = sorted(first, key=lambda place: not is_whole(place))
    names = unique(machine_name(place.run.header["machine"]) for place in ordered)
    return dict(zip(names, ordered, strict=True))


def unique(names: Iterable[str]) -> list[str]:
    """Number the machines of one name: their processors differ in instruction sets or caches."""
    counts: Counter[str] = Counter()
    found = []
    for name in names:
        counts[name] += 1
        found.append(name if counts[name] == 1 else f"{name} ({counts[name]})")
    return found


def single_blocks(run: Run) -> list[Place]:
    """Return the cases of a run that are of one layer and one sequence."""
    return [place for place in places([run]) if place.layers == place.batch == 1]


def main_run(runs: Iterable[Run]) -> Run | None:
    """Return the run that says most of the ladder over all its configs of a single block; None
    without a run of one that is not noisy."""

    def weight(run: Run) -> tuple[bool, int, float, str]:
        found = single_blocks(run)
        n_resolved = sum(each.is_resolved for place in found for each in ladder(place))
        floors = [floor for place in found if (floor := run.floor(place.case)) is not None]
        return any(map(is_whole, found)), n_resolved, -median(floors or [1.0]), created(run)

    calm = (run for run in runs if not is_noisy(run) and not run.is_disturbed)
    quiet = [run for run in calm if run.suite == BLOCK and single_blocks(run)]
    return max(quiet, key=weight, default=None)
