"""attention: masks that hide whole tiles of keys, which the flash kernels leave out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
import tolerance
from harness import Float32, assert_within, guarded, kernels_of, normal

import ablation_kernels

KERNELS = kernels_of("attention")
each_kernel = pytest.mark.parametrize("kernel", KERNELS)
HIDDEN = np.float32(-np.inf)
BATCH, HEADS, KV_HEADS, QUERIES, KEYS = 2, 4, 2, 130, 210


def qkv_of(random: np.random.Generator) -> tuple[Float32, Float32, Float32]:
    return (
        normal(random, BATCH, HEADS, QUERIES, 8),
        normal(random, BATCH, KV_HEADS, KEYS, 8),
        normal(random, BATCH, KV_HEADS, KEYS, 12),
    )


def blocks() -> Float32:
    """Documents behind one another: each query sees the keys of its own."""
    query, key = np.arange(QUERIES)[:, None] // 40, np.arange(KEYS) // 70
    return np.where(query == key, np.float32(0), HIDDEN)


def padding() -> Float32:
    """Of each batch item another number of keys at the end, of the second also the first 64."""
    mask = np.zeros((BATCH, 1, 1, KEYS), np.float32)
    mask[0, ..., 97:] = HIDDEN
    mask[1, ..., 190:] = mask[1, ..., :64] = HIDDEN
    return mask


def middle() -> Float32:
    """All but the first and the last keys, and of some queries these too."""
    mask = np.zeros((1, HEADS, QUERIES, KEYS), np.float32)
    mask[..., 1:-1] = HIDDEN
    mask[:, 1, 30:100] = HIDDEN
    mask[:, 3] = HIDDEN
    return mask


def rows() -> Float32:
    """Of some queries all keys, by a mask of one column."""
    mask = np.zeros((QUERIES, 1), np.float32)
    mask[17:81] = HIDDEN
    return mask


def biased_window() -> Float32:
    """A bias within a band of keys."""
    distance = np.arange(QUERIES)[:, None] - np.arange(KEYS)
    return np.where(np.abs(distance) < 9, np.float32(0.1) * distance, HIDDEN).astype(np.float32)


MASKS = [blocks, padding, middle, rows, biased_window]
each_mask = pytest.mark.parametrize("make", MASKS)


@each_kernel
@each_mask
@pytest.mark.parametrize("layout", ["bhsd", "bshd"])
def test_masks_of_hidden_tiles(
    kernel: str, make: Any, layout: str, random: np.random.Generator
) -> None:
    qkv, mask = qkv_of(random), make()
    given = qkv if layout == "bhsd" else [np.ascontiguousarray(x.swapaxes(1, 2)) for x in qkv]
    for settings in ({}, {"causal": True}, {"causal": True, "window": 50}):
        expected = reference.attention(*qkv, mask=mask, **settings)
        allowed = tolerance.attention(expected, qkv[2], 8)
        for tiles in ((0, 0), (16, 32)):
            shape = (BATCH, HEADS, QUERIES, 12)
            actual = guarded(
                "attention", shape if layout == "bhsd" else (BATCH, QUERIES, HEADS, 12), *given,
                kernel=kernel, layout=layout, mask=mask, tile_q=tiles[0], tile_k=tiles[1],
                **settings,
            )  # fmt: skip
            actual = actual if layout == "bhsd" else actual.swapaxes(1, 2)
            assert_within(actual, expected.value, allowed)


@each_kernel
@each_mask
def test_a_nan_in_a_key_that_an_added_mask_hides_stays(
    kernel: str, make: Any, random: np.random.Generator
) -> None:
    """NaN and -infinity are NaN, and so is infinity less infinity."""
    for garbage in (np.nan, np.inf):
        q, k, v = qkv_of(random)
        k[1, 0, 20:60] = garbage
        q[..., 1:] = 0
        q[..., 0] = 1  # all scores of these keys are garbage
        k[1, 0, 20:60, 1:] = 0
        out = ablation_kernels.attention(q, k, v, mask=make(), kernel=kernel)
        assert np.isnan(out[1, :2]).all()
        assert np.isfinite(out[0]).all() and np.isfinite(out[1, 2:]).all()


@each_kernel
@each_mask
def test_a_mask_that_replaces_hides_any_score(
    kernel: str, make: Any, random: np.random.Generator
) -> None:
    q, k, v = qkv_of(random)
    mask = np.where(np.isinf(make()), HIDDEN, np.float32(0))
    expected = ablation_kernels.attention(q, k, v, mask=mask, mask_replaces=True, kernel=kernel)
    seen = np.broadcast_to(mask == 0, (BATCH, HEADS, QUERIES, KEYS)).any(axis=2)
    by_key = seen.reshape(BATCH, KV_HEADS, -1, KEYS).any(axis=2)
    k[~by_key] = np.nan  # keys that no query sees
    actual = ablation_kernels.attention(q, k, v, mask=mask, mask_replaces=True, kernel=kernel)
    np.testing.assert_array_equal(actual, expected)


@each_kernel
@pytest.mark.parametrize("replaces", [False, True])
def test_strict_values_of_hidden_tiles_reach_every_query(
    kernel: str, replaces: bool, random: np.random.Generator
) -> None:
    for garbage in (np.nan, np.inf):
        q, k, v = qkv_of(random)
        settings: dict[str, Any] = {"mask": blocks(), "mask_replaces": replaces, "strict": True}
        finite = ablation_kernels.attention(q, k, v, kernel=kernel, **settings)
        no_key = np.zeros(QUERIES, bool)
        no_key[120:] = True  # the fourth document has no keys
        np.testing.assert_array_equal(np.isnan(finite).any(axis=(0, 1, 3)), no_key)
        v[0, 1, 205, 3] = garbage
        out = ablation_kernels.attention(q, k, v, kernel=kernel, **settings)
        assert not np.isfinite(out[0, 2:, :, 3]).any()
        np.testing.assert_array_equal(out[0, :2], finite[0, :2])
        np.testing.assert_array_equal(out[1], finite[1])


@pytest.mark.parametrize("kernel", [name for name in KERNELS if "flash" in name])
@pytest.mark.parametrize("replaces", [False, True])
@pytest.mark.parametrize("layout", ["bhsd", "bshd"])
def test_hidden_tiles_are_left_out(
    kernel: str, replaces: bool, layout: Any, random: np.random.Generator
) -> None:
    """A NaN in a value would reach a query through the weight 0."""
    q, k, v = qkv_of(random)
    v[:, :, 140:] = np.nan  # the third document
    given = (
        (q, k, v)
        if layout == "bhsd"
        else [np.ascontiguousarray(x.swapaxes(1, 2)) for x in (q, k, v)]
    )
    out = ablation_kernels.attention(
        *given, mask=blocks(), mask_replaces=replaces, kernel=kernel, layout=layout,
        tile_q=8, tile_k=32,
    )  # fmt: skip
    out = out if layout == "bhsd" else out.swapaxes(1, 2)
    assert np.isfinite(out[:, :, :40]).all()
    assert np.isnan(out[:, :, 80:120]).all()
