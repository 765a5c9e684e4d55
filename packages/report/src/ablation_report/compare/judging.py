"""When the quotient of two times that share no round says that something changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ablation_report.stats import MARGIN, Interval, Verdict, is_too_noisy, median


@dataclass(frozen=True)
class Floors:
    """The part by which a ratio must differ from 1 to be called different, and the noise below
    which it may be called the same; None where the noise is not known.

    They are equal on a machine that did not change.
    """

    different: float | None
    same: float | None


def judge(ratio: Interval, floors: Floors, margin: float = MARGIN) -> Verdict:
    """As `stats.verdict`, for a quotient of times that share no round."""
    if floors.different is None or floors.same is None or is_too_noisy(floors.same):
        return "not resolved"
    if ratio.low > 1 + floors.different:
        return "slower"
    if ratio.high < 1 - floors.different:
        return "faster"
    if floors.same < margin and 1 - margin <= ratio.low and ratio.high <= 1 + margin:
        return "same"
    return "not resolved"


def common_change(ratios: Sequence[float]) -> Interval:
    """Return the middle and the ends of the half of the ratios that lies closest together.

    Distances are those of logarithms; of several such halves it is the one nearest to 1. Rows that
    changed by themselves move it only when they are more than half and changed alike, where a
    median moves with each of them (the shorth: D. F. Andrews and others, Robust Estimates of
    Location, 1972).

    Raises:
        ValueError: there is no ratio.
    """
    if not ratios:
        raise ValueError("no ratio has nothing in common")
    ordered = sorted(ratios)
    n_half = (len(ordered) + 1) // 2
    halves = [ordered[i : i + n_half] for i in range(len(ordered) - n_half + 1)]
    best = min(halves, key=lambda h: (round(math.log(h[-1] / h[0]), 9), abs(math.log(median(h)))))
    return Interval(median(best), best[0], best[-1], len(ordered))


def quotient(time: Interval, base: Interval) -> Interval:
    """Return the quotient of two independent times; widths add as logarithms in quadrature."""
    below = math.hypot(math.log(time.value / time.low), math.log(base.high / base.value))
    above = math.hypot(math.log(time.high / time.value), math.log(base.value / base.low))
    ratio = time.value / base.value
    return Interval(ratio, ratio * math.exp(-below), ratio * math.exp(above), min(time.n, base.n))


def over(ratio: Interval, common: float) -> Interval:
    """Return a ratio over what it has in common with others."""
    return Interval(ratio.value / common, ratio.low / common, ratio.high / common, ratio.n)
