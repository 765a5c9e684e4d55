"""slice: a range of one axis, copied bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from harness import guarded, kernels_of, normal

import ablation_kernels

each_kernel = pytest.mark.parametrize("kernel", kernels_of("slice"))


@each_kernel
@pytest.mark.parametrize("shape", [(1,), (17,), (5, 33), (7, 2, 9), (3, 8, 1), (2, 3, 4, 5)])
def test_every_range_of_every_axis(
    kernel: str, shape: tuple[int, ...], random: np.random.Generator
) -> None:
    x = normal(random, *shape)
    for axis, size in enumerate(shape):
        for start in range(0, size, max(1, size // 4)):
            for stop in {start + 1, (start + size + 1) // 2, size}:
                if stop <= start:
                    continue
                expected = x[(slice(None),) * axis + (slice(start, stop),)]
                actual = guarded("slice", expected.shape, x, axis, start, stop, kernel=kernel)
                np.testing.assert_array_equal(actual, expected)


@each_kernel
@pytest.mark.parametrize("axis,start,stop", [(0, 1, 66), (1, 5, 1000), (1, 0, 1031), (0, 66, 67)])
def test_large(kernel: str, axis: int, start: int, stop: int, random: np.random.Generator) -> None:
    x = normal(random, 67, 1031)
    expected = x[start:stop] if axis == 0 else x[:, start:stop]
    actual = guarded("slice", expected.shape, x, axis, start, stop, kernel=kernel)
    np.testing.assert_array_equal(actual, expected)


@each_kernel
def test_bits_survive(kernel: str) -> None:
    bits = np.arange(8 * 12, dtype=np.uint32).reshape(8, 12) + np.uint32(0x7F800001)
    part = ablation_kernels.slice(bits.view(np.float32), 1, 3, 8, kernel=kernel)
    np.testing.assert_array_equal(np.asarray(part).view(np.uint32), bits[:, 3:8])
