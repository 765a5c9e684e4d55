"""sum, amax and cumsum along the last axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
import tolerance
from harness import Float32, assert_within, function_of, guarded, kernels_of, normal, worst_ratio
from shapes import LARGE_LENGTH, LARGE_ROWS, LENGTHS

import ablation_kernels

OPS = ("sum", "amax", "cumsum")
each_kernel = pytest.mark.parametrize(
    "op,kernel", [(op, kernel) for op in OPS for kernel in kernels_of(op)]
)
#: More than the 64 vectors of a block of the sum, with a tail.
BLOCKS = (1024, 1025, 2048, 4099, 70001)


def expected_of(op: str, x: Float32) -> tuple[reference.Array, reference.Array]:
    wide = reference.float64(x)
    with np.errstate(invalid="ignore"):
        if op == "amax":
            largest = wide.max(axis=-1, keepdims=True)
            return largest, np.zeros_like(largest)
        if op == "cumsum":
            sums = np.cumsum(wide, axis=-1)
            return sums, tolerance.function(sums, 1)
        magnitude = np.abs(wide).sum(axis=-1, keepdims=True)
        return wide.sum(axis=-1, keepdims=True), tolerance.sums(magnitude)


def check(op: str, kernel: str, x: Float32) -> None:
    expected, allowed = expected_of(op, x)
    assert_within(guarded(op, expected.shape, x, kernel=kernel), expected, allowed)


@each_kernel
@pytest.mark.parametrize("length", (*LENGTHS, *BLOCKS))
def test_lengths(op: str, kernel: str, length: int, random: np.random.Generator) -> None:
    check(op, kernel, normal(random, 3, length))
    check(op, kernel, normal(random, length) + np.float32(1000))


@each_kernel
@pytest.mark.parametrize(
    "shape", [(33,), (2, 3, 5, 17), (LARGE_ROWS, LARGE_LENGTH), (2000, 3), (5000, 1)]
)
def test_ranks_and_large(
    op: str, kernel: str, shape: tuple[int, ...], random: np.random.Generator
) -> None:
    check(op, kernel, normal(random, *shape))


@each_kernel
@pytest.mark.parametrize("length", [*LENGTHS, *BLOCKS])
def test_whole_numbers_are_exact(
    op: str, kernel: str, length: int, random: np.random.Generator
) -> None:
    """As long as their magnitudes add up to at most 2^24, the last sums reaching it."""
    most = 2**24 // length
    x = np.full((4, length), most, np.float32)
    x[0, -1] += 2**24 % length
    x[1] = -x[0]
    x[2] = random.integers(-most, most + 1, length)
    x[3] = random.integers(0, 2, length)
    whole = x.astype(np.int64)
    expected = {
        "sum": whole.sum(-1, keepdims=True),
        "amax": whole.max(-1, keepdims=True),
        "cumsum": whole.cumsum(-1),
    }[op]
    assert abs(whole[0].sum()) == 2**24
    actual = guarded(op, expected.shape, x, kernel=kernel)
    np.testing.assert_array_equal(actual.astype(np.int64), expected)


@pytest.mark.parametrize("kernel", kernels_of("cumsum"))
def test_running_sums_of_whole_numbers_that_cancel(kernel: str) -> None:
    """Each sum is at most 2^24; the magnitudes together are far above."""
    x = np.tile(np.array([2**24 - 1, 1 - 2**24], np.float32), 501)[None, :-1]
    expected = np.cumsum(x.astype(np.int64), -1)
    np.testing.assert_array_equal(guarded("cumsum", x.shape, x, kernel=kernel), expected)


@each_kernel
@pytest.mark.parametrize("length", [1, 8, 19, 64, 77, 1100])
def test_special_values(op: str, kernel: str, length: int, random: np.random.Generator) -> None:
    x = normal(random, 9, length)
    x[1, length // 2] = np.nan
    x[2, 0] = np.inf
    x[3, length - 1] = -np.inf
    x[4] = -np.inf
    x[5, 0], x[5, -1] = np.inf, -np.inf
    x[6, 0], x[6, -1] = np.nan, np.inf
    x[7, 0], x[7, -1] = np.inf, np.nan
    x[8] = np.nan
    check(op, kernel, x)


@pytest.mark.parametrize("op,kernel", [(o, k) for o in ("sum", "cumsum") for k in kernels_of(o)])
@pytest.mark.parametrize("length", [4, 64, 70, 3000])
def test_sums_that_overflow_on_the_way(op: str, kernel: str, length: int) -> None:
    """The sum is a number, parts of it are beyond float32."""
    x = np.full((2, length), 3e38, np.float32)
    x[0, length // 2 :] *= -1
    expected, allowed = expected_of(op, x)
    expected = np.where(np.abs(expected) > np.finfo(np.float32).max, np.inf, expected)
    allowed = np.full_like(expected, 1e33) if op == "sum" else allowed
    assert_within(guarded(op, expected.shape, x, kernel=kernel), expected, allowed)


@pytest.mark.parametrize("kernel", kernels_of("cumsum"))
def test_cumsum_in_place(kernel: str, random: np.random.Generator) -> None:
    x = normal(random, LARGE_ROWS, LARGE_LENGTH)
    expected, allowed = expected_of("cumsum", x)
    assert_within(function_of("cumsum")(x, kernel=kernel, out=x), expected, allowed)


@pytest.mark.parametrize("op", ["sum", "amax"])
def test_a_reduction_is_not_in_place(op: str) -> None:
    x = np.ones((4, 1), np.float32)
    with pytest.raises(ValueError, match="'out' overlaps argument 'x'"):
        function_of(op)(x, out=x)


@pytest.mark.parametrize("length", [length for length in LENGTHS if length > 1])
def test_tolerance_catches_a_dropped_tail(length: int, random: np.random.Generator) -> None:
    x = normal(random, 3, length)
    expected, allowed = expected_of("sum", x)
    mutant = reference.float64(x[:, :-1]).sum(-1, keepdims=True)
    assert worst_ratio(mutant, expected, allowed) > 10


def test_rows_of_a_stage(random: np.random.Generator) -> None:
    """A softmax written out shares one fork-join: every row needs its own maximum and sum alone."""
    rows, length = 61, 40
    block = rows * length * 4 + 64 - rows * length * 4 % 64
    values: list[tuple[Any, ...]] = [
        ("input", (rows, length)),
        ("arena", (rows, 1), 0),
        ("arena", (rows, length), block),
        ("arena", (rows, 1), 2 * block),
        ("output", (rows, length)),
    ]
    calls: list[tuple[Any, ...]] = [
        ("amax_simd_parallel", [0], 1, {}, 0, "largest"),
        ("sub_simd_parallel", [0, 1], 2, {}, 0, "shifted"),
        ("exp_simd_parallel", [2], 2, {}, 0, "power"),
        ("sum_simd_parallel", [2], 3, {}, 0, "total"),
        ("div_simd_parallel", [2, 3], 4, {}, 0, "weights"),
    ]
    x = normal(random, rows, length)
    expected = reference.softmax(x)
    for stages in ([], [(0, 5)]):
        program = ablation_kernels.Program(values, calls, 3 * block, stages)
        assert_within(program.run([x])[0], expected, tolerance.softmax(x, expected))
