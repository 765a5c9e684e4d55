"""The lattice of a case: the factors that vary in it, their points, and the names of programs."""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...case import Case
from .factors import FACTORS, NAMES, Factor, Point, complete

# The size of a case that names the factors that vary; all without it.
SIZE = "factors"
BASE, TOP = "base", "top"
DIGITS = string.digits + string.ascii_lowercase


@dataclass(frozen=True)
class Lattice:
    """The points of some factors, a level of each in their order; the other factors are as high as
    they can be."""

    factors: tuple[Factor, ...]

    @staticmethod
    def of(case: Case) -> Lattice:
        """Return the lattice of a case; ValueError for an unknown factor."""
        named = case.get(SIZE)
        names = NAMES if named is None else tuple(str(named).split(","))
        if unknown := [name for name in names if name not in NAMES]:
            raise ValueError(f"unknown factor {unknown[0]!r}; factors: {', '.join(NAMES)}")
        return Lattice(tuple(factor for factor in FACTORS if factor.name in names))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the factors."""
        return tuple(factor.name for factor in self.factors)

    @property
    def base(self) -> Point:
        """The point with every factor off."""
        return (0,) * len(self.factors)

    @property
    def top(self) -> Point:
        """The point with every factor on."""
        return tuple(len(factor.levels) - 1 for factor in self.factors)

    def complete(self, point: Point) -> Point | None:
        """Return a point with the other factors; None where no program has it."""
        return complete(dict(zip(self.names, point, strict=True)))

    def points(self, without: Iterable[str] = ()) -> list[Point]:
        """Return the feasible points; some factors stay off."""
        off = {*without}
        ranges = [range(1 if factor.name in off else len(factor.levels)) for factor in self.factors]
        return [p for p in itertools.product(*ranges) if self.complete(p) is not None]

    def name(self, point: Point) -> str:
        """Return the name of the variant at a point: what is on."""
        if point == self.base:
            return BASE
        if point == self.top:
            return TOP
        words = []
        for factor, level in zip(self.factors, point, strict=True):
            if level:
                is_one = len(factor.levels) == 2
                words.append(factor.name if is_one else f"{factor.name}={level}")
        return "+".join(words)

    def point(self, name: str) -> Point:
        """Return the point of a name; ValueError for a name of no point."""
        if name in (BASE, TOP):
            return self.base if name == BASE else self.top
        levels = dict.fromkeys(self.names, 0)
        for word in name.split("+"):
            factor, _, level = word.partition("=")
            if factor not in levels or not (level or "1").isdigit():
                raise ValueError(f"{name!r} is no program of the factors {', '.join(self.names)}")
            levels[factor] = int(level or "1")
        return tuple(levels.values())

    def order(self, digits: str) -> list[Point]:
        """Return the points of an order: an index of a factor for each step."""
        points = [self.base]
        for digit in digits:
            raised = list(points[-1])
            raised[int(digit, len(DIGITS))] += 1
            points.append(tuple(raised))
        return points


def digits_of(point: Sequence[int]) -> str:
    """Write a point, or an order, as a digit for each entry; those from ten on are letters."""
    return "".join(DIGITS[entry] for entry in point)


def identity(program_hash: str, executor: str, threads: int) -> str:
    """Write what makes two programs one: what they compute and how, who runs it, on how many
    threads."""
    return f"{program_hash}-{executor}-{threads}"
