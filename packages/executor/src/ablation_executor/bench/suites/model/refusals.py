"""What export refuses of a module, as a table: op, count, place, and what would work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .cases import SUITE_NAME

if TYPE_CHECKING:
    from ....refusal import ExportError

PLACES = 2
# What ours are not measured, and others are, where the module is not covered.
OPTION = "--keep-going"


@dataclass(frozen=True)
class Refused:
    """Calls of one op that are refused for one reason: how many, the modules that make them, the
    nearest supported ops where the op is not one, and what would work."""

    op: str
    count: int
    reason: str
    places: tuple[str, ...]
    near: tuple[str, ...] = ()
    advice: str = ""

    @staticmethod
    def of(told: Mapping[str, Any]) -> Refused:
        """Return what `asdict` made a message of."""
        return Refused(**{**told, "places": tuple(told["places"]), "near": tuple(told["near"])})


def grouped(error: ExportError) -> tuple[Refused, ...]:
    """Return the refused calls by op and reason, the most frequent first."""
    from .positional import shown_path

    def places(paths: Sequence[str]) -> tuple[str, ...]:
        return tuple(shown_path(path) or "(the module itself)" for path in paths)

    found = [
        Refused(
            group.op,
            group.count,
            group.reason,
            places(group.module_paths),
            group.near,
            group.advice,
        )
        for group in error.groups
    ]
    return tuple(sorted(found, key=lambda part: -part.count))


def table(name: str, refused: Sequence[Refused], message: str) -> str:
    """Return the refusals of a module, a line each with its reason and what would work below."""
    if not refused:
        return f"{name} is not covered: {message}"
    calls = sum(part.count for part in refused)
    lines = [
        f"{name} is not covered: {calls} call{'s' * (calls > 1)} of {len(refused)} kinds refused",
        f"  {'op':<44} {'calls':>5}  module",
    ]
    for part in refused:
        places = ", ".join(part.places[:PLACES])
        more = len(part.places) - PLACES
        places += f" and {more} others" if more > 0 else ""
        lines += [f"  {part.op:<44} {part.count:>5}  {places}", f"      {part.reason}"]
        lines += [f"      nearest names: {', '.join(part.near)}"] if part.near else []
        lines += [f"      what works: {part.advice}"] if part.advice else []
    return "\n".join(lines)


def uncovered_text(tables: Sequence[str]) -> str:
    """Return all that is said of a run whose modules are not covered."""
    advice = f"{OPTION} measures the other runtimes of suite {SUITE_NAME}"
    return "\n\n".join([*tables, advice])
