"""What the machine can do at most, measured once a run: multiply-adds of our kernels, and PyTorch's
own matrix product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..children import told_by
from ..run import measure_ceilings

_SGEMM_SIZE, _SGEMM_CALLS = 1024, 20
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
_CUDA_PROGRAM = """
import json, torch
print(json.dumps(torch.cuda.get_device_name() if torch.cuda.is_available() else None))
"""


def sgemm_flops_per_s(threads: int) -> float | None:
    """FLOP/s of the fastest of 20 products of 1024 x 1024 float32 matrices by PyTorch; None without
    PyTorch."""
    rate: float | None = told_by(_SGEMM_PROGRAM, *map(str, (threads, _SGEMM_SIZE, _SGEMM_CALLS)))
    return rate


def cuda_name() -> str | None:
    """The name of the GPU that PyTorch would use, or None."""
    name: str | None = told_by(_CUDA_PROGRAM)
    return name


def measure_peaks(threads: Sequence[int]) -> dict[str, dict[str, Any]]:
    """For one thread and each number of threads: `ablation_kernels.measure_ceilings()`, and
    PyTorch's product as sgemm_1024_flops_per_s; a rate is None where it cannot be measured."""
    return {str(count): _measure_peak(count) for count in sorted({1, *threads})}


def _measure_peak(threads: int) -> dict[str, Any]:
    ceilings = measure_ceilings(threads, None) or {}
    return {**ceilings, "sgemm_1024_flops_per_s": sgemm_flops_per_s(threads)}


class Peaks:
    """What run.json has under "ceilings", by number of threads, as a bound of rates."""

    def __init__(self, measured: dict[str, dict[str, Any]]) -> None:
        self._measured = measured

    def flops_per_s(self, threads: int) -> float | None:
        """The most float32 FLOP/s of some threads: as measured, or so many times those of fewer
        threads, whichever is more; None where nothing is known.

        Another program takes time from many threads more than from one.
        """
        rates = {
            int(count): peak.get("multiply_add_flops_per_s")
            for count, peak in self._measured.items()
        }
        known = [rate * threads / n for n, rate in rates.items() if rate and n <= threads]
        return max(known, default=None)

    def measure_again(self, threads: int) -> float | None:
        """Measure once more and keep what is higher, since the first time may have been disturbed;
        gives the bound."""
        for count in sorted({1, threads}):
            found = _measure_peak(count)
            kept = self._measured.setdefault(str(count), found)
            for key in ("multiply_add_flops_per_s", "sgemm_1024_flops_per_s"):
                rates = [rate for rate in (kept.get(key), found.get(key)) if rate]
                kept[key] = max(rates, default=None)
        return self.flops_per_s(threads)
