"""A/A twins: one program under two names, each in a process of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..suite import Variant

SUFFIX = "_again"


def twins_of(*names: str) -> tuple[tuple[str, str], ...]:
    """Return the pairs of names of `Suite.twins`."""
    return tuple((name, name + SUFFIX) for name in names)


def with_twins(
    variants: Iterable[Variant], twins: Sequence[tuple[str, str]], *, shares_worker: bool = False
) -> list[Variant]:
    """Return the variants, each one that has a twin followed by it; with `shares_worker` the twin
    runs in the process of the first, whose programs share what it has loaded."""
    listed: list[Variant] = []
    for variant in variants:
        listed.append(variant)
        for name, twin in twins:
            if name == variant.name:
                again = _again(variant, twin)
                listed.append(replace(again, worker=variant.worker) if shares_worker else again)
    return listed


def _again(variant: Variant, twin: str) -> Variant:
    what = f"{variant.name} once more: their difference is noise"
    # An empty worker and printed name become the twin's own.
    return replace(
        variant,
        name=twin,
        worker="",
        printed_name="",
        published_name=None,
        parent=None,
        changed=None,
        what=what,
    )


def program_name(name: str) -> str:
    """Return the name of the program that a variant runs: a twin runs that of the other."""
    return name.removesuffix(SUFFIX)
