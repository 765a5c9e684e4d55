"""Geometric means of ratios, with what they leave out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class GeometricMean:
    """The geometric mean of n ratios, None of none; `missing` names the cells that have no ratio.

    Means over different cells are not to be compared, which is why the missing ones belong to it.
    """

    value: float | None
    n: int
    missing: tuple[str, ...]

    def text(self) -> str:
        """Write the mean with its n: 0.86x (7)."""
        return "-" if self.value is None else f"{self.value:.2f}x ({self.n})"

    def sentence(self, what: str) -> str:
        """Write the mean of `what` with its n and the missing cells."""
        if self.value is None:
            return f"{what}: no geometric mean, nothing was measured"
        lacking = f"; missing: {', '.join(self.missing)}" if self.missing else ""
        return f"{what}: geometric mean {self.value:.2f}x over {self.n} configs{lacking}"


def geometric_mean(ratios: Mapping[str, float | None]) -> GeometricMean:
    """Return the geometric mean of the ratios that are known, by the name of their cell.

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
