"""Geometric means of ratios, with what they leave out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

# Below this, a ratio of two decimals would have one digit.
SMALL_RATIO = 0.1


@dataclass(frozen=True)
class GeometricMean:
    """The geometric mean of n ratios, None of none; `missing` names the cases that have no ratio.

    Means over different cases are not to be compared, which is why the missing ones belong to it.
    """

    value: float | None
    n: int
    missing: tuple[str, ...]

    def value_text(self) -> str:
        """Write the mean: 0.86x."""
        return "-" if self.value is None else ratio_text(self.value)

    def text(self) -> str:
        """Write the mean with its n: 0.86x (7)."""
        return self.value_text() if self.value is None else f"{self.value_text()} ({self.n})"

    def sentence(self, what: str) -> str:
        """Write the mean of `what` with its n and the missing cases."""
        if self.value is None:
            return f"{what}: no geometric mean, since no config has both times"
        lacking = f"; missing: {', '.join(self.missing)}" if self.missing else ""
        return f"{what}: geometric mean {self.value_text()} over {self.n} configs{lacking}"


def geometric_mean(ratios: Mapping[str, float | None]) -> GeometricMean:
    """Return the geometric mean of the ratios that are known, by the name of their case.

    Raises:
        ValueError: a ratio is not above 0.
    """
    known = {name: ratio for name, ratio in ratios.items() if ratio is not None}
    if bad := [f"{name} is {ratio}" for name, ratio in known.items() if not ratio > 0]:
        raise ValueError(f"ratios must be above 0: {', '.join(bad)}")
    missing = tuple(name for name in ratios if name not in known)
    if not known:
        return GeometricMean(None, 0, missing)
    value = math.exp(math.fsum(map(math.log, known.values())) / len(known))
    return GeometricMean(value, len(known), missing)


def ratio_text(ratio: float) -> str:
    """Write a ratio: 0.85x, or 0.012x with two digits of a small one."""
    return f"{ratio:#.2g}x" if 0 < ratio < SMALL_RATIO else f"{ratio:.2f}x"
