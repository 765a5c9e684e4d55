"""What findings of the further suites share: the claim, and how ratios and figures are judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ablation_report.findings.base import NOT_MEASURED, Outcome, OutcomeVerdict
from ablation_report.findings.judge import combine
from ablation_report.findings.words import counted, times
from ablation_report.metrics import MIN_ROUNDS, Interval
from ablation_report.suite_rows import Row
from ablation_report.suite_series import short_case
from ablation_report.suite_sources import Measure, SuiteSource

# A sentence that lists more than this is a table
MOST_LISTED = 4


@dataclass(frozen=True)
class SuiteFinding:
    """A claim that every source of one suite is asked for.

    `key` is its anchor; `claim` a sentence that can be true or false; `published` what the
    published text said of it, in our words, or None for a question of this project.
    """

    key: str
    suite: str
    title: str
    claim: str
    published: str | None
    evaluate: Callable[[SuiteSource], Outcome]


@dataclass(frozen=True)
class Pair:
    """The time of one measure over that of another of its case."""

    measure: Measure
    base: Measure
    ratio: Interval

    @property
    def where(self) -> str:
        """The case in words, with its threads."""
        threads = self.measure["threads"]
        words = short_case(self.measure)
        return words if threads is None else f"{words}, {counted(threads, 'thread')}"


def pairs(
    source: SuiteSource,
    impl: str,
    base: str,
    wanted: Callable[[Measure], bool] = lambda measure: True,
) -> list[Pair]:
    """Set an implementation against another in every wanted case that has both times."""
    found = []
    for measure in source.measures:
        other = source.find(measure["case"], base, measure["phase"])
        if measure["impl"] != impl or other is None or not wanted(measure):
            continue
        ratio = source.against(measure, base)
        if ratio is not None:
            found.append(Pair(measure, other, ratio))
    return found


def at_least(pair: Pair, speed_up: float) -> OutcomeVerdict:
    """Judge that a measure is so many times as fast as its base: by the whole interval of a pair in
    enough rounds."""
    if pair.ratio.n < MIN_ROUNDS:
        return "not resolved"
    if 1 / pair.ratio.high >= speed_up:
        return "holds"
    return "does not hold" if 1 / pair.ratio.low < speed_up else "not resolved"


def within(value: float, target: float, tolerance: float) -> OutcomeVerdict:
    """Judge that an exact figure is at its target, give or take."""
    return "holds" if abs(value - target) <= tolerance else "does not hold"


def ranged(
    figures: Mapping[str, float], write: Callable[[float], str] = times, word: str = "cases"
) -> str:
    """Write the figure of each case, or of many the smallest and the largest, with their names."""
    if len(figures) <= MOST_LISTED:
        return ", ".join(f"{write(value)} ({name})" for name, value in figures.items())
    low, high = (choose(figures, key=lambda name: figures[name]) for choose in (min, max))
    return (
        f"{len(figures)} {word}, from {write(figures[low])} ({low}) to {write(figures[high])} "
        f"({high})"
    )


def target_outcome(found: Sequence[Pair], speed_up: float) -> Outcome:
    """Judge a target of speed over all of its cases and name those that miss it."""
    groups: dict[OutcomeVerdict, dict[str, float]] = {}
    for pair in found:
        said = at_least(pair, speed_up)
        groups.setdefault(said, {})[pair.where] = 1 / pair.ratio.median
    words: Mapping[OutcomeVerdict, str] = {
        "holds": "reached",
        "does not hold": "missed",
        "not resolved": "not resolved",
    }
    sentence = "; ".join(
        f"{words[said]}: {ranged(groups[said])}" for said in words if said in groups
    )
    return outcome(
        combine(groups),
        f"{sentence[:1].upper()}{sentence[1:]}.",
        [measure for pair in found for measure in (pair.measure, pair.base)],
        {pair.where: 1 / pair.ratio.median for pair in found},
    )


def outcome(
    verdict: OutcomeVerdict,
    sentence: str,
    measures: Iterable[Measure],
    figures: Mapping[str, float] | None = None,
    memory: bool = False,
) -> Outcome:
    """The outcome that rests on these measures, each row once; of published ones, where `memory` is
    asked for, on the line with the figure of memory."""
    rows: dict[tuple[str, int], Row] = {}
    for measure in measures:
        line = measure["line"]
        if memory and measure.is_published:
            line = measure["memory_line"]
        rows[(measure["path"], line)] = {**measure.row, "line": line}
    return Outcome(verdict, sentence, tuple(rows.values()), dict(figures or {}))


def never_run(what: str, measures: Iterable[Measure] = (), memory: bool = False) -> Outcome:
    """The outcome of a source that lacks the rows; `what` names them, and may tell of others."""
    return outcome("not measured", f"{NOT_MEASURED}{what}.", measures, memory=memory)


def timed(source: SuiteSource, *impls: str) -> list[Measure]:
    """The measures of these implementations that have a time."""
    return [m for m in source.measures if m["impl"] in impls and m.timing]
