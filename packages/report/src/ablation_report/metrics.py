"""Turns the samples of cells into medians, intervals, paired ratios and the noise floor."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import polars as pl

from ablation_report.ladder import AA_PAIRS
from ablation_report.ladder import NAIVE as BASELINE

# One in twenty intervals may miss the median: 95%
CONFIDENCE_ODDS = 20
# An interval wider than this part of the median flags its cell
NOISY_WIDTH = 0.05
# The range of fewer rounds covers less than 95%
MIN_ROUNDS = 6
# Nothing runs above the ceiling but for the noise of measuring it
MAX_SHARE_OF_CEILING = 1.05
Cell = Mapping[str, Any]


@dataclass(frozen=True)
class Interval:
    """A median with its 95% interval, in the unit of its n values."""

    median: float
    low: float
    high: float
    n: int

    @property
    def width(self) -> float | None:
        """Width of the interval over the median; None for a single value, which has no interval,
        and for a median of 0."""
        return (self.high - self.low) / self.median if self.n > 1 and self.median else None


def median(values: Sequence[float]) -> float:
    """Return the middle value, or the mean of the two in the middle; ValueError for no values."""
    if not values:
        raise ValueError("median of no values")
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return float(ordered[middle])
    return (ordered[middle - 1] + ordered[middle]) / 2


def sound_ceilings(
    ceilings: Mapping[str, Any] | None, cells: Sequence[Cell]
) -> Mapping[str, Any] | None:
    """Return what a run measured of its machine, or None where its own cells refute it.

    On a shared machine the cores can be those of one for as long as a measurement takes: a rate
    of multiply-adds that the block of a cell exceeds is no ceiling, and what was measured beside
    it is not to be trusted either.
    """
    if ceilings is None:
        return None
    most = MAX_SHARE_OF_CEILING * ceilings["multiply_add_flops_per_s"]
    times = ((cell, list(rounds_ns(cell).values())) for cell in cells)
    rates = (cell["flops"] / (median(ns) * 1e-9) for cell, ns in times if ns)
    return None if any(rate > most for rate in rates) else ceilings


@lru_cache
def interval_rank(n: int) -> int:
    """Return how many of n sorted values lie outside the 95% interval of their median, each side.

    Of n independent values, at most r lie below the median with the probability of at most r heads
    in n throws, so that [x_(r+1), x_(n-r)] misses it with twice that; r is the largest for which
    this is at most 5%. Below six values the whole range covers less than 95% and is taken.

    In whole numbers: 20 * 2 sum(C(n, i), i <= r) <= 2^n. The sum is taken from the middle
    downwards, where it is half of 2^n, in about sqrt(n) steps.
    """
    rank = (n - 1) // 2
    term = math.comb(n, rank)
    below = (2**n - (math.comb(n, n // 2) if n % 2 == 0 else 0)) // 2
    while rank > 0 and CONFIDENCE_ODDS * 2 * below > 2**n:
        below -= term
        # C(n, r - 1) = C(n, r) r / (n - r + 1)
        term = term * rank // (n - rank + 1)
        rank -= 1
    return rank


def median_interval(values: Sequence[float]) -> Interval:
    """Return the median and its 95% interval by order statistics, see `interval_rank`.

    ValueError for no values.
    """
    ordered = sorted(values)
    n = len(ordered)
    middle = median(ordered)
    rank = interval_rank(n)
    return Interval(middle, float(ordered[rank]), float(ordered[n - 1 - rank]), n)


def rounds_ns(cell: Cell) -> dict[int, float]:
    """Return a cell's median nanoseconds by round; empty without samples.

    The samples of a round follow each other closely, so the rounds are what is independent. A
    published time counts as one round.
    """
    by_round: dict[int, list[int]] = {}
    samples = cell["samples_ns"] or []
    for sample, index in zip(samples, cell["sample_rounds"] or [0] * len(samples), strict=True):
        by_round.setdefault(index, []).append(sample)
    return {index: median(values) for index, values in by_round.items()}


def paired_ratio(cell: Cell, base: Cell | None) -> Interval | None:
    """Return the median ratio of two cells' times over the rounds both ran in, with its interval.

    None when either has no time, or no round is common; sessions of a resumed run have none.
    """
    if base is None or cell["session"] != base["session"]:
        return None
    return rounds_ratio(cell, base)


def rounds_ratio(cell: Cell, base: Cell) -> Interval | None:
    """Return the median ratio of two rows' times over their common rounds, with its interval.

    None without a common round; one in which the base took no time gives no ratio. The rows must
    be of one case and session.
    """
    times, base_times = rounds_ns(cell), rounds_ns(base)
    common = [index for index in times.keys() & base_times.keys() if base_times[index]]
    ratios = [times[index] / base_times[index] for index in common]
    return median_interval(ratios) if ratios else None


def aa_ratios(cells: Sequence[Cell]) -> dict[str, Interval]:
    """Return the paired ratio of each A/A pair of a config, first over second, by the first.

    A pair is left out when it has fewer than two common rounds, which say nothing of noise.
    """
    by_variant = {cell["variant"]: cell for cell in cells}
    ratios = {
        first: paired_ratio(by_variant[first], by_variant[second])
        for first, second in AA_PAIRS
        if first in by_variant and second in by_variant
    }
    return {name: ratio for name, ratio in ratios.items() if ratio is not None and ratio.n > 1}


def noise_floor(cells: Sequence[Cell]) -> float | None:
    """Return the part by which two times of a config must differ to be called different.

    For a pair, the larger of its ratio's distance from 1 and half the width of its interval; of the
    pairs the larger. None when no pair was measured.
    """
    floors = [
        max(abs(ratio.median - 1), (ratio.high - ratio.low) / 2)
        for ratio in aa_ratios(cells).values()
    ]
    return max(floors, default=None)


Verdict = Literal["faster", "slower", "same", "not resolved"]


def verdict(ratio: Interval | None, floor: float | None) -> Verdict:
    """Say "faster", "slower", "same" or "not resolved" of a paired ratio of times.

    A difference counts when the whole interval lies on one side of 1 and the median is further from
    1 than the floor; the times are the same when the whole interval is within the floor of 1.
    Fewer than MIN_ROUNDS rounds resolve nothing.
    """
    if ratio is not None and floor is not None and ratio.n >= MIN_ROUNDS:
        if ratio.high < 1 and 1 - ratio.median > floor:
            return "faster"
        if ratio.low > 1 and ratio.median - 1 > floor:
            return "slower"
        if 1 - floor <= ratio.low and ratio.high <= 1 + floor:
            return "same"
    return "not resolved"


def is_different(said: Verdict) -> bool:
    """True for "faster" and "slower"."""
    return said in ("faster", "slower")


@dataclass(frozen=True)
class Agreement:
    """Of the pairs that one run calls faster or slower, those another run has in the same order.

    `contradicted` are those that the other run calls the opposite, beyond its own floor.
    """

    said: int
    same: int
    contradicted: Sequence[tuple[str, str, str]]


def order_agreement(first: Sequence[Cell], second: Sequence[Cell]) -> Agreement:
    """Compare what two runs say of every pair of variants of a config, by the first's verdicts.

    A pair counts when both runs have both variants; `contradicted` names config and variants.
    """
    said = same = 0
    contradicted = []
    for config in dict.fromkeys(cell["config"] for cell in first):
        mine, theirs = (
            [cell for cell in run if cell["config"] == config] for run in (first, second)
        )
        floors = noise_floor(mine), noise_floor(theirs)
        others = {cell["variant"]: cell for cell in theirs}
        for a, b in itertools.combinations(mine, 2):
            ratio, other_a = paired_ratio(a, b), others.get(a["variant"])
            other = other_a and paired_ratio(other_a, others.get(b["variant"]))
            claim = verdict(ratio, floors[0])
            if ratio is None or not other or not is_different(claim):
                continue
            said += 1
            same += (ratio.median < 1) == (other.median < 1)
            opposite = "slower" if claim == "faster" else "faster"
            if verdict(other, floors[1]) == opposite:
                contradicted.append((config, a["variant"], b["variant"]))
    return Agreement(said, same, contradicted)


# Every column after the identity is null where the cell has no time.
MEASURES: dict[str, pl.DataType | type[pl.DataType]] = {
    "config": pl.String,
    "variant": pl.String,
    "status": pl.String,
    "n": pl.Int64,
    "total_ns": pl.Float64,
    "total_low_ns": pl.Float64,
    "total_high_ns": pl.Float64,
    "min_ns": pl.Int64,
    "half_width": pl.Float64,
    "is_noisy": pl.Boolean,
    "attention_ns": pl.Float64,
    "layer_norm_ns": pl.Float64,
    "other_ns": pl.Float64,
    "attention_share": pl.Float64,
    "layer_norm_share": pl.Float64,
    "profile_over_total": pl.Float64,
    "gflops": pl.Float64,
    "vs_baseline": pl.Float64,
    "vs_baseline_low": pl.Float64,
    "vs_baseline_high": pl.Float64,
    "verdict_vs_baseline": pl.String,
    "vs_parent": pl.Float64,
    "verdict_vs_parent": pl.String,
}


def measure(cells: Sequence[Cell]) -> pl.DataFrame:
    """Return the measures of the cells of one run and config, a row for each, in their order.

    Args:
        cells: rows of the loader's frame as dictionaries.

    Returns:
        The columns of `MEASURES`. Times are nanoseconds, medians over rounds or profiled calls;
        shares are of the profiled total; ratios are paired by round.
    """
    by_variant = {cell["variant"]: cell for cell in cells}
    floor = noise_floor(cells)
    rows = [
        {name: cell[name] for name in ("config", "variant", "status")}
        | _total(cell)
        | _profile(cell)
        | _ratios(cell, by_variant, floor)
        for cell in cells
    ]
    return pl.DataFrame(rows, schema=MEASURES, orient="row")


def _total(cell: Cell) -> dict[str, Any]:
    times = list(rounds_ns(cell).values())
    if not times:
        return {}
    interval = median_interval(times)
    return {
        "n": len(cell["samples_ns"]),
        "total_ns": interval.median,
        "total_low_ns": interval.low,
        "total_high_ns": interval.high,
        "min_ns": min(cell["samples_ns"]),
        "half_width": None if interval.width is None else interval.width / 2,
        "is_noisy": None if interval.width is None else interval.width > NOISY_WIDTH,
        "gflops": cell["flops"] / interval.median,
    }


def _profile(cell: Cell) -> dict[str, Any]:
    totals, attention = cell["profile_total_ns"], cell["profile_attention_ns"]
    layer_norm = cell["profile_layer_norm_ns"]
    if not totals:
        return {}
    calls = list(zip(totals, attention, layer_norm, strict=True))
    wall = median(list(rounds_ns(cell).values()))
    total = median(totals)
    return {
        "attention_ns": median(attention),
        "layer_norm_ns": median(layer_norm),
        "other_ns": median([call - a - n for call, a, n in calls]),
        "attention_share": median(attention) / total,
        "layer_norm_share": median(layer_norm) / total,
        "profile_over_total": total / wall,
    }


def _ratios(cell: Cell, by_variant: Mapping[str, Cell], floor: float | None) -> dict[str, Any]:
    versus = paired_ratio(cell, by_variant.get(BASELINE))
    parent = paired_ratio(cell, by_variant.get(cell["parent"]))
    found: dict[str, Any] = {}
    if versus:
        found = {
            "vs_baseline": versus.median,
            "vs_baseline_low": versus.low,
            "vs_baseline_high": versus.high,
            "verdict_vs_baseline": verdict(versus, floor),
        }
    if parent:
        found |= {"vs_parent": parent.median, "verdict_vs_parent": verdict(parent, floor)}
    return found
