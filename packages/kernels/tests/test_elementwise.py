"""The element-wise ops: broadcasting, special values, in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
import tolerance
from harness import (
    FUNCTIONS,
    Float32,
    assert_within,
    function_of,
    guarded,
    kernels_of,
    normal,
    worst_ratio,
)
from shapes import BROADCASTS, LARGE_LENGTH, LARGE_ROWS, LENGTHS

BINARY: dict[str, Any] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    **{op: getattr(np, op) for op in ("maximum", "minimum", "equal", "less", "less_equal")},
    "pow": np.power,
}
#: Off by a unit in the last place beyond the rounding, or more: the others are exact.
ROUNDED = {"div": tolerance.divide, "pow": lambda value: tolerance.function(value, 2)}
UNARY = ("relu", "gelu", "silu", *FUNCTIONS)
SPECIAL = (0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-38, -1e-38, 1e-45)

each_binary = pytest.mark.parametrize(
    "op,kernel", [(op, kernel) for op in BINARY for kernel in kernels_of(op)]
)
each_unary = pytest.mark.parametrize(
    "op,kernel", [(op, kernel) for op in UNARY for kernel in kernels_of(op)]
)


def expected_binary(op: str, a: Float32, b: Float32) -> tuple[reference.Array, reference.Array]:
    """The correctly rounded result, and how far a kernel may be from it."""
    with np.errstate(all="ignore"):
        wide = reference.float64(BINARY[op](reference.float64(a), reference.float64(b)))
        value = np.asarray(tolerance.float64_after(wide))
        return value, ROUNDED.get(op, np.zeros_like)(value)


def check_binary(op: str, kernel: str, a: Float32, b: Float32) -> None:
    value, allowed = expected_binary(op, a, b)
    assert_within(guarded(op, value.shape, a, b, kernel=kernel), value, allowed)


def expected_unary(op: str, x: Float32) -> tuple[reference.Array, reference.Array]:
    if op == "relu":
        return reference.relu(x), tolerance.exact(reference.relu(x))
    if op == "silu":
        return reference.silu(x), tolerance.silu(reference.silu(x))
    if op in FUNCTIONS:
        by_definition = getattr(reference, op, None) or getattr(np, op)
        with np.errstate(all="ignore"):
            expected = np.asarray(by_definition(reference.float64(x)))
        return expected, tolerance.function(expected, FUNCTIONS[op])
    return reference.gelu(x), tolerance.gelu(x)


@each_binary
@pytest.mark.parametrize("a_shape,b_shape", BROADCASTS)
def test_binary_broadcasts(
    op: str,
    kernel: str,
    a_shape: tuple[int, ...],
    b_shape: tuple[int, ...],
    random: np.random.Generator,
) -> None:
    check_binary(op, kernel, normal(random, *a_shape), normal(random, *b_shape))


@each_binary
@pytest.mark.parametrize("length", LENGTHS)
def test_binary_lengths(op: str, kernel: str, length: int, random: np.random.Generator) -> None:
    a, b = normal(random, length), normal(random, length)
    check_binary(op, kernel, a, b)
    check_binary(op, kernel, a, b[:1])
    check_binary(op, kernel, a[:1], b)


@each_binary
def test_binary_special_values(op: str, kernel: str) -> None:
    column = np.array(SPECIAL, np.float32)[:, None]
    row = np.tile(np.array(SPECIAL, np.float32), 3)
    if op in ROUNDED:  # a result below the normal numbers may be flushed: by tolerance above
        row = row[np.abs(np.nan_to_num(row)) < 1e38]
    check_binary(op, kernel, np.ascontiguousarray(column), row)
    check_binary(op, kernel, np.ascontiguousarray(row[:, None]), column[:, 0].copy())


@each_binary
@pytest.mark.parametrize("shape", [(5, 33), (LARGE_ROWS, LARGE_LENGTH)])
def test_binary_in_place(
    op: str, kernel: str, shape: tuple[int, int], random: np.random.Generator
) -> None:
    a, b = normal(random, *shape), normal(random, *shape)
    value, allowed = expected_binary(op, a, b)
    left, right = a.copy(), b.copy()
    assert_within(function_of(op)(left, b, kernel=kernel, out=left), value, allowed)
    assert_within(function_of(op)(a, right, kernel=kernel, out=right), value, allowed)
    same, allowed = expected_binary(op, a, a)
    twice = a.copy()
    assert_within(function_of(op)(twice, twice, kernel=kernel, out=twice), same, allowed)
    row = normal(random, shape[1])
    value, allowed = expected_binary(op, a, row)
    assert_within(function_of(op)(a, row, kernel=kernel, out=a), value, allowed)


@each_unary
@pytest.mark.parametrize("length", LENGTHS)
def test_unary_lengths(op: str, kernel: str, length: int, random: np.random.Generator) -> None:
    x = normal(random, length, spread=3)
    value, allowed = expected_unary(op, x)
    assert_within(guarded(op, x.shape, x, kernel=kernel), value, allowed)


@each_unary
def test_unary_large_and_in_place(op: str, kernel: str, random: np.random.Generator) -> None:
    x = normal(random, LARGE_ROWS, LARGE_LENGTH)
    value, allowed = expected_unary(op, x)
    assert_within(guarded(op, x.shape, x, kernel=kernel), value, allowed)
    assert_within(function_of(op)(x, kernel=kernel, out=x), value, allowed)


@pytest.mark.parametrize("kernel", kernels_of("relu"))
@pytest.mark.parametrize("length", [len(SPECIAL), 41])
def test_relu_special_values(kernel: str, length: int) -> None:
    x = np.resize(np.array(SPECIAL, np.float32), length)
    expected = reference.relu(x)
    assert_within(guarded("relu", x.shape, x, kernel=kernel), expected, np.zeros_like(expected))


#: Where a function's branches meet, and where its results leave float32 or become 1.
EDGES: dict[str, tuple[float, ...]] = {
    "exp": (88.72283, 88.7229, -87.33654, -103.97, -103.98, -104.0, -110.0),
    "tanh": (0.625, 9.01, 9.02, 44.0, 44.5, 60.0),
    "erf": (1.0, 3.9, 4.0, 10.6, 10.7),
    "sigmoid": (-87.4, -103.9, -104.1, 17.0),
}


@pytest.mark.parametrize(
    "op,kernel", [(op, kernel) for op in FUNCTIONS for kernel in kernels_of(op)]
)
def test_functions_over_their_whole_range(op: str, kernel: str) -> None:
    """Every magnitude of both signs, special values, edges; tiny arguments keep their digits."""
    edges = np.array(EDGES.get(op, (1.0,)), np.float32)
    magnitudes = np.exp(np.linspace(np.log(1e-37), np.log(3e38), 3001)).astype(np.float32)
    near = np.linspace(-12, 12, 4001, dtype=np.float32)
    beside = [np.nextafter(edges, np.float32(bound)) for bound in (-np.inf, np.inf)]
    parts = [magnitudes, near, edges, *beside, np.array(SPECIAL, np.float32)]
    x = np.concatenate([*parts, -np.concatenate(parts)])
    expected, allowed = expected_unary(op, x)
    actual = guarded(op, x.shape, x, kernel=kernel)
    is_lost = np.isinf(tolerance.float64_after(expected))
    expected = np.where(is_lost, np.copysign(np.inf, expected), expected)
    assert_within(actual, expected, allowed)
    zero = actual[x == 0]
    if op in ("tanh", "erf", "sqrt", "sin"):
        np.testing.assert_array_equal(np.signbit(zero), np.signbit(x[x == 0]))


@pytest.mark.parametrize("op", ["tanh", "erf", "sigmoid", "exp"])
def test_tolerance_catches_a_function_that_cancels(op: str) -> None:
    """1 - 2 / (exp(2 x) + 1) and its like lose the digits of small results."""
    x = np.linspace(-30, -1e-6, 301, dtype=np.float32)
    expected, allowed = expected_unary(op, x)
    one = np.float32(1)
    mutants = {
        "tanh": one - 2 / (np.exp(2 * x) + one),
        "erf": one - (one - expected.astype(np.float32)),
        "sigmoid": one - one / (one + np.exp(x)),
        "exp": one + np.expm1(x),
    }
    assert worst_ratio(mutants[op], expected, allowed) > 10


@pytest.mark.parametrize("kernel", kernels_of("gelu"))
def test_gelu_by_the_sigmoid(kernel: str) -> None:
    """Of negative numbers as well, whose results are small, to few units of the result."""
    x = np.concatenate(
        [
            np.linspace(-70, 15, 8001, dtype=np.float32),
            np.array([0.0, -0.0, 1e-30, -1e-30, 50, 1e30, np.inf, np.nan], np.float32),
        ]
    )
    actual = guarded("gelu", x.shape, x, approximate="sigmoid", kernel=kernel)
    allowed = tolerance.gelu(np.nan_to_num(x, posinf=0.0), "sigmoid")
    assert_within(actual, reference.gelu(x, "sigmoid"), allowed)
    below = np.array([-np.inf], np.float32)
    assert np.isnan(guarded("gelu", (1,), below, approximate="sigmoid", kernel=kernel))


@pytest.mark.parametrize("kernel", kernels_of("gelu"))
@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_over_its_whole_range(kernel: str, approximate: str) -> None:
    x = np.concatenate(
        [
            np.linspace(-15, 15, 4001, dtype=np.float32),
            np.array([0.0, -0.0, 1e-30, -1e-30, 1e-6, 50, -50, 1e4, -1e4], np.float32),
        ]
    )
    actual = guarded("gelu", x.shape, x, approximate=approximate, kernel=kernel)
    assert_within(actual, reference.gelu(x, approximate), tolerance.gelu(x))


@pytest.mark.parametrize("kernel", kernels_of("gelu"))
@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_special_values(kernel: str, approximate: str) -> None:
    x = np.resize(np.array([1.0, np.nan, np.inf, -np.inf, 1e30], np.float32), 37)
    y = guarded("gelu", x.shape, x, approximate=approximate, kernel=kernel)
    np.testing.assert_array_equal(np.isnan(y[np.isnan(x)]), True)
    np.testing.assert_array_equal(y[x == np.inf], np.inf)
    # -infinity * 0 is NaN by the definition, 0 in the limit: PyTorch gives both, by approximation.
    below = y[x == -np.inf]
    assert np.all(np.isnan(below) | (below == 0))
    np.testing.assert_array_equal(y[x == np.float32(1e30)], np.float32(1e30))


def test_gelu_tolerance_tells_the_forms_apart() -> None:
    x = np.linspace(-4, 4, 101, dtype=np.float32)
    assert worst_ratio(reference.gelu(x, "tanh"), reference.gelu(x), tolerance.gelu(x)) > 10


@pytest.mark.parametrize("kernel", kernels_of("silu"))
def test_silu_over_its_whole_range(kernel: str) -> None:
    """Where the sigmoid is far below 1e-7 the relative error must stay small."""
    x = np.concatenate(
        [
            np.linspace(-110, 110, 8001, dtype=np.float32),
            np.array([0.0, -0.0, 1e-30, -1e-30, 1e-6, 3e38, -3e38], np.float32),
        ]
    )
    expected = reference.silu(x)
    assert_within(guarded("silu", x.shape, x, kernel=kernel), expected, tolerance.silu(expected))


def test_silu_tolerance_tells_it_from_an_exponential_that_overflows() -> None:
    x = np.linspace(-87, -20, 101, dtype=np.float32)
    expected = reference.silu(x)
    mutant = x * (np.float32(0.5) + np.float32(0.5) * np.tanh(x / 2))
    assert worst_ratio(mutant, expected, tolerance.silu(expected)) > 10


@pytest.mark.parametrize("kernel", kernels_of("silu"))
def test_silu_special_values(kernel: str) -> None:
    x = np.resize(np.array([1.0, np.nan, np.inf, -np.inf, 1e30], np.float32), 37)
    y = guarded("silu", x.shape, x, kernel=kernel)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x) | np.isneginf(x))
    np.testing.assert_array_equal(y[x == np.inf], np.inf)
    np.testing.assert_array_equal(y[x == np.float32(1e30)], np.float32(1e30))


@pytest.mark.parametrize("kernel", kernels_of("silu_mul"))
@pytest.mark.parametrize("length", LENGTHS)
def test_silu_mul(kernel: str, length: int, random: np.random.Generator) -> None:
    a, b = normal(random, 3, length, spread=4), normal(random, 3, length, spread=100)
    expected = reference.silu(a) * reference.float64(b)
    actual = guarded("silu_mul", a.shape, a, b, kernel=kernel)
    assert_within(actual, expected, tolerance.silu(expected, b))


@pytest.mark.parametrize("kernel", kernels_of("silu_mul"))
def test_silu_mul_large_special_and_in_place(kernel: str, random: np.random.Generator) -> None:
    a, b = normal(random, 2, LARGE_ROWS, LARGE_LENGTH), normal(random, 2, LARGE_ROWS, LARGE_LENGTH)
    a[0, 3, 7], a[1, 66, 2052], b[0, 5, 1], b[1, 0, 2000] = np.nan, -np.inf, np.inf, np.nan
    with np.errstate(invalid="ignore"):
        expected = reference.silu(a) * reference.float64(b)
    allowed = tolerance.silu(expected, np.where(np.isfinite(b), b, 0))
    assert_within(guarded("silu_mul", a.shape, a, b, kernel=kernel), expected, allowed)
    left, right = a.copy(), b.copy()
    assert_within(function_of("silu_mul")(left, b, kernel=kernel, out=left), expected, allowed)
    assert_within(function_of("silu_mul")(a, right, kernel=kernel, out=right), expected, allowed)


@pytest.mark.parametrize("kernel", kernels_of("rsqrt"))
@pytest.mark.parametrize("length", [*LENGTHS, 67 * 2053])
def test_rsqrt(kernel: str, length: int, random: np.random.Generator) -> None:
    x = np.exp(normal(random, length, spread=20)).astype(np.float32)
    expected = reference.rsqrt(x)
    allowed = tolerance.divide(expected)
    assert_within(guarded("rsqrt", x.shape, x, kernel=kernel), expected, allowed)
    assert_within(function_of("rsqrt")(x, kernel=kernel, out=x), expected, allowed)


@pytest.mark.parametrize("kernel", kernels_of("rsqrt"))
def test_rsqrt_special_values(kernel: str) -> None:
    x = np.resize(np.array([4.0, np.nan, np.inf, -np.inf, 0.0, -1.0, 3e38], np.float32), 37)
    expected = reference.rsqrt(x)
    allowed = tolerance.divide(expected)
    assert_within(guarded("rsqrt", x.shape, x, kernel=kernel), expected, allowed)


@pytest.mark.parametrize("kernel", kernels_of("bias_relu"))
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("rows", [1, 3])
def test_bias_relu(kernel: str, rows: int, length: int, random: np.random.Generator) -> None:
    x, bias = normal(random, rows, length), normal(random, length)
    expected = tolerance.float64_after(reference.bias_relu(x, bias))
    actual = guarded("bias_relu", x.shape, x, bias, kernel=kernel)
    assert_within(actual, expected, np.zeros_like(expected))


@pytest.mark.parametrize("kernel", kernels_of("bias_relu"))
def test_bias_relu_large_special_and_in_place(kernel: str, random: np.random.Generator) -> None:
    x, bias = normal(random, 2, LARGE_ROWS, LARGE_LENGTH), normal(random, LARGE_LENGTH)
    x[0, 3, 7], x[1, 66, 2052], bias[5] = np.nan, np.inf, -np.inf
    expected = tolerance.float64_after(reference.bias_relu(x, bias))
    nothing = np.zeros_like(expected)
    assert_within(guarded("bias_relu", x.shape, x, bias, kernel=kernel), expected, nothing)
    assert_within(function_of("bias_relu")(x, bias, kernel=kernel, out=x), expected, nothing)


@pytest.mark.parametrize("kernel", kernels_of("where"))
@pytest.mark.parametrize(
    "shapes",
    [
        ((17,), (17,), (17,)),
        ((5, 33), (5, 33), ()),
        ((33,), (5, 33), (5, 1)),
        ((1, 1, 7, 7), (2, 3, 7, 7), ()),
        ((5, 1), (), (33,)),
        ((), (), ()),
        ((67, 1031), (67, 1031), (67, 1031)),
        ((1031,), (67, 1), (67, 1031)),
    ],
)
def test_where(
    kernel: str, shapes: tuple[tuple[int, ...], ...], random: np.random.Generator
) -> None:
    condition, x, y = (normal(random, *shape) for shape in shapes)
    condition = np.asarray(np.where(condition > 0, condition, 0), np.float32)
    expected = reference.where(condition, x, y)
    actual = guarded("where", expected.shape, condition, x, y, kernel=kernel)
    assert_within(actual, expected, np.zeros_like(expected))


@pytest.mark.parametrize("kernel", kernels_of("where"))
def test_where_special_values(kernel: str) -> None:
    condition = np.array([0.0, -0.0, np.nan, np.inf, 1e-45, -1.0], np.float32)
    x = np.array([np.nan, 1, 2, np.nan, 4, -np.inf], np.float32)
    y = np.array([10, np.inf, np.nan, 13, np.nan, np.nan], np.float32)
    expected = np.array([10, np.inf, 2, np.nan, 4, -np.inf])
    actual = guarded("where", (6,), condition, x, y, kernel=kernel)
    assert_within(actual, expected, np.zeros(6))


@pytest.mark.parametrize("kernel", kernels_of("where"))
@pytest.mark.parametrize("target", [0, 1, 2])
def test_where_in_place(kernel: str, target: int, random: np.random.Generator) -> None:
    arrays = [normal(random, 67, 331) for _ in range(3)]
    arrays[0] = (arrays[0] > 0).astype(np.float32)
    expected = reference.where(*arrays)
    out = arrays[target]
    actual = function_of("where")(*arrays, kernel=kernel, out=out)
    assert_within(actual, expected, np.zeros_like(expected))
