"""When Strassen's products pay: what `python -m ablation_kernels strassen --json` has measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablation_report.output import UsageError


@dataclass(frozen=True)
class Product:
    """An (M, K) by a constant (K, N): times over the packed product's, errors over its error."""

    m: int
    n: int
    k: int
    ratios: tuple[float, float]
    errors: tuple[float, float]
    chosen: int

    @property
    def best(self) -> int:
        """The number of levels that took the least time, 0 for the packed product."""
        times = (1.0, *self.ratios)
        return times.index(min(times))


@dataclass(frozen=True)
class ProductMap:
    """The products of one file, by the file's name."""

    name: str
    simd: str
    threads: int
    products: Sequence[Product]


def read_map(path: Path) -> ProductMap:
    """Read a file of the kernels' command; UsageError names a file that is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        products = tuple(map(_product, found["products"]))
        return ProductMap(path.stem, str(found["simd"]), int(found["threads"]), products)
    except (ValueError, KeyError, TypeError, IndexError, ZeroDivisionError) as error:
        raise UsageError(
            f"{path}: {type(error).__name__}: {error}; expected what `python -m ablation_kernels"
            " strassen SIZES --json FILE` writes"
        ) from error


def _product(entry: Mapping[str, Any]) -> Product:
    packed, one, two = entry["times_ns"]
    error, *errors = entry["errors"]
    chosen = entry["chosen"]
    levels = 2 if "strassen_twice" in chosen else 1 if "strassen" in chosen else 0
    return Product(
        int(entry["m"]),
        int(entry["n"]),
        int(entry["k"]),
        (one / packed, two / packed),
        (errors[0] / error, errors[1] / error),
        levels,
    )
