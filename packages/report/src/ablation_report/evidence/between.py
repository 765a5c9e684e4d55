"""How far two runs of one machine agree: times, ratios, verdicts."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ablation_report.compare.conditions import differences
from ablation_report.evidence.candidates import CHOSEN, EARLIER, Candidate, Samples, samples_of
from ablation_report.evidence.verdicts import (
    Counted,
    Name,
    comparisons_of,
    floor_of_case,
    ratio_of,
    twins_of,
)
from ablation_report.run import Run
from ablation_report.stats import (
    MARGIN,
    MIN_ROUNDS,
    QUARTILE,
    Interval,
    Verdict,
    median,
    percentile,
)

Estimate = Callable[[Samples], float]
# Case, variant, phase and hash
Program = tuple[str, str, str, str | None]


def _low(share: float, of_round: Callable[[Sequence[int]], float]) -> Estimate:
    return lambda row: percentile([of_round(values) for values in row.values()], share)


CHOSEN_TIME = "first quartile of round minima"
# Estimates of a time by the samples of its rounds.
TIMES: dict[str, Estimate] = {
    "median of round medians": lambda row: median([median(values) for values in row.values()]),
    "first quartile of round medians": _low(QUARTILE, median),
    CHOSEN_TIME: _low(QUARTILE, min),
    "first tercile of round minima": _low(1 / 3, min),
    "first decile of round minima": _low(0.1, min),
    "minimum": lambda row: float(min(map(min, row.values()))),
}


@dataclass(frozen=True)
class TimeSpread:
    """How far an estimate of the time of a row lies apart in two runs: the median over `n` rows
    and the 90th percentile, as a part of the time."""

    title: str
    typical: float
    most: float
    n: int


@dataclass(frozen=True)
class RunPair:
    """Two runs of one tree, the second the next after the first.

    Of the comparisons that both have: `called` counts the verdicts that the earlier definition
    leaves open and that say something now; `open_now` those left open now; `contradicted` the
    comparisons that are faster in one run and slower in the other, and `unlike` those that are the
    same in one and in the other different by more than the margin of "same", with the whole
    interval, of those with a verdict in both.
    """

    first: str
    second: str
    called: Counted
    open_now: Counted
    contradicted: Counted
    unlike: Counted


def alike(runs: Sequence[Run]) -> Iterator[tuple[Run, Run]]:
    """Yield each two runs of the same suite, machine, threads and versions."""
    for first, second in itertools.combinations(runs, 2):
        if first.suite == second.suite and not differences(first, second):
            yield first, second


def time_spreads(runs: Sequence[Run]) -> tuple[TimeSpread, ...]:
    """Return how far each estimate repeats over all rows that two runs have of one program; none
    where no row ran twice."""
    found: dict[str, list[float]] = {title: [] for title in TIMES}
    # A row is one of many pairs
    known = {id(run): _estimates(run) for run in runs}
    for one, other in alike(runs):
        theirs = known[id(other)]
        for place, estimates in known[id(one)].items():
            if place in theirs:
                for apart, *times in zip(found.values(), estimates, theirs[place], strict=True):
                    apart.append(max(times) / min(times) - 1)
    return tuple(
        TimeSpread(title, median(apart), percentile(apart, 0.9), len(apart))
        for title, apart in found.items()
        if apart
    )


def _estimates(run: Run) -> dict[Program, tuple[float, ...]]:
    """Return each estimate of the time of each row that has enough rounds."""
    samples = {
        (row["case"], row["variant"], row["phase"], row["program_hash"]): samples_of(row)
        for row in reversed(run.rows)
        if row["samples_ns"]
    }
    return {
        place: tuple(estimate(rounds) for estimate in TIMES.values())
        for place, rounds in samples.items()
        if len(rounds) >= MIN_ROUNDS
    }


def run_pairs(runs: Sequence[Run]) -> tuple[RunPair, ...]:
    """Return each run with the next one of the same tree that has its comparisons too."""
    found = []
    ordered = sorted(runs, key=lambda run: str(run.header.get("created_utc") or ""))
    for index, run in enumerate(ordered):
        for other in ordered[index + 1 :]:
            is_one_tree = run.header.get("git_sha") == other.header.get("git_sha")
            if run.suite == other.suite and is_one_tree and not differences(run, other):
                pair = _run_pair(run, other)
                found += [pair] if pair else []
                break
    return tuple(found)


# The verdict of a comparison and its ratio, by case and names.
Said = dict[tuple[str, Name], tuple[Verdict, Interval]]


def _verdicts(run: Run, candidate: Candidate) -> Said:
    """Return what a candidate says of every comparison of a run."""
    found: Said = {}
    for case in run.cases:
        floor = floor_of_case(candidate, twins_of(run, case))
        for name, pair in comparisons_of(run, case):
            ratio = ratio_of(candidate, pair)
            if ratio is not None:
                found[case, name] = candidate.said(ratio, floor), ratio
    return found


def _run_pair(first: Run, second: Run) -> RunPair | None:
    before = [_verdicts(run, EARLIER) for run in (first, second)]
    now = [_verdicts(run, CHOSEN) for run in (first, second)]
    common = [key for key in now[0] if key in now[1]]
    if not common:
        return None
    tally: Counter[str] = Counter()
    for key in common:
        verdicts = [said[key][0] for said in now]
        for earlier, verdict in zip(before, verdicts, strict=True):
            is_open = earlier[key][0] == "not resolved"
            tally["open before"] += is_open
            tally["called"] += is_open and verdict != "not resolved"
            tally["open now"] += verdict == "not resolved"
        if "not resolved" not in verdicts:
            tally["both"] += 1
            tally["contradicted"] += set(verdicts) == {"faster", "slower"}
            ratios = [said[key][1] for said in now]
            tally["unlike"] += "same" in verdicts and any(map(_is_beyond_margin, ratios))
    return RunPair(
        first.name,
        second.name,
        Counted(tally["called"], tally["open before"]),
        Counted(tally["open now"], 2 * len(common)),
        Counted(tally["contradicted"], tally["both"]),
        Counted(tally["unlike"], tally["both"]),
    )


def _is_beyond_margin(ratio: Interval) -> bool:
    return ratio.low > 1 + MARGIN or ratio.high < 1 - MARGIN
