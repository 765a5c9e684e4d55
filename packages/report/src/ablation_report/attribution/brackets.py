"""The rungs of a ladder set against the steps of factors: what an order makes of a step, inside the
range that all orders make of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ablation_report.attribution import Attribution, Step, Worth
from ablation_report.attribution.lattice_steps import (
    AXES,
    OURS,
    Change,
    LatticeSteps,
    Place,
    aspects,
    change,
    names_of,
)
from ablation_report.run import BLOCK, Comparison, Row, Run
from ablation_report.stats import Interval

# The size that a case of attribution adds to those of the block: the factors that were chosen.
CHOSEN = "factors"
INSIDE, NEAR, OUTSIDE = "inside", "inside within the noise", "outside"


@dataclass(frozen=True)
class Rung:
    """A rung of a ladder, and the step of a factor that it is.

    `name` and `over_name` are the same in all ladders, whose platforms print them differently.
    `over` is the row that its time is compared with: its parent, or a row below it where
    several rungs together are the step. `figure` is ln(time without the step / time with it), also
    of a rung that takes the step back; None without a time of both. `said` is "inside", "inside
    within the noise", "outside", or None of a rung that is no step; `why` says why, in words.
    """

    row: Row
    over: Row | None
    figure: Interval | None
    worth: Worth | None
    step: Step | None
    said: str | None
    why: str
    name: str = ""
    over_name: str = ""


def case_in(ladder: Run, found: Attribution) -> str | None:
    """Return the case of a ladder that has the sizes of an attribution; None without one."""
    own = found.base
    sizes = {name: size for name, size in own["sizes"].items() if name != CHOSEN}
    # A published source says no threads
    names = ("dtype", "device") if ladder.is_published else ("dtype", "device", "threads")
    for case, (row, *_) in ladder.by_case.items():
        if row["sizes"] == sizes and all(row[name] == own[name] for name in names):
            return case
    return None


def rungs(
    run: Run, found: Attribution, ladders: Iterable[Run], shapes: Mapping[str, Row]
) -> dict[str, list[Rung]]:
    """Return every rung of some ladders of the block at the case of an attribution, by the label of
    the ladder; without those that have no such case.

    `shapes` has rows by variant that say what a rung consists of where the ladder's own do not: as
    a published file, and as runs of before rows recorded shared fork-joins.
    """
    places = [
        (ladder, case)
        for ladder in ladders
        if ladder.suite == BLOCK and (case := case_in(ladder, found)) is not None
    ]
    rungs = {ladder.label: _described(ladder, case, shapes) for ladder, case in places}
    names = names_of(row for known in rungs.values() for row in known.values())
    lattice = LatticeSteps(run, found, names)
    return {
        ladder.label: [
            _named(_rung(lattice, ladder, row, rungs[ladder.label]), rungs[ladder.label])
            for row in ladder.by_case[case]
            if row["origin"] == OURS and row["parent"]
        ]
        for ladder, case in places
    }


def _described(ladder: Run, case: str, shapes: Mapping[str, Row]) -> dict[str, Row]:
    """Return the rows by variant that say what the rungs of a ladder consist of."""
    own = {row["variant"]: row for row in ladder.by_case[case]}
    return {**shapes, **{n: row for n, row in own.items() if n not in shapes or _is_described(row)}}


def shapes_of(ladders: Iterable[Run]) -> dict[str, Row]:
    """Return a row of each variant of the block that says what it consists of, of the newest run
    that has one."""
    found: dict[str, Row] = {}
    recorded = (run for run in ladders if not run.is_published and run.suite == BLOCK)
    for run in sorted(recorded, key=lambda run: str(run.header["created_utc"]), reverse=True):
        for row in filter(_is_described, run.rows):
            found.setdefault(row["variant"], row)
    return found


def _is_described(row: Row) -> bool:
    """True for a row that says of each of `AXES` what it is on it."""
    return row["origin"] != OURS or all(axis in row["factors"] for axis in AXES)


def _rung(lattice: LatticeSteps, ladder: Run, row: Row, known: Mapping[str, Row]) -> Rung:
    """Find the step that a rung is, alone or with those below it, and set it against the step."""
    parent = ladder.row(row["case"], row["parent"], row["phase"])
    shape, below = known[row["variant"]], known.get(row["parent"])
    if below is None or parent is None:
        return _none(row, parent, "the rung below it has no row")
    if below["origin"] != OURS:
        return _none(row, parent, f"{below['printed_name']} stands below it")
    changed = change(aspects(below), aspects(shape), lattice.names)
    if not changed:
        return _none(row, parent, "the same program as the rung below it")
    place = lattice.step(changed)
    over: Row | None = parent
    if place is None and lattice.part_of(changed) is not None:
        place, over = _together(lattice, ladder, row, known)
    if place is None or over is None:
        return _none(row, parent, _why_no_step(lattice, changed))
    if own := _own_change(ladder, row, over):
        return _none(row, over, f"in these rows it changes {own} as well")
    return _placed(lattice, ladder, row, over, known, place)


def _named(rung: Rung, known: Mapping[str, Row]) -> Rung:
    over = rung.row["parent"] if rung.over is None else rung.over["variant"]
    names = [
        known[each]["printed_name"] if each in known else each
        for each in (rung.row["variant"], over)
    ]
    return replace(rung, name=names[0], over_name=names[1])


def _none(row: Row, over: Row | None, why: str) -> Rung:
    return Rung(row, over, None, None, None, None, why)


def _together(
    lattice: LatticeSteps, ladder: Run, row: Row, known: Mapping[str, Row]
) -> tuple[tuple[Place, bool] | None, Row | None]:
    """Return the step that a rung and those below it are together, and the row that it is over."""
    shape, name = aspects(known[row["variant"]]), row["parent"]
    passed: set[str] = set()
    while name in known and known[name]["origin"] == OURS and name not in passed:
        passed.add(name)
        changed = change(aspects(known[name]), shape, lattice.names)
        if (place := lattice.step(changed)) is not None:
            return place, ladder.row(row["case"], name, row["phase"])
        if lattice.part_of(changed) is None:
            break
        name = known[name]["parent"]
    return None, None


def _why_no_step(lattice: LatticeSteps, changed: Change) -> str:
    part = lattice.part_of(changed)
    if part is not None and (worth := lattice.worth(part[0])) is not None:
        return f"a part of the step {step_name(worth, part[1])}"
    factors = lattice.factors(changed)
    if factors is None:
        return "other kernels or passes than those of any factor"
    names = [worth.printed_name if (worth := lattice.worth(i)) else str(i) for i in factors]
    if len(names) == 1:
        return f"several levels of {names[0]} at once, or a part of one"
    return f"several factors at once: {', '.join(names)}"


def _own_change(ladder: Run, row: Row, over: Row) -> str | None:
    """Name the kernel, other than that of attention, that differs in the rows of a published rung.

    What a published rung consists of is taken from recorded ones, and its rows may say otherwise.
    """
    if not ladder.is_published:
        return None
    mine, theirs = ((each["kernels"] or {}).get("layer_norm") for each in (row, over))
    return "LayerNorm" if mine != theirs else None


def step_name(worth: Worth, level: int) -> str:
    """Name a step by its factor and the level that it leads to."""
    return f"{worth.printed_name}: {worth.steps[level - 1].level}"


def _placed(
    lattice: LatticeSteps,
    ladder: Run,
    row: Row,
    over: Row,
    known: Mapping[str, Row],
    found: tuple[Place, bool],
) -> Rung:
    """Set the figure of a rung that is a step against what all orders make of the step."""
    (place, is_back), comparison = found, ladder.compare(row, over)
    worth = lattice.worth(place[0])
    if worth is None:
        return _none(row, over, "a factor that this attribution has no worth of")
    step = worth.steps[place[1] - 1]
    if comparison is None:
        return Rung(row, over, None, worth, step, None, "no time of both")
    figure = _figure(comparison, is_back)
    said = _said(figure, step, _slack(comparison, lattice.found))
    why = ""
    if said == OUTSIDE:
        below = known[row["variant"]] if is_back else known[over["variant"]]
        why = _why_outside(lattice, ladder, below)
    return Rung(row, over, figure, worth, step, said, why)


def _figure(comparison: Comparison, is_back: bool) -> Interval:
    """The logarithm of the time without a step over that with it."""
    ratio = comparison.ratio
    logs = [math.log(value) for value in (ratio.value, ratio.low, ratio.high)]
    if not is_back:
        logs = [-log for log in logs]
    return Interval(logs[0], min(logs[1:]), max(logs[1:]), ratio.n)


def _slack(comparison: Comparison, found: Attribution) -> float:
    """What the floors of both runs leave open."""
    return math.log1p(comparison.floor or 0.0) + math.log1p(found.floor or 0.0)


def _said(figure: Interval, step: Step, slack: float) -> str:
    if step.lowest <= figure.value <= step.highest:
        return INSIDE
    is_near = figure.high + slack >= step.lowest and figure.low - slack <= step.highest
    return NEAR if is_near else OUTSIDE


def _why_outside(lattice: LatticeSteps, ladder: Run, below: Row) -> str:
    if ladder.is_published:
        return "measured on another machine"
    if not lattice.has(aspects(below)):
        return "what else is on there is no program of the lattice"
    return "another run: its noise is not that of the lattice"
