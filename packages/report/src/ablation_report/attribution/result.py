"""What attribution gives: the worth of each factor of a case, whatever the order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ablation_report.attribution.lattice import Point
from ablation_report.run import Row
from ablation_report.stats import Interval

__all__ = ["Attribution", "Point", "Step", "Worth"]


@dataclass(frozen=True)
class Step:
    """One level of a factor above the one before it.

    `phi` is ln(time before / time after), the mean over all orders; `lowest` and `highest` are the
    smallest and the largest of these logarithms at any point where the step can be taken, `first`
    and `last` those of the earliest and the latest such point; None where not all was measured.
    """

    level: str
    phi: float
    first: float | None
    last: float | None
    lowest: float
    highest: float


@dataclass(frozen=True)
class Worth:
    """What a factor is worth in a case.

    Logarithms of time without over time with, so that they add up and above 0 is faster: `phi` the
    mean over all orders with its interval, which is simultaneous over the factors of the case;
    `first` and `last` where the factor is switched on as early and as late as it can be; `lowest`
    and `highest` over all orders; `main` the mean over all points of equal weight.
    `ns` is phi as nanoseconds of a call, which sum over the factors to base minus top.
    `sampling_error` is the standard error of phi by orders that were not measured, 0 where all
    were; the intervals have room for it. `n` of an interval counts the rounds that all programs ran
    in, 1 where there are none. `verdict` is "worth", "costs", "not resolved".
    """

    name: str
    printed_name: str
    what: str
    phi: Interval
    ns: Interval
    first: float | None
    last: float | None
    lowest: float
    highest: float
    main: float | None
    sampling_error: float
    verdict: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Attribution:
    """A case taken apart: worths in the order of the header's factors.

    `base` and `top` are the rows of the lowest and the highest point, `base_ns` and `top_ns` their
    times, `total` ln(base / top) with its interval: the sum of all phi is its value. `pairs` has
    the interaction of two factors by their names, in the order of the factors: positive where both
    together are worth more than each alone; `higher` the sum of all interactions of more than two;
    both are empty and None where not every point was measured. `no_effect` are the printed names of
    factors that change no program of the case. `programs` are the rows with the lowest point that
    each is.
    """

    case: str
    phase: str
    base: Row
    top: Row
    base_ns: float
    top_ns: float
    total: Interval
    floor: float | None
    worths: tuple[Worth, ...]
    pairs: Mapping[tuple[str, str], float]
    higher: float | None
    no_effect: tuple[str, ...]
    programs: tuple[tuple[Row, Point], ...]
    n_points: int
    n_orders: int | None
    is_complete: bool
