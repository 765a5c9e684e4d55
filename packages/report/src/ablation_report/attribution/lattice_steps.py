"""What each step of a lattice changes in a program: its passes, its kernels and who runs it.

A rung of a ladder is a step where it differs from the one below it in just what two neighbors of
the lattice differ in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from ablation_report.attribution import Attribution, Worth
from ablation_report.attribution.result import Point
from ablation_report.run import Row, Run

# What a row of the block says of itself in `factors`, and the factor of the lattice that it is with
# its levels.
AXES: Mapping[str, tuple[str, Mapping[Any, int]]] = {
    "executor": ("native_loop", {"per_op": 0, "compiled": 1}),
    "share_rows": ("shared_joins", {False: 0, True: 1}),
}
OURS = "ablation"
PASS, KERNEL = "pass ", "kernel of "
# What differs between two programs: a name, and what it is in each.
Change = frozenset[tuple[str, Any, Any]]
# The place of a factor, and its level.
Place = tuple[int, int]


def aspects(row: Row) -> dict[str, Any]:
    """Return what a row of the block says that its program consists of, by name."""
    aspect_values: dict[str, Any] = {f"{PASS}{name}": True for name in row["passes"] or ()}
    for op, kernel in (row["kernels"] or {}).items():
        # Attention as separate calls has no kernel
        aspect_values[f"{KERNEL}{op}"] = None if kernel == "unfused" else kernel
    for axis, (factor, levels) in AXES.items():
        aspect_values[factor] = levels.get(row["factors"].get(axis))
    return aspect_values


def names_of(rows: Iterable[Row]) -> set[str]:
    """The names of all aspects that rows of this project have."""
    return {name for row in rows if row["origin"] == OURS for name in aspects(row)}


def change(before: Mapping[str, Any], after: Mapping[str, Any], names: Iterable[str]) -> Change:
    """Return what differs between two programs, of these names."""
    pairs = ((name, before.get(name), after.get(name)) for name in names)
    return frozenset((name, a, b) for name, a, b in pairs if a != b)


def reverse(changed: Change) -> Change:
    """Return the same change the other way round."""
    return frozenset((name, after, before) for name, before, after in changed)


class LatticeSteps:
    """The programs of an attribution: what each step changes, by the names that a ladder knows."""

    def __init__(self, run: Run, found: Attribution, names: set[str]) -> None:
        self.found = found
        self.places = {factor["name"]: i for i, factor in enumerate(run.header["factors"])}
        self._programs = {point: self._aspects(row, point) for row, point in found.programs}
        self.names = names

    def _aspects(self, row: Row, point: Point) -> dict[str, Any]:
        """What a program of the lattice consists of: passes and kernels by its row, the rest by its
        point; what is no factor of this run is on in all its programs."""
        own = (PASS, KERNEL)
        aspect_values = {
            name: aspect_values
            for name, aspect_values in aspects(row).items()
            if name.startswith(own)
        }
        axes = [factor for factor, _ in AXES.values()]
        return aspect_values | {
            factor: point[self.places[factor]] if factor in self.places else 1 for factor in axes
        }

    @cached_property
    def steps(self) -> Mapping[Place, set[Change]]:
        """What each step changes, in each context in which both its programs were measured."""
        found: dict[Place, set[Change]] = {}
        for point, before in self._programs.items():
            for i, level in enumerate(point):
                after = self._programs.get((*point[:i], level + 1, *point[i + 1 :]))
                changed = change(before, after, self.names) if after is not None else frozenset()
                if changed:
                    found.setdefault((i, level + 1), set()).add(changed)
        return found

    @cached_property
    def _links(self) -> Mapping[str, Mapping[Any, Mapping[Any, int]]]:
        """By name the values that a factor leads from and to, and the place of the factor."""
        links: dict[str, dict[Any, dict[Any, int]]] = {}
        for (i, _), changes in self.steps.items():
            for name, before, after in (part for changed in changes for part in changed):
                of_name = links.setdefault(name, {})
                of_name.setdefault(before, {})[after] = i
                of_name.setdefault(after, {})[before] = i
        return links

    def has(self, aspect_values: Mapping[str, Any]) -> bool:
        """True where a program of the lattice consists of this, by the names that both know."""
        return any(
            not change(aspect_values, program, self.names) for program in self._programs.values()
        )

    def step(self, changed: Change) -> tuple[Place, bool] | None:
        """Return the step that is this change, and whether it is taken back; None for none."""
        for is_back, wanted in ((False, changed), (True, reverse(changed))):
            for place, changes in self.steps.items():
                if wanted in changes:
                    return place, is_back
        return None

    def part_of(self, changed: Change) -> Place | None:
        """Return the step of which this change is a part, either way; None for none."""
        for wanted in (changed, reverse(changed)):
            for place, changes in self.steps.items():
                if any(wanted < whole for whole in changes):
                    return place
        return None

    def factors(self, changed: Change) -> list[int] | None:
        """Return the places of the factors that together make a change; None where some part of it
        is made by none."""
        found: set[int] = set()
        for name, before, after in changed:
            path = self._path(name, before, after)
            if path is None:
                return None
            found |= path
        return sorted(found)

    def _path(self, name: str, before: Any, after: Any) -> set[int] | None:
        """The factors on the shortest way between two values of a name."""
        links = self._links.get(name, {})
        reached: dict[Any, set[int]] = {before: set()}
        front = [before]
        while front and after not in reached:
            following = []
            for value in front:
                for neighbor, i in links.get(value, {}).items():
                    if neighbor not in reached:
                        reached[neighbor] = reached[value] | {i}
                        following.append(neighbor)
            front = following
        return reached.get(after)

    def worth(self, i: int) -> Worth | None:
        """Return the worth of a factor by its place."""
        names = {place: name for name, place in self.places.items()}
        return next((worth for worth in self.found.worths if worth.name == names[i]), None)
