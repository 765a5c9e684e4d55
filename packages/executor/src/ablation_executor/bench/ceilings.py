"""What the machine does at most, by number of threads: our kernels' multiply-adds and reads, and
PyTorch's own matrix product."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from .children import told_by

_SGEMM_SIZE, _SGEMM_CALLS = 1024, 20
_RATES = ("multiply_add_flops_per_s", "memory_bytes_per_s", "sgemm_1024_flops_per_s")
_CEILINGS_PROGRAM = """
import dataclasses, json, sys, ablation_kernels
ablation_kernels.set_num_threads(int(sys.argv[1]))
print(json.dumps(dataclasses.asdict(ablation_kernels.measure_ceilings())))
"""
_SGEMM_PROGRAM = """
import json, sys, time, torch
threads, size, calls = map(int, sys.argv[1:])
torch.set_num_threads(threads)
a, b = torch.randn(size, size), torch.randn(size, size)
best = None
for _ in range(calls):
    start = time.perf_counter()
    a @ b
    spent = time.perf_counter() - start
    best = spent if best is None else min(best, spent)
print(json.dumps(2 * size**3 / best))
"""

Ceilings = dict[str, dict[str, Any]]


def measure_ceilings(threads: Iterable[int], before: Ceilings | None) -> Ceilings:
    """Measure with one thread and each number of threads, in processes of their own.

    `ablation_kernels.measure_ceilings()`, and the fastest of 20 products of 1024 x 1024 float32
    matrices by PyTorch, which is measured once. Of two measurements the highest rates stand: on a
    shared machine one can meet two cores that share one, and a ceiling below what runs under it is
    none. A rate is None where it cannot be measured.
    """
    known = dict(before or {})
    for count in sorted({1, *threads}):
        known[str(count)] = _measure(count, known.get(str(count)))
    return known


def _measure(threads: int, before: dict[str, Any] | None) -> dict[str, Any]:
    found: dict[str, Any] = told_by(_CEILINGS_PROGRAM, str(threads)) or {}
    found.pop("threads", None)
    if before is None:
        sizes = map(str, (threads, _SGEMM_SIZE, _SGEMM_CALLS))
        return {**found, _RATES[-1]: told_by(_SGEMM_PROGRAM, *sizes)}
    joins = [before.get("fork_join_ns"), found.get("fork_join_ns")]
    merged = {**before, **found}
    for rate in _RATES:
        rates = [rates[rate] for rates in (before, found) if rates.get(rate)]
        merged[rate] = max(rates, default=None)
    least = min((ns for ns in joins if ns is not None), default=math.nan)
    return merged if math.isnan(least) else {**merged, "fork_join_ns": least}
