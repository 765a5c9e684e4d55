"""What the backend has done in this process, counted."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Report:
    """Counts since the process started.

    `graphs`: graphs that PyTorch gave to compile. `plans`: graphs that were divided, once for each
    shape. `ops`: the ops of these plans, `ops_here` those that run here, `ops_eager` those that
    PyTorch runs, by op and reason. `parts`: their parts that run here. `programs`: programs that
    were built, one for each part and set of weights. `rebuilds`: those of them that took the place
    of one whose weights had changed. `calls_here`: calls of a graph of which a part ran here.
    `calls_eager`: calls of a graph that PyTorch ran whole, by reason. `parts_eager`: calls of a
    part that PyTorch ran, by reason.
    """

    graphs: int
    plans: int
    ops: int
    ops_here: int
    parts: int
    programs: int
    rebuilds: int
    calls_here: int
    ops_eager: dict[str, int]
    calls_eager: dict[str, int]
    parts_eager: dict[str, int]


class Counters:
    """The counts of a process, which several threads add to."""

    def __init__(self) -> None:
        self.forget_lock()
        self._numbers: Counter[str] = Counter()
        self._ops_eager: Counter[str] = Counter()
        self._calls_eager: Counter[str] = Counter()
        self._parts_eager: Counter[str] = Counter()

    def forget_lock(self) -> None:
        """Make a new lock: in a child of fork, the old one may be another thread's for ever."""
        self._lock = threading.Lock()

    def add(self, name: str, count: int = 1) -> int:
        """Add to a number of `Report`, and return what it was before."""
        with self._lock:
            before = self._numbers[name]
            self._numbers[name] += count
            return before

    def add_ops(self, here: int, eager: Counter[str]) -> None:
        """Count the ops of a plan: those that run here, and those that PyTorch runs by reason."""
        with self._lock:
            self._numbers["ops"] += here + eager.total()
            self._numbers["ops_here"] += here
            self._ops_eager += eager

    def add_eager_call(self, reason: str) -> int:
        """Count a graph that PyTorch ran, and return how often it did for this reason before."""
        with self._lock:
            self._calls_eager[reason] += 1
            return self._calls_eager[reason] - 1

    def add_eager_part(self, reason: str) -> None:
        """Count a part that PyTorch ran."""
        with self._lock:
            self._parts_eager[reason] += 1

    def report(self) -> Report:
        """Return the counts as they are now."""
        with self._lock:
            numbers = {
                part.name: self._numbers[part.name] for part in fields(Report) if part.type == "int"
            }
            return Report(
                **numbers,
                ops_eager=dict(self._ops_eager),
                calls_eager=dict(self._calls_eager),
                parts_eager=dict(self._parts_eager),
            )


COUNTERS = Counters()
