"""The Strassen kernels: exact on whole numbers, their bound by norms, and how far NaN reaches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
import tolerance
from harness import Float32, guarded, kernels_of, normal
from test_matmul_packed import run_program

import ablation_kernels

KERNELS = [name for name in kernels_of("matmul") if "strassen" in name]
each_kernel = pytest.mark.parametrize("kernel", KERNELS)

#: Blocks that lack rows, columns or depth, or are empty; several ranges of k and blocks of rows.
SHAPES = [
    *((1, 1, 1), (1, 9, 70), (2, 1, 33), (3, 2, 130), (5, 5, 64), (4, 3, 257), (9, 8, 129)),
    *((13, 1023, 65), (31, 17, 63), (64, 64, 256), (65, 63, 66), (190, 1100, 330), (601, 40, 97)),
]


def levels(kernel: str) -> int:
    return 2 if "twice" in kernel else 1


def whole_numbers(random: np.random.Generator, *shape: int) -> Float32:
    return random.integers(-8, 9, shape).astype(np.float32)


@each_kernel
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("m,k,n", SHAPES)
def test_whole_numbers_are_exact(
    kernel: str,
    m: int,
    k: int,
    n: int,
    transpose_b: bool,
    threads: int,
    random: np.random.Generator,
) -> None:
    """No sum passes 2^24, so nothing is rounded and a wrong sign or block has nowhere to hide."""
    ablation_kernels.set_num_threads(threads)
    a = whole_numbers(random, m, k)
    b = whole_numbers(random, *((n, k) if transpose_b else (k, n)))
    bias, addend = whole_numbers(random, n), whole_numbers(random, m, n)
    keywords: dict[str, Any] = {"transpose_b": transpose_b, "alpha": -2.0, "activation": "relu"}
    expected = reference.matmul(a, b, bias=bias, addend=addend, **keywords).value
    actual = guarded("matmul", (m, n), a, b, bias=bias, addend=addend, kernel=kernel, **keywords)
    np.testing.assert_array_equal(actual, expected)
    _, constant = run_program(kernel, a, b, bias, addend, **keywords)
    np.testing.assert_array_equal(constant, expected)
    plain = guarded("matmul", (m, n), a, b, kernel=kernel, transpose_b=transpose_b)
    np.testing.assert_array_equal(plain, reference.matmul(a, b, transpose_b=transpose_b).value)


def graded(random: np.random.Generator, *shape: int) -> Float32:
    """Rows and columns from 1 down to 1e-6."""
    rows, columns = (np.logspace(0, -6, size, dtype=np.float32) for size in shape)
    return normal(random, *shape) * rows[:, None] * columns


@each_kernel
@pytest.mark.parametrize("kind", ["normal", "positive", "graded", "turned"])
@pytest.mark.parametrize("size", [64, 256, 1040])
def test_bound_by_the_largest_elements(
    kernel: str, kind: str, size: int, random: np.random.Generator
) -> None:
    """Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, 23.2.2: for n x n,
    |C - C'| <= ((n / n0)^log2(12) (n0^2 + 5 n0) - 5 n) u max|A| max|B|, n0 = n / 2^levels; random
    signs keep the largest error below a sqrt(n)-th of it."""
    make = graded if kind in ("graded", "turned") else normal
    a, b = make(random, size, size), make(random, size, size)
    if kind == "positive":
        a, b = np.abs(a), np.abs(b)
    if kind == "turned":  # large rows meet small ones in the sums
        a, b = a[::-1].copy(), b[:, ::-1].copy()
    expected = reference.matmul(a, b)
    error = np.abs(ablation_kernels.matmul(a, b, kernel=kernel) - expected.value).max()
    smallest = size / 2 ** levels(kernel)
    bound = 12 ** levels(kernel) * (smallest**2 + 5 * smallest) - 5 * size
    bound *= tolerance.UNIT * float(np.abs(a).max()) * float(np.abs(b).max())
    assert 0 < error <= bound / np.sqrt(size)


@each_kernel
def test_small_elements_beside_large_ones_are_lost(
    kernel: str, random: np.random.Generator
) -> None:
    """Why it is other arithmetic: what every other kernel has to a few units is rounded off."""
    a, b = normal(random, 64, 64), normal(random, 64, 256)
    a[:32] *= 1e-6
    b[:, :128] *= 1e-6
    expected = reference.matmul(a, b)
    allowed = tolerance.matmul(64, expected.magnitude)
    apart = np.abs(ablation_kernels.matmul(a, b, kernel=kernel) - expected.value)
    assert (apart > 10 * allowed)[:32, :128].any()
    packed = ablation_kernels.matmul(a, b, kernel="packed_simd")
    assert (np.abs(packed - expected.value) <= allowed).all()


@each_kernel
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("operand", ["a", "b"])
def test_how_far_nan_and_infinity_reach(
    kernel: str, special: float, operand: str, random: np.random.Generator
) -> None:
    """A row of a reaches the rows at the same place of all blocks, likewise a column of b; where
    the product is not finite neither is the result."""
    m, k, n = 37, 41, 523
    a, b = normal(random, m, k), normal(random, k, n)
    clean = ablation_kernels.matmul(a, b, kernel=kernel)
    (a if operand == "a" else b)[5, 7] = special
    actual = ablation_kernels.matmul(a, b, kernel=kernel)
    with np.errstate(invalid="ignore"):
        expected = reference.matmul(a, b).value
    assert not np.isfinite(actual[~np.isfinite(expected)]).any()
    side = 2 ** levels(kernel)
    if operand == "a":
        reached = np.arange(m) % -(-m // side) == 5
        np.testing.assert_array_equal(actual[~reached], clean[~reached])
    else:
        # Blocks of b are whole panels, whose width differs between instruction sets
        part = [-(-n // (side * width)) * width for width in (8, 16, 32)]
        columns = np.arange(n)
        reached = np.any([columns % size == 7 for size in part], axis=0)
        np.testing.assert_array_equal(actual[:, ~reached], clean[:, ~reached])


@pytest.mark.parametrize("size", [64, 1024, 8192])
def test_never_chosen(size: int) -> None:
    """Other arithmetic has to be asked for by its name."""
    shapes = [(size, size), (size, size), None, None]
    for constants in ([], ["b"]):
        assert "strassen" not in ablation_kernels.best_kernel("matmul", shapes, constants=constants)
