"""concat: arrays one after another along an axis, copied bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from harness import Float32, guarded, kernels_of, normal

import ablation_kernels

each_kernel = pytest.mark.parametrize("kernel", kernels_of("concat"))


def check(kernel: str, axis: int, *arrays: Float32) -> None:
    expected = np.concatenate(arrays, axis)
    actual = guarded("concat", expected.shape, *arrays, axis=axis, kernel=kernel)
    np.testing.assert_array_equal(actual, expected)


@each_kernel
@pytest.mark.parametrize("sizes", [(1, 1), (3, 5), (1, 2, 3), (7, 1, 1, 30), (1,) * 8])
@pytest.mark.parametrize("shape", [(1,), (4, 9), (2, 3, 17), (2, 1, 3, 4), (67, 103)])
def test_every_axis(
    kernel: str, shape: tuple[int, ...], sizes: tuple[int, ...], random: np.random.Generator
) -> None:
    for axis in range(-len(shape), len(shape)):
        parts = []
        for size in sizes:
            part = list(shape)
            part[axis] = size
            parts.append(normal(random, *part))
        check(kernel, axis, *parts)


@each_kernel
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_cuts_of_the_output(kernel: str, threads: int, random: np.random.Generator) -> None:
    """Ranges that begin in the middle of a run, at its end, and in a run of one element."""
    ablation_kernels.set_num_threads(threads)
    check(kernel, 1, normal(random, 61, 1), normal(random, 61, 1031), normal(random, 61, 2))
    check(kernel, 0, normal(random, 16, 1024), normal(random, 17, 1024))
    check(kernel, 0, normal(random, 1), normal(random, 70001), normal(random, 5))


@each_kernel
def test_absent_slots_are_passed_over(kernel: str, random: np.random.Generator) -> None:
    a, b, h = normal(random, 2, 3), normal(random, 2, 1), normal(random, 2, 5)
    actual = ablation_kernels.concat(a, b, h=h, axis=1, kernel=kernel)
    np.testing.assert_array_equal(actual, np.concatenate([a, b, h], 1))


@each_kernel
def test_one_array_twice_and_bits_survive(kernel: str) -> None:
    bits = np.arange(8 * 12, dtype=np.uint32).reshape(8, 12) + np.uint32(0x7F800001)
    x = bits.view(np.float32)
    twice = ablation_kernels.concat(x, x, axis=1, kernel=kernel)
    np.testing.assert_array_equal(np.asarray(twice).view(np.uint32), np.concatenate([bits] * 2, 1))
