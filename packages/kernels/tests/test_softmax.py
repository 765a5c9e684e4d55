"""softmax over the last axis."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import tolerance
from harness import Float32, assert_within, function_of, guarded, kernels_of, normal, worst_ratio
from shapes import LARGE_LENGTH, LARGE_ROWS, LENGTHS

each_kernel = pytest.mark.parametrize("kernel", kernels_of("softmax"))


def check(kernel: str, x: Float32) -> None:
    expected = reference.softmax(x)
    actual = guarded("softmax", x.shape, x, kernel=kernel)
    assert_within(actual, expected, tolerance.softmax(x, expected))


@each_kernel
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("rows", [1, 3])
def test_lengths(kernel: str, rows: int, length: int, random: np.random.Generator) -> None:
    check(kernel, normal(random, rows, length, spread=3))


@each_kernel
@pytest.mark.parametrize("shape", [(33,), (2, 3, 5, 17), (LARGE_ROWS, LARGE_LENGTH), (2000, 3)])
def test_ranks_and_large(kernel: str, shape: tuple[int, ...], random: np.random.Generator) -> None:
    check(kernel, normal(random, *shape))


@each_kernel
@pytest.mark.parametrize("spread", [1e-6, 30.0, 1e4, 1e30])
def test_magnitudes(kernel: str, spread: float, random: np.random.Generator) -> None:
    check(kernel, normal(random, 5, 65, spread=spread))


@each_kernel
@pytest.mark.parametrize("offset", [-1e4, 88.8, 1e4])
def test_offset_that_overflows_without_the_maximum(
    kernel: str, offset: float, random: np.random.Generator
) -> None:
    x = normal(random, 5, 65) + np.float32(offset)
    check(kernel, x)
    with np.errstate(all="ignore"):
        weights = np.exp(x)
        mutant = weights / weights.sum(axis=-1, keepdims=True)
    expected = reference.softmax(x)
    assert worst_ratio(mutant, expected, tolerance.softmax(x, expected)) > 1


@each_kernel
def test_equal_elements(kernel: str) -> None:
    check(kernel, np.full((3, 129), 7.5, np.float32))


@each_kernel
@pytest.mark.parametrize("length", [1, 8, 19, 64, 77])
def test_special_values(kernel: str, length: int, random: np.random.Generator) -> None:
    x = normal(random, 7, length)
    x[1, length // 2] = np.nan
    x[2, 0] = np.inf
    x[3, length - 1] = -np.inf
    x[4] = -np.inf  # NaN, as torch.softmax gives
    x[5, length - 1] = np.nan
    check(kernel, x)


@each_kernel
@pytest.mark.parametrize("shape", [(5, 33), (LARGE_ROWS, LARGE_LENGTH)])
def test_in_place(kernel: str, shape: tuple[int, int], random: np.random.Generator) -> None:
    x = normal(random, *shape)
    expected = reference.softmax(x)
    allowed = tolerance.softmax(x, expected)
    assert_within(function_of("softmax")(x, kernel=kernel, out=x), expected, allowed)


@pytest.mark.parametrize("length", [length for length in LENGTHS if length > 1])
def test_tolerance_catches_a_dropped_tail(length: int, random: np.random.Generator) -> None:
    x = normal(random, 3, length, spread=3)
    expected = reference.softmax(x)
    weights = np.exp(reference.float64(x) - x.max(axis=-1, keepdims=True))
    mutant = weights / weights[:, :-1].sum(axis=-1, keepdims=True)
    assert worst_ratio(mutant, expected, tolerance.softmax(x, expected)) > 1
