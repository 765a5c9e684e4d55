"""The programs of a case as points of a lattice: which row each point is, and what may be computed
of those that have a figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablation_report.attribution.engine import Weights, order_weights, path_weights
from ablation_report.attribution.lattice import Lattice, Order, Point
from ablation_report.fields import show
from ablation_report.run import Row, Run, detail

# Two antithetic pairs: fewer say nothing of the error of sampling.
LEAST_ORDERS = 3
MOST_NAMED = 3


class UnansweredError(ValueError):
    """A case of which nothing can be attributed; says why."""


@dataclass(frozen=True)
class CasePoints:
    """The points of a case and phase with their rows; points of one program share a row.

    `lattice` has every feasible point, whatever the status of its row. `orders` are those that were
    sampled, None where all points were to be measured. `factors` are the header's.
    """

    case: str
    phase: str
    factors: Sequence[Mapping[str, Any]]
    rows: Mapping[Point, Row]
    lattice: Lattice
    orders: tuple[Order, ...] | None

    @property
    def base(self) -> Row:
        """The row of the lowest point."""
        return self.rows[self.lattice.points[self.lattice.base]]

    @property
    def top(self) -> Row:
        """The row of the highest point."""
        return self.rows[self.lattice.points[self.lattice.top]]

    @property
    def programs(self) -> tuple[tuple[Row, Point], ...]:
        """The rows with the lowest point of each, lowest first."""
        found: dict[str, tuple[Row, Point]] = {}
        for point in self.lattice.points:
            row = self.rows[point]
            found.setdefault(row["variant"], (row, point))
        return tuple(found.values())

    @property
    def has_effect(self) -> list[bool]:
        """Whether some step of each factor leads from one program to another."""
        found = [False] * len(self.factors)
        points = self.lattice.points
        for lower, upper, step in self.lattice.edges:
            if self.rows[points[lower]] is not self.rows[points[upper]]:
                found[self.lattice.steps[step].factor] = True
        return found


@dataclass(frozen=True)
class Usable:
    """The points of a case that have a figure, and the orders that stay among them."""

    lattice: Lattice
    weights: Weights
    orders: tuple[Order, ...] | None
    is_complete: bool


def places_of(run: Run) -> list[tuple[str, str]]:
    """Return the cases and phases that have points, in order."""
    if not run.header.get("factors"):
        return []
    found = {
        (case, row["phase"]): None
        for case, rows in run.by_case.items()
        for row in rows
        if detail(row, "points")
    }
    return list(found)


def read_points(run: Run, case: str, phase: str) -> CasePoints:
    """Read the points of a case.

    Raises:
        UnansweredError: it has none, one stands twice or is no point of the header's factors, or
            they are no lattice.
    """
    factors = run.header.get("factors") or []
    levels = [len(factor["levels"]) for factor in factors]
    rows: dict[Point, Row] = {}
    orders: tuple[Order, ...] | None = None
    for row in run.by_case.get(case, ()):
        for text in (row["phase"] == phase and detail(row, "points")) or ():
            point = _digits(text, levels)
            if point is None or len(point) != len(levels):
                raise UnansweredError(
                    f"{row['variant']}: {show(text)} is no point of {len(levels)} factors"
                )
            if point in rows:
                raise UnansweredError(
                    f"{text} is the point of {rows[point]['variant']} and {row['variant']}"
                )
            rows[point] = row
            orders = _orders(row, len(levels)) or orders
    if not rows:
        raise UnansweredError("no program of this case is a point of factors")
    try:
        return CasePoints(case, phase, factors, rows, Lattice(rows), orders)
    except ValueError as error:
        raise UnansweredError(str(error)) from None


def _digits(text: str, below: Sequence[int]) -> Point | None:
    """Read digits, each below a limit, those from ten on as letters; None for anything else."""
    if not (text.isascii() and text.isalnum() and text == text.lower()):
        return None
    digits = tuple(int(digit, 36) for digit in text)
    return digits if all(d < b for d, b in zip(digits, below, strict=False)) else None


def _orders(row: Row, n_factors: int) -> tuple[Order, ...] | None:
    """Return the orders that were sampled; None where the row has none."""
    texts = detail(row, "orders")
    if not texts:
        return None
    orders = [_digits(text, [n_factors] * len(text)) for text in texts]
    if None in orders:
        wrong = texts[orders.index(None)]
        raise UnansweredError(f"{row['variant']}: {show(wrong)} is no order of {n_factors} factors")
    return tuple(order for order in orders if order is not None)


def usable(points: CasePoints, has_figure: Callable[[Row], bool]) -> Usable:
    """Return the lattice of the points whose rows have a figure.

    All orders that stay among them are taken; of sampled orders the antithetic pairs that do.

    Raises:
        UnansweredError: the lowest or the highest point has none, or no order stays among them.
    """
    for row in (points.base, points.top):
        if not has_figure(row):
            raise UnansweredError(f"{row['variant']}: {_status(row)}")
    found = {point for point, row in points.rows.items() if has_figure(row)}
    is_complete = len(found) == len(points.rows)
    try:
        lattice = points.lattice if is_complete else Lattice(found)
    except ValueError:
        raise UnansweredError(f"no order avoids {_lacking(points, has_figure)}") from None
    if points.orders is None:
        return Usable(lattice, path_weights(lattice), None, is_complete)
    try:
        for order in points.orders:
            points.lattice.edges_along(order)
    except ValueError as error:
        raise UnansweredError(str(error)) from None
    orders = [order for pair in _pairs(points.orders) for order in pair if _stay(lattice, pair)]
    if len(orders) < LEAST_ORDERS:
        available = f"{len(points.orders)} sampled orders"
        if len(orders) < len(points.orders):
            available = f"{len(orders)} of {available} avoid {_lacking(points, has_figure)}"
        raise UnansweredError(f"{available}, expected {LEAST_ORDERS} or more")
    return Usable(lattice, order_weights(lattice, orders), tuple(orders), False)


def _pairs(orders: Sequence[Order]) -> list[Sequence[Order]]:
    return [orders[start : start + 2] for start in range(0, len(orders), 2)]


def _stay(lattice: Lattice, orders: Sequence[Order]) -> bool:
    try:
        return bool(order_weights(lattice, orders).total)
    except ValueError:
        return False


def _lacking(points: CasePoints, has_figure: Callable[[Row], bool]) -> str:
    """Name the programs without a figure, and why."""
    rows = [row for row, _ in points.programs if not has_figure(row)]
    named = ", ".join(f"{row['variant']} ({_status(row)})" for row in rows[:MOST_NAMED])
    if not rows:
        return "programs that were not measured"
    more = f" and {len(rows) - MOST_NAMED} more" if len(rows) > MOST_NAMED else ""
    return f"{named}{more}"


def _status(row: Row) -> str:
    if row["status"] == "ok":
        return "no figure"
    return f"{row['status']}, {row['reason']}" if row["reason"] else str(row["status"])
