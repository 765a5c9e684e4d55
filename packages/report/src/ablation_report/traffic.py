"""The least that a block must move, and what share of the memory's rate that takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ablation_report.metrics import Cell

FLOAT32_BYTES = 4
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def least_bytes(cell: Cell) -> int | None:
    """Return the bytes of weights, input and output of a call, each moved once.

    None where the row does not say how large the weights are, as a published one.
    """
    if cell["weights_bytes"] is None:
        return None
    activations = cell["batch"] * cell["seq_len"] * cell["d_model"]
    return int(cell["weights_bytes"] + 2 * FLOAT32_BYTES * activations)


def largest_cache_bytes(machine: Mapping[str, Any]) -> int | None:
    """Return the size of a machine's largest cache; None where none is named in a known unit."""
    sizes = [re.fullmatch(r"(\d+)([KMG]?)", str(size)) for size in machine["caches"].values()]
    return max((int(m[1]) * _UNITS[m[2]] for m in sizes if m), default=None)


def memory_share(
    cell: Cell, time_ns: float, machine: Mapping[str, Any], ceilings: Mapping[str, Any] | None
) -> float | None:
    """Return the share of the measured memory rate that the least traffic takes in this time.

    None where it does not apply: the run did not measure the rate, or what is moved fits into the
    machine's largest cache, so that it need not come from memory.
    """
    moved = least_bytes(cell)
    if moved is None or ceilings is None:
        return None
    cache = largest_cache_bytes(machine)
    if cache is None or moved <= cache:
        return None
    return float(moved / (time_ns * 1e-9) / ceilings["memory_bytes_per_s"])
