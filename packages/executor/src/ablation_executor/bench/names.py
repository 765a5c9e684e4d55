"""Names as a user gives them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from .interrupt import UsageError


def split_names(text: str) -> list[str]:
    """Return the names of a comma-separated list."""
    return [name for name in (part.strip() for part in text.split(",")) if name]


def resolve_names(what: str, given: Iterable[str], valid: Sequence[str]) -> list[str]:
    """Return the valid spelling of each given name, in the valid order, without regard to case.

    Raises UsageError with the valid names and the nearest match for a name that is unknown.
    """
    by_lower = {name.lower(): name for name in valid}
    chosen: set[str] = set()
    for name in given:
        found = by_lower.get(name.strip().lower())
        if found is None:
            near = difflib.get_close_matches(name.strip().lower(), by_lower, n=1, cutoff=0.0)
            hint = f"; did you mean {by_lower[near[0]]!r}?" if near else ""
            raise UsageError(
                f"unknown {what} {name.strip()!r}{hint}\nvalid {what}s: {', '.join(valid)}"
            )
        chosen.add(found)
    if not chosen:
        raise UsageError(f"no {what} named\nvalid {what}s: {', '.join(valid)}")
    return [name for name in valid if name in chosen]


def one_name(what: str, given: str, valid: Sequence[str]) -> str:
    """Return the valid spelling of a name; UsageError for an unknown one, or for several."""
    names = resolve_names(what, split_names(given), valid)
    if len(names) > 1:
        listed = ", ".join(valid)
        raise UsageError(f"--{what} takes one name, got {given!r}\nvalid {what}s: {listed}")
    return names[0]
