"""What the cells of one worker process changed by in common, between two runs.

All cells of a runtime at a config are timed in one process, which a run starts once. How its memory
lies and what it measured of the machine at its start stay as they are until it ends, and may move
all of its cells. An A/A pair cannot see that: both of its cells lie in the same process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ablation_report.metrics import Interval, Verdict, median

# Of fewer cells none can be told from what they all have in common
MIN_CELLS = 5


@dataclass(frozen=True)
class Floors:
    """The part by which a ratio must differ from 1 to be called different, and may to be the same.

    They are equal on a machine that did not change. None where the noise is not known.
    """

    different: float | None
    same: float | None


@dataclass(frozen=True)
class ProcessChange:
    """What the process of a runtime at one config changed by as a whole, second run over first.

    `ratio` is corrected for the machine and has the ends of the half of the cells that agrees best
    instead of an interval; None with fewer than MIN_CELLS.
    """

    config: str
    runtime: str
    n_cells: int
    ratio: Interval | None
    floors: Floors

    @property
    def verdict(self) -> Verdict:
        """Whether the half of the cells that agrees best is slower or faster than the machine."""
        return judge(self.ratio, self.floors) if self.ratio is not None else "not resolved"


def judge(ratio: Interval, floors: Floors) -> Verdict:
    """As `metrics.verdict`, for a quotient that is not paired: the floor adds to its interval."""
    if floors.different is None or floors.same is None:
        return "not resolved"
    if ratio.low > 1 + floors.different:
        return "slower"
    if ratio.high < 1 - floors.different:
        return "faster"
    if abs(ratio.median - 1) <= floors.same and ratio.high / ratio.low - 1 <= 2 * floors.same:
        return "same"
    return "not resolved"


def process_change(
    config: str, runtime: str, ratios: Sequence[float], floors: Floors
) -> ProcessChange:
    """Return what a process changed by, from the ratios of its cells corrected for the machine."""
    common = common_change(ratios) if len(ratios) >= MIN_CELLS else None
    return ProcessChange(config, runtime, len(ratios), common, floors)


def common_change(ratios: Sequence[float]) -> Interval:
    """Return the middle and the ends of the half of the ratios that lies closest together.

    Distances are those of logarithms; of several such halves it is the one nearest to 1. Cells that
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
