"""What each factor contributes to a set function over the feasible points of a product of chains.

The set function v has a value for each point: ln(T(base) / T(point)) of times, a whole number of a
counter. Every figure is linear in v. Standard library only.

- Contribution phi: a factor's marginal, the mean over all orders that stay in the feasible set. A
  step from p to q has the weight paths(base to p) * paths(q to top) / paths(base to top), so that
  phi = sum of weight * (v(q) - v(p)) over its edges; the phi of all factors sum to
  v(top) - v(base). Without prerequisites and with two levels each it is the value of Shapley
  (1953), A value for n-person games; with prerequisites that of Faigle and Kern (1992), The Shapley
  value for cooperative games under precedence constraints; with several levels that of van den
  Nouweland et al. (1995), Cores and related solution concepts for multi-choice games.
- Moebius terms m: v(p) - v(base) = sum of m(q) over the q from base up to p, base left out (Rota
  1964, On the foundations of combinatorial theory I). Points are sets of steps, closed under what
  the steps need (Birkhoff 1937, Rings of sets); a term belongs to the last steps of its point,
  those that can be taken back: one is a factor where it is switched on as early as it can be, two
  the interaction of a pair, more are of higher order.
- Main effect: the mean marginal of a step over its edges, all of one weight, summed over steps.
- First-in and last-in: the marginal of a step at its earliest and latest point, summed over steps.
- Range: the smallest and the largest contribution over all orders, by shortest and longest paths.
- Logarithms into time: L * phi with the logarithmic mean L = (T0 - T1) / ln(T0 / T1) sums to
  T0 - T1 (Vartia 1976, Ideal log-change index numbers; Ang and Liu 2001, A new energy
  decomposition method: perfect in decomposition and consistent in aggregation).
- Sampled orders: the mean over orders that were drawn, with its standard error over their pairs.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TypeVar

from ablation_report.attribution.lattice import Edge, Lattice, Order, sample_orders

__all__ = [
    "Interactions",
    "Lattice",
    "Order",
    "Weights",
    "by_factor",
    "contexts",
    "exact_phi",
    "interactions",
    "log_mean",
    "main_effects",
    "marginals",
    "moebius",
    "order_weights",
    "path_weights",
    "phi",
    "ranges",
    "sample_orders",
    "sampling_errors",
]

Number = TypeVar("Number", int, float, Fraction)


@dataclass(frozen=True)
class Weights:
    """How many orders, of how many, take each edge of a lattice."""

    counts: tuple[int, ...]
    total: int

    @cached_property
    def shares(self) -> tuple[float, ...]:
        """The share of the orders that take each edge."""
        return tuple(count / self.total for count in self.counts)


def path_weights(lattice: Lattice) -> Weights:
    """Return the weights of all orders."""
    return Weights(lattice.paths_through, lattice.n_paths)


def order_weights(lattice: Lattice, orders: Sequence[Order]) -> Weights:
    """Return the weights of these orders; ValueError for none, and for one that is no order."""
    if not orders:
        raise ValueError("orders: none, expected at least one")
    counts = [0] * len(lattice.edges)
    for order in orders:
        for edge in lattice.edges_along(order):
            counts[edge] += 1
    return Weights(tuple(counts), len(orders))


def phi(lattice: Lattice, values: Sequence[float], weights: Weights) -> list[float]:
    """Return the contribution of each step; `values` in the order of the lattice's points."""
    parts: list[list[float]] = [[] for _ in lattice.steps]
    for edge, share in zip(lattice.edges, weights.shares, strict=True):
        if share:
            parts[edge.step].append(share * (values[edge.upper] - values[edge.lower]))
    return [math.fsum(part) for part in parts]


def exact_phi(lattice: Lattice, values: Sequence[int], weights: Weights) -> list[Fraction]:
    """Return the contribution of each step to whole numbers, without rounding."""
    sums = [0] * len(lattice.steps)
    for edge, count in zip(lattice.edges, weights.counts, strict=True):
        sums[edge.step] += count * (values[edge.upper] - values[edge.lower])
    return [Fraction(each, weights.total) for each in sums]


def by_factor(lattice: Lattice, of_steps: Sequence[Number]) -> list[Number]:
    """Sum figures of steps over the steps of each factor."""
    sums: list[Number] = [of_steps[0] - of_steps[0]] * lattice.n_factors if of_steps else []
    for step, value in zip(lattice.steps, of_steps, strict=True):
        sums[step.factor] += value
    return sums


def marginals(lattice: Lattice, values: Sequence[Number], step: int) -> list[Number]:
    """Return what a step adds at each of its edges that some order takes."""
    return [values[edge.upper] - values[edge.lower] for edge in lattice.edges_of(step)]


def main_effects(lattice: Lattice, values: Sequence[float]) -> list[float]:
    """Return the mean marginal of each step over its edges, all of one weight."""
    return [statistics.fmean(marginals(lattice, values, s)) for s in range(len(lattice.steps))]


def contexts(lattice: Lattice) -> list[tuple[Edge | None, Edge | None]]:
    """Return the earliest and the latest edge of each step: that at the point which lies below,
    or above, all others of the step; None where there is no such point."""
    found = []
    for step in range(len(lattice.steps)):
        edges = lattice.edges_of(step)
        points = [lattice.points[edge.lower] for edge in edges]
        levels = list(zip(*points, strict=True))
        ends = [tuple(map(least_or_most, levels)) for least_or_most in (min, max)]
        at = dict(zip(points, edges, strict=True))
        found.append((at.get(ends[0]), at.get(ends[1])))
    return found


def ranges(lattice: Lattice, values: Sequence[float]) -> list[tuple[float, float]]:
    """Return the smallest and the largest contribution of each factor over all orders."""
    found = []
    for factor in range(lattice.n_factors):
        lows = [math.inf] * len(lattice.points)
        highs = [-math.inf] * len(lattice.points)
        lows[lattice.base] = highs[lattice.base] = 0.0
        for lower, upper, step in lattice.edges:
            is_own = lattice.steps[step].factor == factor
            marginal = values[upper] - values[lower] if is_own else 0.0
            lows[upper] = min(lows[upper], lows[lower] + marginal)
            highs[upper] = max(highs[upper], highs[lower] + marginal)
        found.append((lows[lattice.top], highs[lattice.top]))
    return found


def moebius(lattice: Lattice, values: Sequence[Number]) -> list[Number]:
    """Return the Moebius term of each point; that of the lowest is its value."""
    # A point as the set of steps below it: one lies below another if it has no bit that it lacks
    sets = [
        sum(1 << n for n, step in enumerate(lattice.steps) if point[step.factor] >= step.level)
        for point in lattice.points
    ]
    terms: list[Number] = []
    for index, steps in enumerate(sets):
        term = values[index]
        outside = ~steps
        for below, other in zip(sets[:index], terms, strict=True):
            if not below & outside:
                term -= other
        terms.append(term)
    return terms


@dataclass(frozen=True)
class Interactions:
    """The Moebius terms by the factors of their last steps, by index: they sum to
    v(top) - v(base)."""

    main: dict[int, float]
    pairs: dict[tuple[int, int], float]
    higher: float


def interactions(lattice: Lattice, values: Sequence[float]) -> Interactions:
    """Sum the Moebius terms by the factors of their last steps."""
    last: list[list[int]] = [[] for _ in lattice.points]
    for _, upper, step in lattice.edges:
        last[upper].append(lattice.steps[step].factor)
    groups: dict[tuple[int, ...], list[float]] = {}
    for index, term in enumerate(moebius(lattice, values)):
        if index != lattice.base:
            groups.setdefault(tuple(sorted(last[index])), []).append(term)
    sums = {factors: math.fsum(terms) for factors, terms in groups.items()}
    return Interactions(
        {f[0]: value for f, value in sorted(sums.items()) if len(f) == 1},
        {(f[0], f[1]): value for f, value in sorted(sums.items()) if len(f) == 2},
        math.fsum(value for factors, value in sums.items() if len(factors) not in (1, 2)),
    )


def sampling_errors(
    lattice: Lattice, values: Sequence[float], orders: Sequence[Order]
) -> list[float] | None:
    """Return the standard error of each factor's mean over sampled orders.

    Orders that follow each other are an antithetic pair, and count as one draw: the error is the
    standard deviation of the pairs' means over the square root of their number. None below two
    pairs.
    """
    pairs = [orders[start : start + 2] for start in range(0, len(orders), 2)]
    if len(pairs) < 2:
        return None
    means = [by_factor(lattice, phi(lattice, values, order_weights(lattice, p))) for p in pairs]
    return [statistics.stdev(mean) / math.sqrt(len(pairs)) for mean in zip(*means, strict=True)]


def log_mean(first: float, second: float) -> float:
    """Return (first - second) / ln(first / second) of two times above 0; of equal ones the time."""
    part = (first - second) / second
    return second * part / math.log1p(part) if part else second
