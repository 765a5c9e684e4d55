"""The time of a row as nested spans of whole nanoseconds, whose parts sum to it exactly.

A row that was profiled has a span for each operation, in order, below a span for each module that
operations of one place in the model share; what is left of the time is a span of its own. Parts of
a step are spans likewise. Other rows are one span.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ablation_report.attribution import rounding
from ablation_report.run import Row, Run, detail
from ablation_report.series import short_case
from ablation_report.stats import median

REST = "outside of the operations"


@dataclass(frozen=True)
class Span:
    """A stretch of time with those inside it, which lie next to each other and fill it."""

    name: str
    start_ns: int
    time_ns: int
    category: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[Span, ...] = ()

    def walk(self) -> Iterator[Span]:
        """Yield the span, then those inside it in order of time."""
        yield self
        for part in self.parts:
            yield from part.walk()


@dataclass(frozen=True)
class Track:
    """The spans of one row; the tracks of a case belong together."""

    case: str
    name: str
    root: Span


@dataclass(frozen=True)
class _Leaf:
    """A part of a row before it has a place in time; `path` are the modules around it."""

    path: tuple[str, ...]
    name: str
    measured_ns: float
    category: str | None
    facts: Mapping[str, Any]


def tracks(runs: Iterable[Run]) -> list[Track]:
    """Return a track for each row that has a time, in order of measuring."""
    found = []
    for run in runs:
        for row in run.select(timed=True):
            phase = "" if row["phase"] == "fwd" else f" {row['phase']}"
            case = f"{run.label}: {short_case(row) or row['case']}"
            found.append(Track(case, f"{row['printed_name']}{phase}", _root(run, row)))
    return found


def _root(run: Run, row: Row) -> Span:
    time = run.time(row)
    assert time is not None, row["variant"]
    total = round(time.value)
    facts = {
        "time_ns": time.value,
        "low_ns": time.low,
        "high_ns": time.high,
        "median_ns": run.median(row),
        "variant": row["variant"],
        "case": row["case"],
        "rounds": time.n,
    }
    leaves = _leaves(row)
    if not leaves or not any(leaf.measured_ns for leaf in leaves):
        return Span(row["printed_name"], 0, total, None, facts)
    left = total - sum(leaf.measured_ns for leaf in leaves)
    facts["parts_ns"] = sum(leaf.measured_ns for leaf in leaves)
    # Profiled calls may take longer than the others: their parts are then scaled to the time
    shown = [*leaves, _Leaf((), REST, left, None, {})] if left >= 1 else leaves
    weights = [leaf.measured_ns for leaf in shown]
    lengths = rounding.shares([total * weight / sum(weights) for weight in weights], total)
    spans, start = [], 0
    for leaf, length in zip(shown, lengths, strict=True):
        all_facts = {**leaf.facts, "measured_ns": leaf.measured_ns}
        spans.append((leaf.path, Span(leaf.name, start, length, leaf.category, all_facts)))
        start += length
    return Span(row["printed_name"], 0, total, None, facts, _nested(spans))


def _leaves(row: Row) -> list[_Leaf]:
    """Return the operations of a row, or the parts of its step."""
    places: Mapping[str, str] = detail(row, "module_paths") or {}
    if row["ops"]:
        return [
            _Leaf(
                _path(op["name"], places),
                op["name"].rpartition(".")[2],
                op["median_ns"] or 0,
                op["category"],
                {"op": op["op"], "kernel": op["kernel"]},
            )
            for op in row["ops"]
        ]
    parts: Mapping[str, Sequence[int]] = detail(row, "parts_ns") or {}
    return [_Leaf((), name, median(ns), "step", {}) for name, ns in parts.items() if ns]


def _path(name: str, places: Mapping[str, str]) -> tuple[str, ...]:
    """Return the modules that an operation is in, the outermost first."""
    place = places.get(name, name.rpartition(".")[0])
    return tuple(part for part in place.split(".") if part)


def _nested(spans: Sequence[tuple[tuple[str, ...], Span]], depth: int = 0) -> tuple[Span, ...]:
    """Put neighbors that share a module into a span of it, level by level."""
    found: list[Span] = []
    index = 0
    while index < len(spans):
        path, span = spans[index]
        if len(path) <= depth:
            found.append(span)
            index += 1
            continue
        end = index
        while end < len(spans) and spans[end][0][depth : depth + 1] == path[depth : depth + 1]:
            end += 1
        inside = spans[index:end]
        length = sum(part.time_ns for _, part in inside)
        module = Span(path[depth], span.start_ns, length, "module")
        found.append(replace(module, parts=_nested(inside, depth + 1)))
        index = end
    return tuple(found)
