"""The engine of attribution against enumeration of every order, and against theory."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction

import pytest

from ablation_report.attribution.engine import (
    Lattice,
    by_factor,
    contexts,
    exact_phi,
    interactions,
    log_mean,
    main_effects,
    marginals,
    moebius,
    order_weights,
    path_weights,
    phi,
    ranges,
    sample_orders,
    sampling_errors,
)
from ablation_report.attribution.lattice import Order, Point

CLOSE = 1e-12


def random_points(generator: random.Random) -> list[Point]:
    """A product of up to four chains, cut by random prerequisites between steps."""
    levels = [generator.randint(1, 3) for _ in range(generator.randint(1, 4))]
    steps = [(f, level) for f, most in enumerate(levels) for level in range(1, most + 1)]
    rank = {step: generator.random() for step in steps}
    for factor, most in enumerate(levels):
        # Lower levels first, so that what a step needs can never need the step
        ordered = sorted(rank[factor, level] for level in range(1, most + 1))
        rank |= {(factor, level): ordered[level - 1] for level in range(1, most + 1)}
    needs = [
        (step, other)
        for step in steps
        for other in steps
        if rank[other] < rank[step] and step[0] != other[0] and generator.random() < 0.2
    ]
    return [
        point
        for point in itertools.product(*(range(most + 1) for most in levels))
        if all(point[other[0]] >= other[1] for step, other in needs if point[step[0]] >= step[1])
    ]


def all_orders(points: list[Point]) -> list[Order]:
    """Every order from the lowest to the highest point that stays among the points."""
    known = set(points)
    top = max(points, key=sum)

    def walk(at: Point) -> Iterator[Order]:
        if at == top:
            yield ()
        for factor in range(len(at)):
            above = (*at[:factor], at[factor] + 1, *at[factor + 1 :])
            if above in known:
                for rest in walk(above):
                    yield (factor, *rest)

    return list(walk(min(points, key=sum)))


def contributions(order: Order, value: dict[Point, Fraction], base: Point) -> list[Fraction]:
    """What each factor adds along an order."""
    found = [Fraction(0)] * len(base)
    at = base
    for factor in order:
        above = (*at[:factor], at[factor] + 1, *at[factor + 1 :])
        found[factor] += value[above] - value[at]
        at = above
    return found


def cases() -> Iterator[tuple[list[Point], dict[Point, Fraction]]]:
    """200 random set functions with random prerequisites that have at most 500 orders."""
    generator = random.Random(18)
    found = 0
    while found < 200:
        points = random_points(generator)
        if len(points) > 1 and Lattice(points).n_paths <= 500:
            found += 1
            yield points, {point: Fraction(generator.uniform(-1, 1)) for point in points}


def test_every_figure_is_that_of_all_orders() -> None:
    n_restricted = 0
    for points, value in cases():
        lattice = Lattice(points)
        orders = all_orders(points)
        assert lattice.n_paths == len(orders)
        base = lattice.points[lattice.base]
        each = [contributions(order, value, base) for order in orders]
        values = [float(value[point]) for point in lattice.points]
        found = by_factor(lattice, phi(lattice, values, path_weights(lattice)))
        for factor, of_orders in enumerate(zip(*each, strict=True)):
            mean = sum(of_orders) / len(orders)
            assert found[factor] == pytest.approx(float(mean), abs=CLOSE)
            low, high = ranges(lattice, values)[factor]
            assert low == pytest.approx(float(min(of_orders)), abs=CLOSE)
            assert high == pytest.approx(float(max(of_orders)), abs=CLOSE)
        assert math.fsum(found) == pytest.approx(
            values[lattice.top] - values[lattice.base], abs=CLOSE
        )
        n_restricted += len(points) < math.prod(
            max(p[i] for p in points) + 1 for i in range(len(base))
        )
    assert n_restricted > 50


def test_terms_sum_to_every_value() -> None:
    for points, value in cases():
        lattice = Lattice(points)
        terms = moebius(lattice, [value[point] for point in lattice.points])
        for point in points:
            below = [
                term
                for other, term in zip(lattice.points, terms, strict=True)
                if all(a <= b for a, b in zip(other, point, strict=True))
            ]
            assert sum(below) == value[point]
        found = interactions(lattice, [float(value[point]) for point in lattice.points])
        sums = [*found.main.values(), *found.pairs.values(), found.higher]
        total = float(value[lattice.points[lattice.top]] - value[lattice.points[lattice.base]])
        assert math.fsum(sums) == pytest.approx(total, abs=CLOSE)


def test_terms_of_factors_are_their_first_ins() -> None:
    for points, value in cases():
        lattice = Lattice(points)
        values = [float(value[point]) for point in lattice.points]
        firsts = [0.0] * lattice.n_factors
        for step, (earliest, latest) in zip(lattice.steps, contexts(lattice), strict=True):
            assert earliest is not None and latest is not None
            firsts[step.factor] += values[earliest.upper] - values[earliest.lower]
            for edge in lattice.edges_of(lattice.steps.index(step)):
                point = lattice.points[edge.lower]
                ends = lattice.points[earliest.lower], lattice.points[latest.lower]
                assert all(a <= b <= c for a, b, c in zip(ends[0], point, ends[1], strict=True))
        found = interactions(lattice, values).main
        assert [found[f] for f in sorted(found)] == pytest.approx(firsts, abs=CLOSE)


def test_whole_numbers_stay_exact() -> None:
    generator = random.Random(5)
    for points, _ in cases():
        lattice = Lattice(points)
        values = [generator.randrange(-(10**15), 10**15) for _ in lattice.points]
        found = by_factor(lattice, exact_phi(lattice, values, path_weights(lattice)))
        assert sum(found) == values[lattice.top] - values[lattice.base]
        table = {p: Fraction(v) for p, v in zip(lattice.points, values, strict=True)}
        orders = all_orders(points)
        each = [contributions(order, table, lattice.points[lattice.base]) for order in orders]
        assert found == [sum(f) / len(orders) for f in zip(*each, strict=True)]


def cube(n: int, value: Callable[[Point], float]) -> tuple[Lattice, list[float]]:
    """All points of n factors of two levels."""
    lattice = Lattice(itertools.product((0, 1), repeat=n))
    return lattice, [value(point) for point in lattice.points]


def test_additive_factors_are_worth_the_same_in_any_order() -> None:
    worths = [0.25, -0.5, 1.0, 0.0]
    lattice, values = cube(4, lambda p: sum(w * on for w, on in zip(worths, p, strict=True)))
    assert phi(lattice, values, path_weights(lattice)) == worths
    assert ranges(lattice, values) == [(w, w) for w in worths]
    assert main_effects(lattice, values) == worths
    found = interactions(lattice, values)
    assert [*found.main.values()] == worths
    assert set(found.pairs.values()) == {0.0} and found.higher == 0


def test_a_pair_shares_what_it_buys_together() -> None:
    lattice, values = cube(3, lambda p: float(p[0] and p[2]))
    assert phi(lattice, values, path_weights(lattice)) == pytest.approx([0.5, 0, 0.5], abs=CLOSE)
    found = interactions(lattice, values)
    assert found.pairs == {(0, 1): 0, (0, 2): 1, (1, 2): 0}
    assert found.higher == 0 and set(found.main.values()) == {0}
    assert ranges(lattice, values) == [(0, 1), (0, 0), (0, 1)]


def test_a_triple_is_of_higher_order() -> None:
    lattice, values = cube(3, lambda p: float(all(p)))
    assert phi(lattice, values, path_weights(lattice)) == pytest.approx([1 / 3] * 3, abs=CLOSE)
    found = interactions(lattice, values)
    assert set(found.pairs.values()) == {0} and found.higher == 1
    assert main_effects(lattice, values) == pytest.approx([0.25] * 3)


def test_two_that_buy_the_same_share_it_and_a_null_factor_has_nothing() -> None:
    lattice, values = cube(3, lambda p: float(p[0] or p[1]))
    assert phi(lattice, values, path_weights(lattice)) == pytest.approx([0.5, 0.5, 0], abs=CLOSE)
    assert interactions(lattice, values).pairs[0, 1] == -1


def test_what_a_factor_needs_takes_part_of_its_worth() -> None:
    # 1 needs 0, and only 1 saves anything: there is one order, in which all is its own
    lattice = Lattice([(0, 0), (1, 0), (1, 1)])
    assert phi(lattice, [0, 0, 1], path_weights(lattice)) == [0, 1]
    # Levels of a chain are steps of one factor
    chain = Lattice([(0,), (1,), (2,)])
    assert by_factor(chain, phi(chain, [0, 1, 5], path_weights(chain))) == [5]
    assert marginals(chain, [0, 1, 5], 1) == [4]


def test_ranks_are_all_orders() -> None:
    for points, _ in itertools.islice(cases(), 60):
        lattice = Lattice(points)
        found = [lattice.order_of(rank) for rank in range(lattice.n_paths)]
        assert found == sorted(all_orders(points))
    with pytest.raises(ValueError, match=f"rank: {lattice.n_paths}, expected 0 to"):
        lattice.order_of(lattice.n_paths)


def test_sampled_orders_are_uniform_and_those_of_a_seed() -> None:
    points: list[Point] = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (1, 0, 1), (1, 1, 1)]
    drawn = sample_orders(points, 6000, seed=3)
    counts = Counter(drawn)
    assert sorted(counts) == sorted(all_orders(points))
    # Three orders: 2,000 each, with a standard deviation of at most sqrt(2) times 37
    assert all(abs(count - 2000) < 250 for count in counts.values())
    assert drawn[:9] == sample_orders(points, 9, seed=3)
    assert drawn != sample_orders(points, 6000, seed=4)
    with pytest.raises(ValueError, match="count: 0, expected 1 or more"):
        sample_orders(points, 0, seed=1)


def test_a_pair_has_ranks_from_both_ends() -> None:
    lattice = Lattice(itertools.product((0, 1), repeat=4))
    ranks = {lattice.order_of(rank): rank for rank in range(lattice.n_paths)}
    drawn = sample_orders(lattice.points, 40, seed=1)
    assert {ranks[a] + ranks[b] for a, b in zip(drawn[::2], drawn[1::2], strict=True)} == {23}


def test_mean_of_sampled_orders_is_within_its_error() -> None:
    generator = random.Random(7)
    lattice, values = cube(6, lambda p: generator.uniform(0, 1) * sum(p))
    exact = phi(lattice, values, path_weights(lattice))
    misses = []
    for seed in range(200):
        orders = sample_orders(lattice.points, 40, seed)
        found = phi(lattice, values, order_weights(lattice, orders))
        errors = sampling_errors(lattice, values, orders)
        assert errors is not None
        misses += [(f - e) / s for f, e, s in zip(found, exact, errors, strict=True)]
    assert statistics.fmean(misses) == pytest.approx(0, abs=0.15)
    assert statistics.stdev(misses) == pytest.approx(1, abs=0.2)
    assert sampling_errors(lattice, values, orders[:2]) is None
    assert math.fsum(found) == pytest.approx(values[-1] - values[0], abs=CLOSE)


def test_log_mean_turns_logarithms_into_time() -> None:
    assert log_mean(20.0, 10.0) == pytest.approx(10 / math.log(2), rel=CLOSE)
    assert log_mean(10.0, 20.0) == pytest.approx(10 / math.log(2), rel=CLOSE)
    assert log_mean(10.0, 10.0) == 10
    assert log_mean(10 * (1 + 1e-13), 10.0) == pytest.approx(10, rel=CLOSE)


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ([], "points: none"),
        ([(0,), (0, 1)], "points: of different numbers"),
        ([(0, 1), (1, 0), (1, 1)], r"without the lowest one, \(0, 0\)"),
        ([(0, 0), (1, 0), (0, 1)], r"without the highest one, \(1, 1\)"),
        ([(0, 0), (1, 1)], "points: no order leads"),
    ],
)
def test_points_that_are_no_lattice_are_refused(points: list[Point], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Lattice(points)


@pytest.mark.parametrize(
    ("order", "told"), [((1, 0), "leaves the points after 0"), ((0,), "does not end")]
)
def test_an_order_that_leaves_the_points_is_refused(order: Order, told: str) -> None:
    lattice = Lattice([(0, 0), (1, 0), (1, 1)])
    with pytest.raises(ValueError, match=told):
        order_weights(lattice, [order])
