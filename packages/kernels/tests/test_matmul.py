"""matmul: products of every shape, and what is folded into them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
import tolerance
from harness import Float32, assert_within, guarded, kernels_of, normal, worst_ratio
from shapes import PRODUCTS

import ablation_kernels

KERNELS = kernels_of("matmul")
each_kernel = pytest.mark.parametrize("kernel", KERNELS)


def check(kernel: str, a: Float32, b: Float32, **keywords: Any) -> None:
    expected = reference.matmul(a, b, **keywords)
    actual = guarded("matmul", expected.value.shape, a, b, kernel=kernel, **keywords)
    numbers = {name: keywords[name] for name in ("transpose_b", "alpha") if name in keywords}
    allowed = tolerance.product(kernel, a, b, expected.magnitude, **numbers)
    assert_within(actual, expected.value, allowed)


@each_kernel
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("m,k,n", PRODUCTS)
def test_product(
    kernel: str, m: int, k: int, n: int, transpose_b: bool, random: np.random.Generator
) -> None:
    b = normal(random, n, k) if transpose_b else normal(random, k, n)
    check(kernel, normal(random, m, k), b, transpose_b=transpose_b)


@each_kernel
@pytest.mark.parametrize("threads", [2, 3, 4, 7, 16])
@pytest.mark.parametrize("shape", [(29, 64, 331), (331, 64, 29), (211, 64, 223), (50, 2000, 50)])
def test_cuts(
    kernel: str, shape: tuple[int, int, int], threads: int, random: np.random.Generator
) -> None:
    """Tiles of the output for every number of threads: none missing, none beyond the edge."""
    ablation_kernels.set_num_threads(threads)
    m, k, n = shape
    a, bias, addend = normal(random, 2, m, k), normal(random, n), normal(random, 2, m, n)
    check(kernel, a, normal(random, k, n), bias=bias, addend=addend, activation="relu")
    check(kernel, a, normal(random, 2, n, k), transpose_b=True)


@each_kernel
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("batch", [(1,), (3,), (2, 3), (1, 1, 5), (2, 1, 3, 2)])
def test_batches_fold_or_pair(
    kernel: str, batch: tuple[int, ...], transpose_b: bool, random: np.random.Generator
) -> None:
    a = normal(random, *batch, 9, 21)
    matrix = (13, 21) if transpose_b else (21, 13)
    check(kernel, a, normal(random, *matrix), transpose_b=transpose_b)
    check(kernel, a, normal(random, *batch, *matrix), transpose_b=transpose_b)


@each_kernel
@pytest.mark.parametrize("activation", [None, *reference.ACTIVATIONS])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("has_addend", [False, True])
@pytest.mark.parametrize("shape", [(1, 3, 1), (2, 19, 35), (1, 130, 97)])
def test_bias_addend_and_activation(
    kernel: str,
    activation: str | None,
    has_bias: bool,
    has_addend: bool,
    shape: tuple[int, int, int],
    random: np.random.Generator,
) -> None:
    batch, m, n = shape
    check(
        kernel,
        normal(random, batch, m, 23),
        normal(random, 23, n),
        alpha=0.25,
        bias=normal(random, n) if has_bias else None,
        addend=normal(random, batch, m, n) if has_addend else None,
        activation=activation,
    )


@each_kernel
def test_batched_product_with_bias_and_addend(kernel: str, random: np.random.Generator) -> None:
    check(
        kernel,
        normal(random, 2, 3, 17, 11),
        normal(random, 2, 3, 29, 11),
        transpose_b=True,
        alpha=-1.5,
        bias=normal(random, 29),
        addend=normal(random, 2, 3, 17, 29),
        activation="gelu",
    )


@each_kernel
def test_addend_may_be_the_output(kernel: str, random: np.random.Generator) -> None:
    a, b, bias = normal(random, 37, 24), normal(random, 24, 41), normal(random, 41)
    out = normal(random, 37, 41)
    expected = reference.matmul(a, b, bias=bias, addend=out.copy())
    ablation_kernels.matmul(a, b, bias=bias, addend=out, kernel=kernel, out=out)
    assert_within(out, expected.value, tolerance.product(kernel, a, b, expected.magnitude))


@each_kernel
def test_large_and_small_magnitudes(kernel: str, random: np.random.Generator) -> None:
    check(kernel, normal(random, 17, 33, spread=1e17), normal(random, 33, 9, spread=1e17))
    check(kernel, normal(random, 17, 33, spread=1e-12), normal(random, 33, 9, spread=1e-12))
    check(kernel, normal(random, 17, 33), normal(random, 33, 9), alpha=1e30)


@pytest.mark.parametrize("kernel", [name for name in KERNELS if "strassen" not in name])
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_stay_in_their_row_and_column(
    kernel: str, special: float, random: np.random.Generator
) -> None:
    a, b = normal(random, 11, 19), normal(random, 19, 23)
    a[4, 7] = special
    check(kernel, a, b)
    a[4, 7] = 1
    b[3, 20] = special
    check(kernel, a, b, activation="relu")


@each_kernel
def test_inputs_are_left_alone(kernel: str, random: np.random.Generator) -> None:
    arrays: dict[str, Any] = {"bias": normal(random, 7), "addend": normal(random, 5, 7)}
    a, b = normal(random, 5, 6), normal(random, 6, 7)
    before = [array.copy() for array in (a, b, *arrays.values())]
    ablation_kernels.matmul(a, b, kernel=kernel, **arrays)
    for array, copy in zip((a, b, *arrays.values()), before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("m,k,n", [shape for shape in PRODUCTS if shape[1] > 1])
def test_tolerance_catches_a_dropped_term(
    m: int, k: int, n: int, random: np.random.Generator
) -> None:
    a, b = normal(random, m, k), normal(random, k, n)
    expected = reference.matmul(a, b)
    short = reference.matmul(a[:, :-1], b[:-1]).value
    assert worst_ratio(short, expected.value, tolerance.matmul(k, expected.magnitude)) > 10


def test_tolerance_catches_the_other_gelu(random: np.random.Generator) -> None:
    a, b = normal(random, 19, 23), normal(random, 23, 35)
    expected = reference.matmul(a, b, activation="gelu", alpha=0.25)
    other = reference.matmul(a, b, activation="gelu_tanh", alpha=0.25).value
    assert worst_ratio(other, expected.value, tolerance.matmul(23, expected.magnitude)) > 10
