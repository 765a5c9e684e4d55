"""From rows to a verdict: what is compared, what several configs say together, what is missing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from ablation_report.findings.base import OutcomeVerdict
from ablation_report.findings.words import listed, name_of
from ablation_report.ladder import AA_PAIRS, is_ours, rank
from ablation_report.metrics import MIN_ROUNDS, Cell
from ablation_report.sources import PUBLISHED_FLOOR, Comparison, Source

# A config that cannot be judged, and why
Gap = tuple[str, str]
# The verdict of a part that decides the whole, the strongest first
_BY_WEIGHT: tuple[OutcomeVerdict, ...] = ("does not hold", "not resolved", "holds")
# What a published row says of its program; equal in two rows, they are one program
_PROGRAM = ("attention_kernel", "layer_norm_kernel", "passes")


def compare(source: Source, config: str, variant: str, base: str | None) -> Comparison | None:
    """Compare as the source does, but let a published file resolve no more than its own noise.

    Where a published config has one program under two names, what these differ by is its floor.
    """
    comparison = source.compare(config, variant, base)
    if comparison is None or not source.is_published:
        return comparison
    floor = published_floor(source, config)
    is_within = abs(comparison.ratio.median - 1) <= floor
    return replace(
        comparison, floor=floor, verdict="not resolved" if is_within else comparison.verdict
    )


def published_floor(source: Source, config: str) -> float:
    """The part by which two published times of a config must differ to be called different."""
    differences = [
        abs(comparison.ratio.median - 1)
        for first, second in twins(source, config)
        if (comparison := source.compare(config, first, second)) is not None
    ]
    return max([PUBLISHED_FLOOR, *differences])


def twins(source: Source, config: str) -> list[tuple[str, str]]:
    """The pairs of variants of a config that are one program under two names."""
    cells = source.by_config.get(config, {})
    if not source.is_published:
        return [pair for pair in AA_PAIRS if set(pair) <= cells.keys()]
    told = [cell for cell in cells.values() if all(cell[name] is not None for name in _PROGRAM)]
    told.sort(key=lambda cell: rank(cell["variant"]))
    return [
        (first["variant"], second["variant"])
        for first, second in itertools.combinations(told, 2)
        if all(first[name] == second[name] for name in _PROGRAM)
    ]


def is_twin(source: Source, config: str, first: str, second: str) -> bool:
    """True for two names of one program."""
    return any({first, second} == set(pair) for pair in twins(source, config))


def resolves(source: Source, comparison: Comparison) -> bool:
    """True where a comparison could tell its two sides apart, if they were far enough apart."""
    enough = source.is_published or comparison.ratio.n >= MIN_ROUNDS
    return enough and comparison.floor is not None


def compare_at(
    source: Source, configs: Iterable[str], variant: str, base: str
) -> tuple[list[Comparison], list[Gap]]:
    """Compare two variants at each config; return the comparisons, and the configs without one."""
    found: list[Comparison] = []
    gaps: list[Gap] = []
    for config in configs:
        comparison = compare(source, config, variant, base)
        if comparison is None:
            gaps.append((config, why_not(source, config, variant, base)))
        else:
            found.append(comparison)
    return found, gaps


def why_not(source: Source, config: str, *variants: str) -> str:
    """Say which of the variants has no time at a config, and why."""
    if config not in source.by_config:
        return "not run"
    lacking = []
    for variant in variants:
        cell = source.cell(config, variant)
        if cell is None:
            lacking.append(f"{name_of(source, variant)} not run")
        elif cell["status"] != "ok":
            lacking.append(f"{name_of(source, variant)} {cell['status']}")
    return ", ".join(lacking) or "no round in common"


def gaps_text(gaps: Iterable[Gap]) -> str:
    """Write the configs that cannot be judged by reason."""
    reasons: dict[str, list[str]] = {}
    for config, reason in gaps:
        reasons.setdefault(reason, []).append(config)
    return "; ".join(f"{listed(configs)} ({reason})" for reason, configs in reasons.items())


def missing(gaps: Sequence[Gap]) -> str:
    """Write the end of a sentence that names what is missing, or nothing."""
    return f" Not measured: {gaps_text(gaps)}." if gaps else ""


def never(
    source: Source,
    comparisons: Sequence[Comparison],
    bad: Literal["faster", "slower"],
    good: Literal["faster", "slower"],
) -> OutcomeVerdict:
    """Judge the claim that no config says `bad`.

    To hold, it takes an interval at each config that leaves no room for `bad` beyond the floor, and
    one config that says `good` or the same at all.
    """
    found = {comparison.verdict for comparison in comparisons}
    if bad in found:
        return "does not hold"
    is_shown = good in found or found == {"same"}
    is_excluded = all(excludes(source, comparison, bad) for comparison in comparisons)
    return "holds" if is_shown and is_excluded else "not resolved"


def excludes(source: Source, comparison: Comparison, bad: Literal["faster", "slower"]) -> bool:
    """True where the interval of a ratio does not reach beyond the floor on the side of `bad`."""
    if comparison.floor is None or not resolves(source, comparison):
        return False
    if bad == "faster":
        return comparison.ratio.low >= 1 - comparison.floor
    return comparison.ratio.high <= 1 + comparison.floor


def faster_holds(comparison: Comparison) -> OutcomeVerdict:
    """Judge the claim that a variant is faster than its base at one config."""
    if comparison.verdict == "faster":
        return "holds"
    return "not resolved" if comparison.verdict == "not resolved" else "does not hold"


def combine(verdicts: Iterable[OutcomeVerdict]) -> OutcomeVerdict:
    """Judge a claim of parts: one that does not hold breaks it, an open one leaves it open."""
    found = set(verdicts)
    for verdict in _BY_WEIGHT:
        if verdict in found:
            return verdict
    return "not measured"


def timed(source: Source, config: str, wanted: Callable[[Cell], bool]) -> Mapping[str, float]:
    """The wanted variants of a config with their median nanoseconds, fastest first."""
    times = {
        variant: time.median
        for variant, cell in source.by_config.get(config, {}).items()
        if wanted(cell) and (time := source.time(config, variant)) is not None
    }
    return dict(sorted(times.items(), key=lambda item: item[1]))


def is_our_rung(cell: Cell) -> bool:
    """True for every compiled variant of this project."""
    return is_ours(cell["variant"], cell["group"])


def is_published_rung(cell: Cell) -> bool:
    """True for a compiled variant of the published ladder."""
    return is_our_rung(cell) and not cell["variant"].startswith("beyond-")


def steps(source: Source, wanted: Callable[[Cell], bool] = is_our_rung) -> list[Comparison]:
    """Compare each wanted rung with its parent at each config, in the order of the ladder."""
    found = []
    for config, cells in source.by_config.items():
        for variant in sorted(cells, key=rank):
            parent = source.parent(config, variant)
            if parent is None or not wanted(cells[variant]):
                continue
            comparison = compare(source, config, variant, parent)
            if comparison is not None and not is_twin(source, config, variant, parent):
                found.append(comparison)
    return found
