"""From rows to a verdict: what is compared, what several cases say together, what is missing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from ablation_report.findings.base import Outcome, OutcomeVerdict, unique
from ablation_report.findings.words import (
    MOST_LISTED,
    case_name,
    counted,
    listed,
    name_of,
    percent,
    place_of,
    ranged,
    times,
)
from ablation_report.run import PUBLISHED_FLOOR, Comparison, Row, Run
from ablation_report.stats import MIN_ROUNDS, Interval, Verdict, is_too_noisy
from ablation_report.tables import Table

# A case that cannot be judged, in words, and why.
Gap = tuple[str, str]
# The verdict of a part that decides the whole, the strongest first.
_BY_WEIGHT: tuple[OutcomeVerdict, ...] = ("does not hold", "not resolved", "holds")


def compare(run: Run, row: Row | None, base: Row | str | None) -> Comparison | None:
    """Compare as the run does, but resolve nothing in a case that is too noisy, and let a published
    run resolve no more than its own noise.

    Where a published case has one program under two names, their difference is its floor.
    """
    comparison = run.compare(row, base)
    if comparison is None:
        return None
    if run.is_published:
        floor = published_floor(run, comparison.case)
        is_within = abs(comparison.ratio.value - 1) <= floor
        said: Verdict = "not resolved" if is_within else comparison.verdict
        comparison = replace(comparison, floor=floor, verdict=said)
    if is_too_noisy(comparison.floor):
        return replace(comparison, verdict="not resolved")
    return comparison


def published_floor(run: Run, case: str) -> float:
    """Return the part by which two published times of a case must differ to be called different."""
    differences = [
        abs(ratio.value - 1)
        for first, second in twins(run, case)
        if (ratio := run.ratio(run.row(case, first), run.row(case, second))) is not None
    ]
    return max([PUBLISHED_FLOOR, *differences])


def twins(run: Run, case: str) -> list[tuple[str, str]]:
    """Return the pairs of variants of a case that are one program under two names."""
    if not run.is_published:
        return [pair for pair in run.twins if all(run.row(case, name) for name in pair)]
    # What a published row says of its program; equal in two rows, they are one.
    programs = [
        (row["variant"], (row["kernels"], row["passes"])) for row in run.by_case.get(case, ())
    ]
    known = [(variant, program) for variant, program in programs if None not in program]
    return [
        (first, second)
        for (first, mine), (second, theirs) in itertools.combinations(known, 2)
        if mine == theirs
    ]


def is_twin(run: Run, case: str, first: str, second: str) -> bool:
    """True for two names of one program."""
    pairs = twins(run, case) if run.is_published else run.twins
    return any({first, second} == set(pair) for pair in pairs)


def resolves(run: Run, comparison: Comparison) -> bool:
    """True where a comparison can resolve a difference, if it is large enough."""
    is_enough = run.is_published or comparison.ratio.n >= MIN_ROUNDS
    return is_enough and comparison.floor is not None and not is_too_noisy(comparison.floor)


def is_noisy(run: Run, row: Row) -> bool:
    """True where the time of a row is too spread to say that it is another than expected."""
    time = run.time(row)
    return bool(time and time.is_noisy) or is_too_noisy(run.floor(row["case"]))


def compare_at(
    run: Run, cases: Iterable[str], variant: str, base: str
) -> tuple[list[Comparison], list[Gap]]:
    """Compare two variants in each case; return the comparisons, and the cases without one."""
    found: list[Comparison] = []
    gaps: list[Gap] = []
    for case in cases:
        comparison = compare(run, run.row(case, variant), base)
        if comparison is None:
            gaps.append((case_name(run, case), why_not(run, case, variant, base)))
        else:
            found.append(comparison)
    return found, gaps


def pairs(
    run: Run, variant: str, base: str, wanted: Callable[[Row], bool] = lambda row: True
) -> list[Comparison]:
    """Compare two variants in every phase of every case whose row is wanted."""
    rows = run.select(lambda row: row["variant"] == variant and wanted(row))
    found = (compare(run, row, base) for row in rows)
    return [comparison for comparison in found if comparison is not None]


def why_not(run: Run, case: str, *variants: str) -> str:
    """Say which of the variants has no time in a case, and why."""
    if case not in run.by_case:
        return "not run"
    lacking = []
    for variant in variants:
        row = run.row(case, variant)
        if row is None:
            lacking.append(f"{name_of(run, variant)} not run")
        elif row["status"] != "ok":
            lacking.append(f"{name_of(run, variant)} {row['status']}")
    return ", ".join(lacking) or "no common round"


def gaps_text(gaps: Iterable[Gap]) -> str:
    """Write the cases that cannot be judged by reason."""
    reasons: dict[str, list[str]] = {}
    for case, reason in gaps:
        reasons.setdefault(reason, []).append(case)
    return "; ".join(f"{listed(cases)} ({reason})" for reason, cases in reasons.items())


def missing(gaps: Sequence[Gap]) -> str:
    """Write the end of a sentence that names what is missing, or nothing."""
    return f" Not measured: {gaps_text(gaps)}." if gaps else ""


def never(
    run: Run,
    comparisons: Sequence[Comparison],
    bad: Literal["faster", "slower"],
    good: Literal["faster", "slower"],
) -> OutcomeVerdict:
    """Judge the claim that no case says `bad`.

    To hold, it takes an interval in each case that leaves no room for `bad` beyond the floor, and
    one case that says `good`, or the same in all.
    """
    found = {comparison.verdict for comparison in comparisons}
    if bad in found:
        return "does not hold"
    is_shown = good in found or found == {"same"}
    is_excluded = all(excludes(run, comparison, bad) for comparison in comparisons)
    return "holds" if is_shown and is_excluded else "not resolved"


def excludes(run: Run, comparison: Comparison, bad: Literal["faster", "slower"]) -> bool:
    """True where the interval of a ratio does not reach beyond the floor on the side of `bad`."""
    if comparison.floor is None or not resolves(run, comparison):
        return False
    if bad == "faster":
        return comparison.ratio.low >= 1 - comparison.floor
    return comparison.ratio.high <= 1 + comparison.floor


def faster_holds(comparison: Comparison) -> OutcomeVerdict:
    """Judge the claim that a variant is faster than its base in one case."""
    if comparison.verdict == "faster":
        return "holds"
    return "not resolved" if comparison.verdict == "not resolved" else "does not hold"


def at_most(comparison: Comparison, ratio: float) -> OutcomeVerdict:
    """Judge the claim that a time over another is at most so much: by the whole interval, in
    enough common rounds."""
    if comparison.ratio.n < MIN_ROUNDS or is_too_noisy(comparison.floor):
        return "not resolved"
    if comparison.ratio.high <= ratio:
        return "holds"
    return "does not hold" if comparison.ratio.low > ratio else "not resolved"


def within(value: float, target: float, tolerance: float) -> OutcomeVerdict:
    """Judge the claim that an exact figure is at its target, give or take."""
    return "holds" if abs(value - target) <= tolerance else "does not hold"


def combine(verdicts: Iterable[OutcomeVerdict]) -> OutcomeVerdict:
    """Judge a claim of parts: one that does not hold breaks it, an open one leaves it open."""
    found = set(verdicts)
    for verdict in _BY_WEIGHT:
        if verdict in found:
            return verdict
    return "not measured"


def ratios_by_place(run: Run, comparisons: Iterable[Comparison]) -> dict[str, float]:
    """Return the ratio of each comparison by the words for its case."""
    return {place_of(run, c.row): c.ratio.value for c in comparisons}


def judge_target(run: Run, found: Sequence[Comparison], ratio: float) -> Outcome:
    """Judge the claim that the ratio of these comparisons is at most a target; name the cases that
    miss it."""
    groups: dict[OutcomeVerdict, list[Comparison]] = {}
    for comparison in found:
        groups.setdefault(at_most(comparison, ratio), []).append(comparison)
    words: Mapping[OutcomeVerdict, str] = {
        "holds": "reached",
        "does not hold": "missed",
        "not resolved": "not resolved",
    }
    parts = "; ".join(
        f"{words[verdict]}: {ranged(ratios_by_place(run, groups[verdict]))}"
        for verdict in words
        if verdict in groups
    )
    names = name_of(run, found[0].variant), name_of(run, found[0].base_variant)
    sentence = (
        f"Time of {names[0]} over that of {names[1]}, target at most {times(ratio)}: {parts}."
    )
    return judged(run, combine(groups), sentence, found)


def judged(
    run: Run,
    verdict: OutcomeVerdict,
    sentence: str,
    comparisons: Iterable[Comparison] = (),
    rows: Iterable[Row] = (),
    figures: Mapping[str, float] | None = None,
    table: Table | None = None,
) -> Outcome:
    """Return the outcome that rests on comparisons, and on other rows and figures.

    The sentence names the cases of these comparisons that are too noisy.
    """
    found = tuple(comparisons)
    every = [row for comparison in found for row in (comparison.row, comparison.base)]
    places = {c.case: c.row for c in found}
    names = {case: place_of(run, row) for case, row in places.items()}
    ratios = {f"{names[c.case]}: {c.variant} / {c.base_variant}": c.ratio.value for c in found}
    text = sentence + too_noisy(run, found)
    return Outcome(
        verdict, text, unique([*every, *rows]), ratios | dict(figures or {}), found, table
    )


def too_noisy(run: Run, comparisons: Iterable[Comparison]) -> str:
    """Write the end of a sentence that names the cases whose floor is too high, or nothing."""
    floors = {c.case: c.floor for c in comparisons if c.floor and is_too_noisy(c.floor)}
    if not floors:
        return ""
    places = [f"{case_name(run, case)} (floor {percent(floors[case])})" for case in floors]
    named = listed(places) if len(places) <= MOST_LISTED else counted(len(places), "case")
    return f" Too noisy to compare: {named}."


def fastest(run: Run, case: str, wanted: Callable[[Row], bool]) -> list[Row]:
    """Return the wanted rows of a case that have a time, fastest first."""
    timed: list[tuple[Interval, Row]] = [
        (time, row)
        for row in run.by_case.get(case, ())
        if wanted(row) and (time := run.time(row)) is not None
    ]
    return [row for _, row in sorted(timed, key=lambda pair: pair[0].value)]
