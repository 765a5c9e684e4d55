"""rms_norm over the last axis."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import tolerance
from harness import Float32, assert_within, function_of, guarded, kernels_of, normal, worst_ratio
from shapes import LARGE_LENGTH, LARGE_ROWS, LENGTHS

import ablation_kernels

each_kernel = pytest.mark.parametrize("kernel", kernels_of("rms_norm"))


def check(kernel: str, x: Float32, weight: Float32, eps: float = 1e-5) -> None:
    expected = reference.rms_norm(x, weight, eps)
    actual = guarded("rms_norm", x.shape, x, weight, eps=eps, kernel=kernel)
    assert_within(actual, expected, tolerance.rms_norm(x, expected))


@each_kernel
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("rows", [1, 3])
def test_lengths(kernel: str, rows: int, length: int, random: np.random.Generator) -> None:
    check(kernel, normal(random, rows, length), normal(random, length))


@each_kernel
@pytest.mark.parametrize("shape", [(33,), (2, 3, 5, 17), (LARGE_ROWS, LARGE_LENGTH), (2000, 3)])
def test_ranks_and_large(kernel: str, shape: tuple[int, ...], random: np.random.Generator) -> None:
    check(kernel, normal(random, *shape), normal(random, shape[-1]))


@each_kernel
@pytest.mark.parametrize("eps", [0.0, 1e-12, 1e-3, 10.0])
def test_eps(kernel: str, eps: float, random: np.random.Generator) -> None:
    check(kernel, normal(random, 3, 65), normal(random, 65), eps)


@each_kernel
@pytest.mark.parametrize("spread", [1e-15, 1e-3, 1e3, 1e15])
def test_magnitudes(kernel: str, spread: float, random: np.random.Generator) -> None:
    check(kernel, normal(random, 3, 257, spread=spread), normal(random, 257))


@each_kernel
def test_the_mean_is_not_taken_away(kernel: str, random: np.random.Generator) -> None:
    """A row far from zero: layer_norm would give other numbers altogether."""
    check(kernel, normal(random, 3, 64) + np.float32(3000), normal(random, 64))


@each_kernel
def test_rows_of_zeros_stay(kernel: str, random: np.random.Generator) -> None:
    x = np.zeros((3, 64), np.float32)
    y = guarded("rms_norm", x.shape, x, normal(random, 64), kernel=kernel)
    np.testing.assert_array_equal(y, 0.0)


@each_kernel
@pytest.mark.parametrize("length", [8, 19, 77])
def test_special_values(kernel: str, length: int, random: np.random.Generator) -> None:
    x, weight = normal(random, 5, length), normal(random, length)
    x[1, length // 2] = np.nan
    x[2, 0] = np.inf
    x[3, length - 1] = -np.inf
    weight[3] = np.nan
    y = guarded("rms_norm", x.shape, x, weight, kernel=kernel)
    others = np.delete(np.arange(length), 3)
    assert np.all(np.isnan(y[1])), "a row with NaN is NaN throughout"
    assert np.all(np.isnan(y[:, 3]))
    for row, place in ((2, 0), (3, length - 1)):
        assert np.isnan(y[row, place])
        np.testing.assert_array_equal(y[row, np.delete(others, np.where(others == place))], 0.0)
    assert np.all(np.isfinite(y[[0, 4]][:, others])), "no other row or column is touched"


@each_kernel
def test_squares_beyond_float32(kernel: str, random: np.random.Generator) -> None:
    x = normal(random, 2, 33)
    x[0, 5] = 3e38
    y = guarded("rms_norm", x.shape, x, np.ones(33, np.float32), kernel=kernel)
    np.testing.assert_array_equal(y[0], 0.0)
    assert np.all(y[1] != 0)


@each_kernel
@pytest.mark.parametrize("shape", [(5, 33), (LARGE_ROWS, LARGE_LENGTH)])
def test_in_place(kernel: str, shape: tuple[int, int], random: np.random.Generator) -> None:
    x, weight = normal(random, *shape), normal(random, shape[1])
    expected = reference.rms_norm(x, weight)
    allowed = tolerance.rms_norm(x, expected)
    assert_within(function_of("rms_norm")(x, weight, kernel=kernel, out=x), expected, allowed)


def test_threads_change_nothing(random: np.random.Generator) -> None:
    x, weight = normal(random, LARGE_ROWS, LARGE_LENGTH), normal(random, LARGE_LENGTH)
    kernel = "rms_norm_simd_parallel"
    several = ablation_kernels.rms_norm(x, weight, kernel=kernel)
    ablation_kernels.set_num_threads(1)
    np.testing.assert_array_equal(ablation_kernels.rms_norm(x, weight, kernel=kernel), several)


@each_kernel
@pytest.mark.parametrize("length", [1, 17, 64, 128])
@pytest.mark.parametrize(("heads", "weights"), [(1, 1), (5, 5), (5, 1), (6, 4)])
def test_a_weight_for_each_of_the_first_heads(
    kernel: str, heads: int, weights: int, length: int, random: np.random.Generator
) -> None:
    x, weight = normal(random, 2, 7, heads, length), normal(random, weights, length)
    check(kernel, x, weight)
    expected = guarded("rms_norm", x.shape, x, weight, kernel=kernel)
    np.testing.assert_array_equal(expected[:, :, weights:], x[:, :, weights:])
    for head in range(weights):
        alone = np.ascontiguousarray(x[:, :, head])
        y = guarded("rms_norm", alone.shape, alone, weight[head], kernel=kernel)
        np.testing.assert_array_equal(expected[:, :, head], y)
    np.testing.assert_array_equal(
        function_of("rms_norm")(x, weight, kernel=kernel, out=x), expected
    )


@each_kernel
@pytest.mark.parametrize("weights", [0, 2])
def test_an_addend(kernel: str, weights: int, random: np.random.Generator) -> None:
    x, addend = normal(random, 3, 5, 33), normal(random, 3, 5, 33, spread=7.0)
    weight = normal(random, weights, 33) if weights else normal(random, 33)
    normed = reference.rms_norm(x, weight)
    expected = normed + addend
    allowed = tolerance.rms_norm(x, normed) + tolerance.UNIT * np.abs(expected)
    y = guarded("rms_norm", x.shape, x, weight, addend=addend, kernel=kernel)
    assert_within(y, expected, allowed)
    in_place = function_of("rms_norm")(x, weight, addend=addend, kernel=kernel, out=x)
    np.testing.assert_array_equal(in_place, y)
    with pytest.raises(ValueError, match="addend"):
        function_of("rms_norm")(x, weight, addend=addend, kernel=kernel, out=addend)


def test_threads_share_heads_out_anywhere(random: np.random.Generator) -> None:
    """Rows that a thread begins with need not be those of the first head."""
    x, weight = normal(random, 401, 5, 257), normal(random, 3, 257)
    ablation_kernels.set_num_threads(1)
    serial = ablation_kernels.rms_norm(x, weight)
    for threads in (2, 3):
        ablation_kernels.set_num_threads(threads)
        np.testing.assert_array_equal(ablation_kernels.rms_norm(x, weight), serial)


@pytest.mark.parametrize("length", [length for length in LENGTHS if length > 2])
def test_tolerance_catches_a_mean_over_one_less(length: int, random: np.random.Generator) -> None:
    x, weight = normal(random, 3, length), normal(random, length)
    expected = reference.rms_norm(x, weight)
    wide = reference.float64(x)
    squares = (wide**2).sum(axis=-1, keepdims=True) / (length - 1)
    mutant = wide / np.sqrt(squares + 1e-5) * weight
    assert worst_ratio(mutant, expected, tolerance.rms_norm(x, expected)) > 1


@each_kernel
@pytest.mark.parametrize("length", [3, 40, 1000])
def test_squares_that_are_together_beyond_float32(
    kernel: str, length: int, random: np.random.Generator
) -> None:
    """Each square, and so their mean, is a number: the row is normal."""
    x = (1.0 + 0.8 * random.random((2, length))).astype(np.float32) * np.float32(1e19)
    check(kernel, x, normal(random, length))
    x[1, 0] = 2e19
    y = guarded("rms_norm", x.shape, x, normal(random, length), kernel=kernel)
    assert y[0].any() and not y[1].any()
