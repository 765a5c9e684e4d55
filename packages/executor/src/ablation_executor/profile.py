"""What a profile holds: the time of each call, and of the whole, per repetition."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .ops import CATEGORIES


@dataclass(frozen=True)
class OpTime:
    """One call: its node's name, op, report category and kernel."""

    name: str
    op: str
    category: str
    kernel: str


@dataclass(frozen=True)
class Profile:
    """`times_ns` (repeat, calls) per call; `total_ns` (repeat,) wall time around each whole run."""

    ops: list[OpTime]
    times_ns: NDArray[np.int64]
    total_ns: NDArray[np.int64]

    def category_ns(self) -> dict[str, NDArray[np.int64]]:
        """Return the nanoseconds per repetition of each category and of `dispatch`, the rest."""
        names = np.array([op.category for op in self.ops])
        parts = {name: self.times_ns[:, names == name].sum(axis=1) for name in CATEGORIES}
        parts["dispatch"] = self.total_ns - self.times_ns.sum(axis=1)
        return parts

    def __str__(self) -> str:
        medians = np.median(self.times_ns, axis=0) / 1000.0
        lines = [f"{'microseconds':>12}  {'category':<12}  {'kernel':<30}  node"]
        for op, median in zip(self.ops, medians, strict=True):
            lines.append(f"{median:12.2f}  {op.category:<12}  {op.kernel:<30}  {op.name}")
        lines.append(f"{np.median(self.total_ns) / 1000.0:12.2f}  the whole call")
        return "\n".join(lines)
