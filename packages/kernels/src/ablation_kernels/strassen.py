"""When Strassen's products are faster: a model of their time over the packed product's.

The kernels `matmul_strassen_*` are another arithmetic. For n x n matrices and one level the error
of every element is at most (3 n^2 + 25 n) u max|a| max|b|, where a plain sum has n u times the
product of the magnitudes element by element (Higham, Accuracy and Stability of Numerical
Algorithms, 2nd edition, 23.2.2). NaN or infinity in a row of a, or a column of b, reaches a second
row or column of the output (two levels: three more). `best_kernel` never chooses these kernels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from ablation_kernels import _native
from ablation_kernels.table import scratch_bytes

PACKED = "matmul_packed_simd_parallel"
KERNELS = ("matmul_strassen_simd_parallel", "matmul_strassen_twice_simd_parallel")


@dataclass(frozen=True)
class _Costs:
    """What a number of levels costs beyond its products, in time of the packed product.

    Sums of a are made once for all columns, the output is written once for each range of k, which
    grows up to a depth, and b, which is 7/4 as large a level, is read once for all rows.
    """

    always: float
    columns: float
    ranges: float
    longest: int
    rows: float


# Fitted on one and two threads of a Zen 4 with AVX-512, M, N and K from 128 to 2048; the slower of
# the two counts, so that what is chosen pays on both. `measure_map` makes the map again.
_COSTS = {1: _Costs(0.015, 14, 60, 2048, 3), 2: _Costs(0.018, 41, 220, 4096, 12)}
#: What a level has to save, in time of the packed product: its error is the larger.
LEAST_GAIN = 0.02


def expected_ratio(m: int, n: int, k: int, levels: int) -> float:
    """Return the expected time of (M, K) by (K, N) over that of the packed product.

    b is a constant. `levels` is 1 or 2.
    """
    costs = _COSTS[levels]
    depth = min(k, costs.longest)
    sums = costs.columns / n + costs.ranges / depth + costs.rows / m
    return float(0.875**levels + costs.always + sums)


def kernel_for(m: int, n: int, k: int) -> str | None:
    """Return the kernel that is expected to be fastest, each level saving LEAST_GAIN over the one
    before; None where the packed product is.

    The shape is (M, K) by (K, N), b a constant.
    """
    best, kernel = 1.0, None
    for levels in _COSTS:
        expected = expected_ratio(m, n, k, levels)
        if expected <= best - LEAST_GAIN:
            best, kernel = expected, KERNELS[levels - 1]
    return kernel


def levels_of(kernel: str) -> int:
    """Return the levels of Strassen's scheme that a kernel of matmul has: 0 for the others."""
    if "strassen" not in kernel:
        return 0
    return 2 if "strassen_twice" in kernel else 1


@dataclass(frozen=True)
class ProductTime:
    """The fastest calls of the packed product and of one and two levels, in nanoseconds.

    `errors` are the largest over the largest value, of the same three.
    """

    m: int
    n: int
    k: int
    times_ns: tuple[int, int, int]
    errors: tuple[float, float, float]

    def ratio(self, levels: int) -> float:
        """Return the time over that of the packed product."""
        return self.times_ns[levels] / self.times_ns[0]


def measure(m: int, n: int, k: int, rounds: int = 5) -> ProductTime:
    """Time (M, K) by a constant (K, N), normal numbers, by the three kernels in turn.

    Each kernel has one call that is not counted, then one call a round. Errors are those of
    up to 64 rows, against float64. Packed b takes 5.8 K N floats more.
    """
    generator = np.random.default_rng(0)
    a = generator.standard_normal((m, k), dtype=np.float32)
    b = generator.standard_normal((k, n), dtype=np.float32)
    rows = np.unique(np.linspace(0, m - 1, 64).round().astype(int))
    exact = a[rows].astype(np.float64) @ b.astype(np.float64)
    values: list[Any] = [("input", a.shape), ("constant", b), ("output", (m, n))]
    shapes = [a.shape, b.shape, None, None]
    threads = _native.get_num_threads()
    output = np.empty((m, n), np.float32)
    programs, errors = [], []
    for kernel in (PACKED, *KERNELS):
        call: tuple[Any, ...] = (kernel, [0, 1, None, None], 2, {}, 0, kernel)
        scratch = scratch_bytes(kernel, shapes, threads=threads, constants=["b"])
        programs.append(_native.Program(values, [call], scratch))
        programs[-1].run([a], [output])
        errors.append(float(np.abs(output[rows] - exact).max() / np.abs(exact).max()))
    fastest = [2**63] * len(programs)
    for _ in range(rounds):
        for index, program in enumerate(programs):
            taken = int(program.run_timed([a], [output])[1][0])
            fastest[index] = min(fastest[index], taken)
    return ProductTime(m, n, k, tuple(fastest), tuple(errors))  # type: ignore[arg-type]


def measure_map(sizes: Iterable[int], rounds: int = 5) -> Iterator[ProductTime]:
    """Measure every M, N and K of some sizes."""
    for m, n, k in product(tuple(sizes), repeat=3):
        yield measure(m, n, k, rounds)
