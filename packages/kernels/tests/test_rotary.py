"""rotary: pairs of the last axis turned by the angle of their position."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
import tolerance
from harness import Float32, assert_within, function_of, guarded, kernels_of, normal, worst_ratio

import ablation_kernels

each_kernel = pytest.mark.parametrize("kernel", kernels_of("rotary"))
PAIRS = ("interleaved", "halves")
each_pairs = pytest.mark.parametrize("pairs", PAIRS)
#: Of a head: pairs around half of every vector width, tails, primes.
HALVES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65, 127)


def swapped(x: Any) -> Any:
    """(B, H, S, D) <-> (B, S, H, D)."""
    return np.ascontiguousarray(np.swapaxes(x, 1, 2))


def tables(seq_len: int, half: int) -> tuple[Float32, Float32]:
    """Cosines and sines as a model has them."""
    angles = np.outer(np.arange(seq_len), 10_000.0 ** -(np.arange(half) / half))
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def check(kernel: str, x: Float32, cos: Float32, sin: Float32) -> None:
    """In both layouts and with both kinds of pairs; x is (B, H, S, D)."""
    for pairs in PAIRS:
        expected = reference.rotary(x, cos, sin, pairs=pairs)
        allowed = tolerance.rotary(x, cos, sin, pairs)
        how: dict[str, Any] = {"pairs": pairs, "kernel": kernel}
        assert_within(guarded("rotary", x.shape, x, cos, sin, **how), expected, allowed)
        other = swapped(x)
        actual = guarded("rotary", other.shape, other, cos, sin, layout="bshd", **how)
        wanted = reference.rotary(other, cos, sin, "bshd", pairs)
        np.testing.assert_array_equal(swapped(wanted), expected)
        assert_within(actual, swapped(expected), swapped(allowed))


@each_kernel
@pytest.mark.parametrize("half", HALVES)
def test_head_sizes(kernel: str, half: int, random: np.random.Generator) -> None:
    check(kernel, normal(random, 2, 3, 5, 2 * half), *tables(5, half))


@each_kernel
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("rest", [1, 2, 9, 33])
def test_the_rest_of_a_head_is_copied(
    kernel: str, half: int, rest: int, random: np.random.Generator
) -> None:
    check(kernel, normal(random, 2, 3, 5, 2 * half + rest), *tables(5, half))


@each_kernel
@each_pairs
@pytest.mark.parametrize("n_heads", [1, 2, 3])
def test_the_rest_of_the_heads_is_copied(
    kernel: str, pairs: str, n_heads: int, random: np.random.Generator
) -> None:
    x, (cos, sin) = normal(random, 2, 3, 5, 19), tables(5, 8)
    how: dict[str, Any] = {"pairs": pairs, "n_heads": n_heads}
    expected = reference.rotary(x, cos, sin, **how)
    allowed = tolerance.rotary(x, cos, sin, pairs)
    allowed[:, n_heads:] = 0.0
    for layout, move in (("bhsd", np.copy), ("bshd", swapped)):
        given, every = move(x), {**how, "layout": layout, "kernel": kernel}
        actual = guarded("rotary", given.shape, given, cos, sin, **every)
        assert_within(actual, move(expected), move(allowed))
        in_place = function_of("rotary")(given, cos, sin, **every, out=given)
        np.testing.assert_array_equal(in_place, actual)


@each_kernel
@pytest.mark.parametrize("shape", [(1, 1, 1, 2), (1, 4, 1, 8), (3, 1, 7, 8), (2, 5, 331, 66)])
def test_shapes(kernel: str, shape: tuple[int, ...], random: np.random.Generator) -> None:
    """Any numbers as tables, other ones for every position."""
    half = shape[3] // 2
    check(
        kernel,
        normal(random, *shape),
        normal(random, shape[2], half),
        normal(random, shape[2], half),
    )


@each_kernel
@pytest.mark.parametrize("spread", [1e-30, 1e30])
def test_magnitudes(kernel: str, spread: float, random: np.random.Generator) -> None:
    check(kernel, normal(random, 2, 3, 5, 18, spread=spread), *tables(5, 9))


@each_kernel
@each_pairs
@pytest.mark.parametrize("half", [3, 8, 21])
def test_special_values_stay_in_their_pair(
    kernel: str, pairs: str, half: int, random: np.random.Generator
) -> None:
    x, (cos, sin) = normal(random, 1, 2, 4, 2 * half + 2), tables(4, half)
    members = reference.pair_members(half, pairs)
    first, second = (np.arange(2 * half)[part] for part in members)
    x[0, 0, 1, first[1]], x[0, 1, 3, second[-1]] = np.nan, np.inf
    x[0, 0, 2, -1] = np.nan  # of the rest
    y = guarded("rotary", x.shape, x, cos, sin, pairs=pairs, kernel=kernel)
    special = np.zeros(x.shape, bool)
    special[0, 0, 1, [first[1], second[1]]] = special[0, 1, 3, [first[-1], second[-1]]] = True
    special[0, 0, 2, -1] = True
    np.testing.assert_array_equal(~np.isfinite(y), special)


@each_kernel
@each_pairs
@pytest.mark.parametrize("layout", ["bhsd", "bshd"])
def test_in_place(kernel: str, pairs: str, layout: str, random: np.random.Generator) -> None:
    x = normal(random, 2, 67, 67, 39)
    cos, sin = normal(random, 67, 17), normal(random, 67, 17)
    expected = reference.rotary(x, cos, sin, layout, pairs)
    if layout == "bhsd":
        allowed = tolerance.rotary(x, cos, sin, pairs)
    else:
        allowed = swapped(tolerance.rotary(swapped(x), cos, sin, pairs))
    actual = function_of("rotary")(x, cos, sin, layout=layout, pairs=pairs, kernel=kernel, out=x)
    assert_within(actual, expected, allowed)


@each_pairs
def test_threads_change_nothing(pairs: Any, random: np.random.Generator) -> None:
    x, (cos, sin) = normal(random, 2, 5, 331, 70), tables(331, 33)
    how: dict[str, Any] = {"pairs": pairs, "kernel": "rotary_simd_parallel"}
    several = ablation_kernels.rotary(x, cos, sin, **how)
    ablation_kernels.set_num_threads(1)
    np.testing.assert_array_equal(ablation_kernels.rotary(x, cos, sin, **how), several)


def test_tolerance_catches_other_rotations(random: np.random.Generator) -> None:
    x, (cos, sin) = normal(random, 1, 2, 5, 16), tables(5, 8)
    expected, allowed = reference.rotary(x, cos, sin), tolerance.rotary(x, cos, sin)
    assert worst_ratio(reference.rotary(x, cos, -sin), expected, allowed) > 1000
    assert worst_ratio(reference.rotary(x, cos[::-1], sin[::-1]), expected, allowed) > 1000
    assert worst_ratio(reference.rotary(x, cos, sin, pairs="halves"), expected, allowed) > 1000
