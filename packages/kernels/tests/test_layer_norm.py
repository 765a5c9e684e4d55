"""layer_norm over the last axis."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import tolerance
from harness import Float32, assert_within, function_of, guarded, kernels_of, normal, worst_ratio
from shapes import LARGE_LENGTH, LARGE_ROWS, LENGTHS

#: The largest number of float32.
LARGEST = float(np.finfo(np.float32).max)

each_kernel = pytest.mark.parametrize("kernel", kernels_of("layer_norm"))


def check(kernel: str, x: Float32, weight: Float32, bias: Float32, eps: float = 1e-5) -> None:
    expected = reference.layer_norm(x, weight, bias, eps)
    actual = guarded("layer_norm", x.shape, x, weight, bias, eps=eps, kernel=kernel)
    assert_within(actual, expected, tolerance.layer_norm(x, weight, bias, expected, eps))


@each_kernel
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("rows", [1, 3])
def test_lengths(kernel: str, rows: int, length: int, random: np.random.Generator) -> None:
    check(kernel, normal(random, rows, length), normal(random, length), normal(random, length))


@each_kernel
@pytest.mark.parametrize("shape", [(33,), (2, 3, 5, 17), (LARGE_ROWS, LARGE_LENGTH), (2000, 3)])
def test_ranks_and_large(kernel: str, shape: tuple[int, ...], random: np.random.Generator) -> None:
    check(kernel, normal(random, *shape), normal(random, shape[-1]), normal(random, shape[-1]))


@each_kernel
@pytest.mark.parametrize("eps", [0.0, 1e-12, 1e-3, 10.0])
def test_eps(kernel: str, eps: float, random: np.random.Generator) -> None:
    check(kernel, normal(random, 3, 65), normal(random, 65), normal(random, 65), eps)


@each_kernel
@pytest.mark.parametrize("spread", [1e-15, 1e-3, 1e3, 1e15])
def test_magnitudes(kernel: str, spread: float, random: np.random.Generator) -> None:
    x = normal(random, 3, 257, spread=spread)
    check(kernel, x, normal(random, 257), normal(random, 257))


@each_kernel
@pytest.mark.parametrize("length", [64, 1021])
def test_large_mean(kernel: str, length: int, random: np.random.Generator) -> None:
    """The variance must come from differences: mean of squares minus squared mean cancels here."""
    x = normal(random, 3, length) + np.float32(3000)
    weight, bias = normal(random, length), normal(random, length)
    check(kernel, x, weight, bias)
    mean = x.mean(axis=-1, keepdims=True)
    variance = (x * x).mean(axis=-1, keepdims=True) - mean * mean
    mutant = (x - mean) / np.sqrt(np.abs(variance) + np.float32(1e-5)) * weight + bias
    expected = reference.layer_norm(x, weight, bias)
    assert worst_ratio(mutant, expected, tolerance.layer_norm(x, weight, bias, expected)) > 1


@each_kernel
@pytest.mark.parametrize("value", [4.0, 0.1, 1e10 / 3, -1e19 / 3, 1e30, LARGEST, 1e-40])
@pytest.mark.parametrize("length", [1, 5, 64, 77, 1021])
def test_constant_rows_give_the_bias(
    kernel: str, length: int, value: float, random: np.random.Generator
) -> None:
    """A mean that is some roundings off is all that a deviation of 0 is compared with."""
    weight, bias = normal(random, length), normal(random, length)
    x = np.full((3, length), value, np.float32)
    y = guarded("layer_norm", x.shape, x, weight, bias, kernel=kernel)
    limit = 2.0**-11 * np.abs(weight).max() + 1e-6
    np.testing.assert_allclose(y, np.tile(bias, (3, 1)), rtol=0, atol=limit)


@each_kernel
@pytest.mark.parametrize("spread", [1e18, 1e19, 3e19, 1e30, LARGEST / 8])
@pytest.mark.parametrize("length", [3, 65, 1021])
def test_squares_beyond_float32(
    kernel: str, length: int, spread: float, random: np.random.Generator
) -> None:
    """PyTorch gives NaN here, a variance of infinity the bias alone."""
    x = normal(random, 3, length).clip(-8, 8) * np.float32(spread)
    check(kernel, x, normal(random, length), normal(random, length))


@each_kernel
@pytest.mark.parametrize("length", [2, 65, 1021])
def test_sums_and_differences_beyond_float32(
    kernel: str, length: int, random: np.random.Generator
) -> None:
    weight, bias = normal(random, length), normal(random, length)
    check(
        kernel, np.linspace(0.5 * LARGEST, LARGEST, length).astype(np.float32)[None], weight, bias
    )
    signs = np.where(np.arange(length) % 2 == 0, 1.0, -1.0)
    check(kernel, (signs * LARGEST).astype(np.float32)[None], weight, bias)


@each_kernel
@pytest.mark.parametrize("spread", [1e-15, 1e-19, 1e-30, 1e-42])
@pytest.mark.parametrize("length", [65, 1021])
def test_squares_below_float32(
    kernel: str, length: int, spread: float, random: np.random.Generator
) -> None:
    """Without eps the deviation is all that counts, and its squares are 0 in float32."""
    x = (normal(random, 3, length).astype(np.float64) * spread).astype(np.float32)
    check(kernel, x, normal(random, length), normal(random, length), eps=0.0)


@each_kernel
@pytest.mark.parametrize("length", [65, 1021])
def test_a_row_in_double_touches_no_other(
    kernel: str, length: int, random: np.random.Generator
) -> None:
    x = normal(random, 7, length)
    x[2] *= np.float32(1e30)
    x[5] = 1e25
    weight, bias = normal(random, length), normal(random, length)
    check(kernel, x, weight, bias)
    plain = [row for row in range(7) if row not in (2, 5)]
    alone = function_of("layer_norm")(x[plain], weight, bias, kernel=kernel)
    together = function_of("layer_norm")(x, weight, bias, kernel=kernel, out=x)
    np.testing.assert_array_equal(together[plain], alone)


@each_kernel
@pytest.mark.parametrize("length", [8, 19, 77])
def test_special_values(kernel: str, length: int, random: np.random.Generator) -> None:
    x, weight, bias = normal(random, 5, length), normal(random, length), normal(random, length)
    x[1, length // 2] = np.nan
    x[2, 0] = np.inf
    x[3, length - 1] = -np.inf
    weight[3], bias[5] = np.nan, np.inf
    y = guarded("layer_norm", x.shape, x, weight, bias, kernel=kernel)
    assert np.all(np.isnan(y[1:4, [0, 1, 2]])), "a row with NaN or infinity is NaN throughout"
    assert np.all(np.isnan(y[:, 3]))
    np.testing.assert_array_equal(y[[0, 4], 5], np.inf)
    others = [column for column in range(length) if column not in (3, 5)]
    assert np.all(np.isfinite(y[[0, 4]][:, others])), "no other row or column is touched"


@each_kernel
@pytest.mark.parametrize("shape", [(5, 33), (LARGE_ROWS, LARGE_LENGTH)])
def test_in_place(kernel: str, shape: tuple[int, int], random: np.random.Generator) -> None:
    x, weight, bias = normal(random, *shape), normal(random, shape[1]), normal(random, shape[1])
    expected = reference.layer_norm(x, weight, bias)
    allowed = tolerance.layer_norm(x, weight, bias, expected)
    y = function_of("layer_norm")(x, weight, bias, kernel=kernel, out=x)
    assert_within(y, expected, allowed)


@pytest.mark.parametrize("length", [length for length in LENGTHS if length > 2])
def test_tolerance_catches_the_sample_variance(length: int, random: np.random.Generator) -> None:
    x, weight, bias = normal(random, 3, length), normal(random, length), normal(random, length)
    expected = reference.layer_norm(x, weight, bias)
    wide = reference.float64(x)
    deviation = np.sqrt(wide.var(axis=-1, keepdims=True, ddof=1) + 1e-5)
    mutant = (wide - wide.mean(axis=-1, keepdims=True)) / deviation * weight + bias
    assert worst_ratio(mutant, expected, tolerance.layer_norm(x, weight, bias, expected)) > 1
