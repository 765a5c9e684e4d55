"""attention: q, k and v in one array, with fewer heads of k and v; scores with a soft cap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
import tolerance
from harness import Float32, assert_within, guarded, kernels_of, normal, worst_ratio

import ablation_kernels

KERNELS = kernels_of("attention")
each_kernel = pytest.mark.parametrize("kernel", KERNELS)

Qkv = tuple[Float32, Float32, Float32]
#: (B, H, Hk, S, D)
Sizes = tuple[int, int, int, int, int]

#: Heads of their own, one for all, some for some; one token, primes, tiles of keys and queries.
SHAPES: tuple[Sizes, ...] = (
    (1, 1, 1, 1, 1),
    (2, 4, 2, 1, 8),
    (1, 71, 1, 5, 4),
    (2, 6, 3, 37, 7),
    (1, 4, 4, 33, 16),
    (2, 6, 2, 130, 33),
    (1, 8, 2, 257, 64),
)
each_shape = pytest.mark.parametrize("shape", SHAPES)


def make(random: np.random.Generator, shape: Sizes) -> Qkv:
    """q (B, H, S, D), k and v (B, Hk, S, D)."""
    batch, heads, kv_heads, length, size = shape
    q = normal(random, batch, heads, length, size)
    k, v = (normal(random, batch, kv_heads, length, size) for _ in "kv")
    return q, k, v


def joined(qkv: Qkv) -> Float32:
    """(B, S, H + 2 Hk, D)."""
    return np.ascontiguousarray(np.concatenate([x.swapaxes(1, 2) for x in qkv], axis=2))


def attend(kernel: str, qkv: Qkv, **keywords: Any) -> Float32:
    """(B, H, S, D) of one array, written between guard bytes."""
    batch, heads, length, size = qkv[0].shape
    shape, given = (batch, length, heads, size), joined(qkv)
    settings = {"layout": "qkv", "n_heads": heads, **keywords}
    return guarded("attention", shape, given, kernel=kernel, **settings).swapaxes(1, 2)


def check(kernel: str, qkv: Qkv, tiles: tuple[int, int] = (0, 0), **keywords: Any) -> None:
    expected = reference.attention(*qkv, **keywords)
    actual = attend(kernel, qkv, tile_q=tiles[0], tile_k=tiles[1], **keywords)
    allowed = tolerance.attention(expected, qkv[2], qkv[0].shape[-1])
    assert_within(np.ascontiguousarray(actual), expected.value, allowed)


@each_kernel
@each_shape
def test_shapes(kernel: str, shape: Sizes, random: np.random.Generator) -> None:
    qkv = make(random, shape)
    for tiles in ((0, 0), (5, 7)):
        check(kernel, qkv, tiles)
        check(kernel, qkv, tiles, causal=True, scale=-0.3)
        check(kernel, qkv, tiles, causal=True, window=9)


@each_kernel
def test_masks(kernel: str, random: np.random.Generator) -> None:
    batch, heads, length = 2, 6, 40
    qkv = make(random, (batch, heads, 2, length, 8))
    for shape in ((batch, 1, 1, length), (1, heads, length, length), (batch, heads, length, 1)):
        mask = np.where(random.random(shape) < 0.4, -np.inf, 0.0).astype(np.float32)
        mask[..., 0] = 0
        check(kernel, qkv, mask=mask)
        check(kernel, qkv, (4, 32), mask=normal(random, *shape), causal=True)


@each_kernel
@each_shape
def test_the_bits_are_those_of_three_arrays(
    kernel: str, shape: Sizes, random: np.random.Generator
) -> None:
    """With causal, where no heads are taken together."""
    qkv = make(random, shape)
    apart = [np.ascontiguousarray(x.swapaxes(1, 2)) for x in qkv]
    three = ablation_kernels.attention(*apart, layout="bshd", causal=True, kernel=kernel)
    np.testing.assert_array_equal(attend(kernel, qkv, causal=True), three.swapaxes(1, 2))


@each_kernel
def test_as_many_heads_are_the_array_of_five_axes(kernel: str, random: np.random.Generator) -> None:
    qkv = make(random, (2, 3, 3, 50, 16))
    stacked = joined(qkv).reshape(2, 50, 3, 3, 16)
    five = ablation_kernels.attention(stacked, layout="qkv", kernel=kernel)
    np.testing.assert_array_equal(attend(kernel, qkv), five.swapaxes(1, 2))


def test_keys_are_packed_once_for_all_heads() -> None:
    """Scratch holds the packed keys and values of one head, whatever number of heads reads them."""
    name = "attention_flash_packed_simd_parallel"

    def scratch(heads: int, kv_heads: int) -> int:
        settings = {"layout": "qkv", "n_heads": heads, "tile_q": 64}
        shape = (1, 1024, heads + 2 * kv_heads, 64)
        return ablation_kernels.scratch_bytes(name, [shape], settings, 2)

    assert scratch(8, 1) == scratch(1, 1) < scratch(8, 8)


@each_kernel
def test_special_values_stay_in_their_heads(kernel: str, random: np.random.Generator) -> None:
    q, k, v = make(random, (1, 4, 2, 20, 8))
    k[0, 1, 7, 3], v[0, 0, 5, 2] = np.nan, np.nan
    out = attend(kernel, (q, k, v))
    assert np.isnan(out[0, 2:]).all()
    assert np.isnan(out[0, :2, :, 2]).all()
    assert np.isfinite(np.delete(out[0, :2], 2, axis=-1)).all()


@each_kernel
def test_the_same_for_any_number_of_threads(kernel: str, random: np.random.Generator) -> None:
    for shape, settings in (
        ((1, 6, 2, 270, 16), {"causal": True}),
        ((2, 27, 9, 40, 40), {"softcap": 3.0}),
    ):
        qkv = make(random, shape)
        ablation_kernels.set_num_threads(1)
        serial = attend(kernel, qkv, **settings)
        for threads in (2, 3, 16):
            ablation_kernels.set_num_threads(threads)
            np.testing.assert_array_equal(attend(kernel, qkv, **settings), serial)


# Soft caps ----------------------------------------------------------------------------------------

#: Between nothing of the scores left and all of them.
CAPS = (2.0**-126, 0.02, 1.0, 30.0, 1e6, 2.0**126)


@each_kernel
@pytest.mark.parametrize("softcap", CAPS)
def test_caps(kernel: str, softcap: float, random: np.random.Generator) -> None:
    qkv = make(random, (2, 6, 2, 75, 24))
    qkv[0][0] *= 20
    mask = np.where(random.random((75, 75)) < 0.4, -np.inf, random.random((75, 75)))
    mask[:, 0] = 0
    for tiles in ((0, 0), (5, 7)):
        check(kernel, qkv, tiles, softcap=softcap)
        check(kernel, qkv, tiles, softcap=softcap, causal=True, window=20)
        check(kernel, qkv, tiles, softcap=softcap, mask=mask.astype(np.float32))


@each_kernel
def test_a_mask_that_replaces_is_not_capped(kernel: str, random: np.random.Generator) -> None:
    qkv = make(random, (1, 2, 1, 33, 8))
    mask = np.where(np.arange(33) % 3 == 1, np.float32(-50.0), np.float32(0.0))
    fixed = np.broadcast_to(mask, (33, 33)) != 0
    scores = 2.0 * np.tanh(0.5 * (reference.float64(qkv[0]) @ qkv[1].swapaxes(-1, -2)) / 8**0.5)
    scores = np.where(fixed, -50.0, scores)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    want = weights / weights.sum(axis=-1, keepdims=True) @ reference.float64(qkv[2])
    got = attend(kernel, qkv, mask=mask, mask_replaces=True, softcap=2.0)
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)


@each_kernel
def test_infinite_scores_become_the_cap(kernel: str) -> None:
    """The weights are those of c, -c and 0; NaN stays NaN."""
    q = np.full((1, 1, 2, 1), 1e30, np.float32)
    q[0, 0, 1] = np.nan
    k = np.array([1e30, -1e30], np.float32).reshape(1, 1, 2, 1)
    v = np.array([1.0, 0.0], np.float32).reshape(1, 1, 2, 1)
    out = ablation_kernels.attention(q, k, v, softcap=0.5, kernel=kernel)[0, 0, :, 0]
    np.testing.assert_allclose(out[0], 1 / (1 + np.exp(-1.0)), rtol=1e-6)
    assert np.isnan(out[1])


@each_kernel
def test_a_causal_mask_leaves_hidden_keys_out_of_capped_scores(
    kernel: str, random: np.random.Generator
) -> None:
    qkv = make(random, (1, 4, 2, 130, 16))
    mask = np.where(np.tri(130) > 0, 0, np.finfo(np.float32).min).astype(np.float32)
    got = attend(kernel, qkv, mask=mask, mask_is_causal=True, softcap=5.0)
    want = attend(kernel, qkv, causal=True, softcap=5.0)
    np.testing.assert_array_equal(got, want)


# The tolerance ------------------------------------------------------------------------------------


def heads_of_v_first(qkv: Qkv) -> reference.Array:
    q, k, v = qkv
    return reference.attention(q, v, k).value


def no_cap(qkv: Qkv) -> reference.Array:
    return reference.attention(*qkv).value


@pytest.mark.parametrize(("mutant", "softcap"), [(heads_of_v_first, 0.0), (no_cap, 1.0)])
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[3] > 1])
def test_tolerance_catches_mutants(
    mutant: Any, softcap: float, shape: Sizes, random: np.random.Generator
) -> None:
    qkv = make(random, shape)
    expected = reference.attention(*qkv, softcap=softcap)
    allowed = tolerance.attention(expected, qkv[2], shape[-1])
    assert worst_ratio(mutant(qkv), expected.value, allowed) > 10
