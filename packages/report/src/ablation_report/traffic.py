"""The least that a block must move, and what share of the memory's rate that takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ablation_report.rows import DTYPE_BYTES
from ablation_report.run import BLOCK, Row, Run

_SIZES = {"B", "H", "Nq", "d"}
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def least_bytes(row: Row) -> int | None:
    """Return the bytes of weights, input and output of a call, each moved once.

    None where the row says neither that nor how large a block's weights are, as a published one.
    """
    sizes, weights = row["sizes"], row["memory"]["weights"]
    if row["bytes"] is not None:
        return int(row["bytes"])
    if weights is None or row["suite"] != BLOCK or not sizes.keys() >= _SIZES:
        return None
    activations = sizes["B"] * sizes["Nq"] * sizes["H"] * sizes["d"]
    return int(weights + 2 * DTYPE_BYTES[row["dtype"]] * activations)


def largest_cache_bytes(machine: Mapping[str, Any]) -> int | None:
    """Return the size of a machine's largest cache; None where none is named in a known unit."""
    sizes = [re.fullmatch(r"(\d+)([KMG]?)", str(size)) for size in machine["caches"].values()]
    return max((int(m[1]) * _UNITS[m[2]] for m in sizes if m), default=None)


def memory_share(run: Run, row: Row) -> float | None:
    """Return the share of the measured memory rate that the least traffic of a row takes.

    None where it does not apply: the run did not measure the rate, or what is moved fits into the
    machine's largest cache, so that it need not come from memory.
    """
    moved, time = least_bytes(row), run.time(row)
    rate = (run.ceilings.get(str(row["threads"])) or {}).get("memory_bytes_per_s")
    if moved is None or time is None or not rate:
        return None
    cache = largest_cache_bytes(run.header["machine"])
    if cache is None or moved <= cache:
        return None
    return float(moved / (time.value * 1e-9) / rate)
