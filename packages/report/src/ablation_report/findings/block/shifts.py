"""Steps that move time between the parts of the breakdown and leave the total where it was."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict, not_measured
from ablation_report.findings.block.steps import steps
from ablation_report.findings.judge import judged, resolves
from ablation_report.findings.words import name_of, percent, place_of, time_change
from ablation_report.rows import PARTS
from ablation_report.run import BLOCK, Comparison, Row, Run
from ablation_report.stats import MIN_ROUNDS, Interval, is_different, median, median_interval
from ablation_report.tables import Table

# What a part must gain or lose at least, as a part of the profiled time of the rung below.
SHIFT = 0.02
# A sentence names so many of the largest; the table has all.
NAMED = 4


@dataclass(frozen=True)
class Shift:
    """A step whose parts moved, each by a part of the parent's profiled time."""

    comparison: Comparison
    moved: Mapping[str, float]

    @property
    def size(self) -> float:
        """The largest movement, up or down."""
        return max(abs(part) for part in self.moved.values())


def evaluate(run: Run) -> Outcome:
    """Look for steps with an unchanged total of which one part rose and another one fell."""
    asked = [c for c in steps(run) if c.row["profile"] and c.base["profile"]]
    if not asked:
        return not_measured("no rung has a profile together with its parent")
    level = [comparison for comparison in asked if not is_different(comparison.verdict)]
    shifts: list[Shift] = []
    n_open = 0
    for comparison in level:
        limit, movements = limit_of(run, comparison), _movements(comparison)
        shift = shift_of(comparison, movements, limit)
        if shift is not None:
            shifts.append(shift)
        elif may_shift(movements, limit):
            n_open += 1
    shifts.sort(key=lambda shift: shift.size, reverse=True)
    verdict = _verdict(shifts, n_open)
    sentence = _sentence(run, shifts, len(level), n_open, len(asked))
    figures = {
        f"{place_of(run, s.comparison.row)}: {s.comparison.variant} {part}": moved
        for s in shifts
        for part, moved in s.moved.items()
    }
    table = _table(run, shifts) if shifts else None
    found_at = [shift.comparison for shift in shifts]
    return judged(run, verdict, sentence, found_at or asked, figures=figures, table=table)


def shift_of(
    comparison: Comparison, movements: Mapping[str, Interval], limit: float | None
) -> Shift | None:
    """Return the parts that moved beyond the noise; None unless one rose and another one fell."""
    if limit is None:
        return None
    moved = {
        name: part.value
        for name, part in movements.items()
        if abs(part.value) > limit and (part.low > 0 or part.high < 0)
    }
    is_shift = any(part > 0 for part in moved.values()) and any(p < 0 for p in moved.values())
    return Shift(comparison, moved) if is_shift else None


def may_shift(movements: Mapping[str, Interval], limit: float | None) -> bool:
    """True where the intervals leave room for one part to have risen and another to have fallen."""
    if limit is None:
        return True
    return any(
        rising.high > limit and falling.low < -limit
        for rising, falling in itertools.permutations(movements.values(), 2)
    )


def limit_of(run: Run, comparison: Comparison) -> float | None:
    """Return what a part must move by, of the parent's profiled time; None where nothing is
    resolved."""
    if run.is_published:
        return SHIFT
    rows = comparison.row, comparison.base
    calls = min(len(row["profile"]["total"]) for row in rows)
    is_known = resolves(run, comparison) and calls >= MIN_ROUNDS
    return max(SHIFT, comparison.floor or 0.0) if is_known else None


def _movements(comparison: Comparison) -> dict[str, Interval]:
    """Return how each part changed, by the parent's profiled time; the bounds take both
    intervals."""
    total = median(comparison.base["profile"]["total"])
    mine, theirs = _parts(comparison.row), _parts(comparison.base)
    return {
        name: Interval(
            (part.value - theirs[name].value) / total,
            (part.low - theirs[name].high) / total,
            (part.high - theirs[name].low) / total,
            part.n,
        )
        for name, part in mine.items()
    }


def _parts(row: Row) -> dict[str, Interval]:
    """Return the parts of the profile with their intervals; a published row has attention, LN and
    other."""
    profile = row["profile"]
    if profile.get("linear") is not None:
        return {name: median_interval(profile[name]) for name in PARTS}
    attention, norm = profile["attention"], profile["layer_norm"]
    other = [t - a - n for t, a, n in zip(profile["total"], attention, norm, strict=True)]
    parts = {"attention": attention, "layer_norm": norm, "other": other}
    return {name: median_interval(values) for name, values in parts.items()}


def _verdict(shifts: Sequence[Shift], n_open: int) -> OutcomeVerdict:
    """A total that is not resolved may have changed: only one shown to be the same counts."""
    if any(shift.comparison.verdict == "same" for shift in shifts):
        return "holds"
    return "not resolved" if shifts or n_open else "does not hold"


def _sentence(run: Run, shifts: Sequence[Shift], n_level: int, n_open: int, n_asked: int) -> str:
    text = f"The total is the same or not resolved at {n_level} of {n_asked} steps"
    doubt = f" At {n_open} of these the profile is too noisy or too short for a verdict."
    doubt = doubt if n_open else ""
    if not shifts:
        n_still = n_level - n_open
        rest = f" {n_still} of these move no time between parts." if n_still else ""
        return f"{text}.{doubt}{rest}"
    lines = [
        f"{name_of(run, s.comparison.variant)} over {name_of(run, s.comparison.base_variant)} at "
        f"{place_of(run, s.comparison.row)} ({_moved(s)}; total {_total(s.comparison)})"
        for s in shifts[:NAMED]
    ]
    more = len(shifts) - len(lines)
    rest = f"; and {more} more" if more else ""
    found = f"at {len(shifts)} of these time moves between parts: {'; '.join(lines)}{rest}"
    return f"{text}; {found}.{doubt}"


def _moved(shift: Shift) -> str:
    ordered = sorted(shift.moved.items(), key=lambda item: item[1])
    return ", ".join(f"{name} {_signed(part)}" for name, part in ordered)


def _signed(part: float) -> str:
    return f"{'+' if part > 0 else '-'}{percent(abs(part))}"


def _total(comparison: Comparison) -> str:
    return f"{comparison.verdict}, {time_change(comparison)}"


def _table(run: Run, shifts: Sequence[Shift]) -> Table:
    rows = [
        [
            run.printed(shift.comparison.variant),
            run.printed(shift.comparison.base_variant),
            place_of(run, shift.comparison.row),
            _moved(shift),
            _total(shift.comparison),
        ]
        for shift in shifts
    ]
    header = ("Rung", "over", "Config", "parts, of the profiled time", "total")
    return Table(f"Shifts: {run.name}", header, [("", rows)])


FINDING = Finding(
    key="shifts",
    suite=BLOCK,
    claim="Some rung moves time from one part of the block to another, and the total stays the "
    "same.",
    published=None,
    evaluate=evaluate,
)
