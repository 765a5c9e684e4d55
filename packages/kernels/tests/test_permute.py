"""permute: axes reordered and copied, bit for bit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from harness import guarded, kernels_of, normal

import ablation_kernels

each_kernel = pytest.mark.parametrize("kernel", kernels_of("permute"))


def check(kernel: str, x: np.ndarray, perm: tuple[int, ...]) -> None:
    expected = x.transpose(perm)
    actual = guarded("permute", expected.shape, x, perm, kernel=kernel)
    np.testing.assert_array_equal(actual, expected)


@each_kernel
@pytest.mark.parametrize("shape", [(1,), (17,), (1, 1), (3, 1), (16, 16), (15, 17), (33, 31)])
def test_vectors_and_matrices(
    kernel: str, shape: tuple[int, ...], random: np.random.Generator
) -> None:
    for perm in itertools.permutations(range(len(shape))):
        check(kernel, normal(random, *shape), perm)


@each_kernel
@pytest.mark.parametrize(
    "shape", [(2, 3, 5), (7, 16, 33), (1, 31, 2), (2, 17, 3, 16), (3, 1, 4, 1)]
)
def test_every_order_of_axes(
    kernel: str, shape: tuple[int, ...], random: np.random.Generator
) -> None:
    for perm in itertools.permutations(range(len(shape))):
        check(kernel, normal(random, *shape), perm)


@each_kernel
@pytest.mark.parametrize(
    "shape,perm",
    [
        ((2, 131, 8, 65), (0, 2, 1, 3)),  # heads to the front, as attention wants them
        ((2, 8, 131, 65), (0, 2, 1, 3)),
        ((2, 8, 131, 65), (0, 1, 3, 2)),
        ((257, 263), (1, 0)),
        ((2, 3, 50000), (1, 0, 2)),
        ((2, 3, 2, 3, 2, 3), (5, 3, 1, 0, 2, 4)),
        ((2, 1, 3, 1, 2, 3, 2, 3), (7, 6, 5, 4, 3, 2, 1, 0)),
    ],
)
def test_large_and_many_axes(
    kernel: str, shape: tuple[int, ...], perm: tuple[int, ...], random: np.random.Generator
) -> None:
    check(kernel, normal(random, *shape), perm)


@each_kernel
def test_bits_survive(kernel: str) -> None:
    bits = np.arange(6 * 35, dtype=np.uint32).reshape(6, 35) * np.uint32(0x1357911) + np.uint32(
        0x7F800001
    )  # NaN payloads, denormals, infinities
    moved = ablation_kernels.permute(bits.view(np.float32), (1, 0), kernel=kernel)
    np.testing.assert_array_equal(np.asarray(moved).view(np.uint32), bits.T)
