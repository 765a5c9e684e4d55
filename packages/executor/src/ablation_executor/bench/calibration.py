"""A matrix product of fixed size, by which a change of the machine's own speed shows."""

from __future__ import annotations

from time import perf_counter_ns

import numpy as np

import ablation_kernels

CALIBRATION_SIZE = 512


def calibrate(count: int) -> list[int]:
    """Nanoseconds of `count` products of two fixed 512 x 512 matrices, after one discarded."""
    size = CALIBRATION_SIZE
    a = np.linspace(-1, 1, size * size, dtype=np.float32).reshape(size, size)
    out = np.empty_like(a)
    samples = []
    for _ in range(count + 1):
        start = perf_counter_ns()
        ablation_kernels.matmul(a, a, out=out)
        samples.append(perf_counter_ns() - start)
    return samples[1:]
