"""attention: heads that share keys and values, values with a head size of their own, windows."""

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
each_layout = pytest.mark.parametrize("layout", ["bhsd", "bshd"])

Qkv = tuple[Float32, Float32, Float32]
#: (B, H, Hk, Sq, Sk, D, Dv)
Sizes = tuple[int, int, int, int, int, int, int]

#: Shared by all, by some, by none; ones, steps of a decoder, primes, tiles of keys and of queries.
SHAPES: tuple[Sizes, ...] = (
    (1, 2, 1, 1, 1, 1, 2),
    (2, 4, 2, 1, 300, 8, 8),
    (1, 32, 4, 1, 700, 33, 17),
    (2, 6, 2, 3, 37, 7, 5),
    (1, 6, 1, 8, 513, 16, 33),
    (1, 4, 4, 17, 33, 16, 48),
    (2, 6, 3, 65, 33, 32, 17),
    (1, 4, 2, 128, 128, 64, 64),
    (1, 3, 1, 67, 131, 64, 130),
)
each_shape = pytest.mark.parametrize("shape", SHAPES)


def make(random: np.random.Generator, shape: Sizes) -> Qkv:
    batch, heads, kv_heads, queries, keys, size, value_size = shape
    return (
        normal(random, batch, heads, queries, size),
        normal(random, batch, kv_heads, keys, size),
        normal(random, batch, kv_heads, keys, value_size),
    )


def swapped(x: Float32, layout: str) -> Float32:
    """(B, H, S, D) as the layout has it, or back."""
    return x if layout == "bhsd" else np.ascontiguousarray(x.swapaxes(1, 2))


def attend(kernel: str, layout: str, qkv: Qkv, **keywords: Any) -> Float32:
    """(B, H, Sq, Dv), written between guard bytes."""
    q, _, v = qkv
    shape = (*q.shape[:3], v.shape[3])
    if layout == "bshd":
        shape = (shape[0], shape[2], shape[1], shape[3])
    given = [swapped(x, layout) for x in qkv]
    return swapped(
        guarded("attention", shape, *given, kernel=kernel, layout=layout, **keywords), layout
    )


def check(kernel: str, layout: str, qkv: Qkv, tiles: tuple[int, int] = (0, 0), **kw: Any) -> None:
    expected = reference.attention(*qkv, **kw)
    actual = attend(kernel, layout, qkv, tile_q=tiles[0], tile_k=tiles[1], **kw)
    assert_within(actual, expected.value, tolerance.attention(expected, qkv[2], qkv[0].shape[-1]))


def holes(random: np.random.Generator, *shape: int) -> Float32:
    """A mask of zeros and -infinity that leaves the first key of each row visible."""
    mask = np.where(random.random(shape) < 0.4, -np.inf, 0.0).astype(np.float32)
    mask[..., 0] = 0
    return mask


@each_kernel
@each_layout
@each_shape
def test_shapes(kernel: str, layout: str, shape: Sizes, random: np.random.Generator) -> None:
    qkv = make(random, shape)
    for tiles in ((0, 0), (5, 7)):
        check(kernel, layout, qkv, tiles)
        check(kernel, layout, qkv, tiles, causal=True)


@each_kernel
@each_layout
@pytest.mark.parametrize("queries", [1, 2, 7, 40])
def test_masks(kernel: str, layout: str, queries: int, random: np.random.Generator) -> None:
    """Key padding, a bias of each head, and all between: whatever heads a kernel takes together."""
    batch, heads, keys = 2, 6, 75
    qkv = make(random, (batch, heads, 2, queries, keys, 8, 12))
    for shape in (
        (batch, 1, 1, keys),
        (1, heads, queries, keys),
        (batch, 1, queries, keys),
        (batch, heads, queries, keys),
        (batch, heads, 1, keys),
        (heads, queries, 1),
        (queries, keys),
        (heads, 1, 1),
        (batch, 1, 1, 1),
    ):
        check(kernel, layout, qkv, mask=normal(random, *shape))
        check(kernel, layout, qkv, (4, 32), mask=holes(random, *shape))
        check(kernel, layout, qkv, mask=normal(random, *shape), causal=True)


@each_kernel
def test_masks_broadcast_in_one_array(kernel: str, random: np.random.Generator) -> None:
    """Layout qkv: key padding, a bias of each head, one of each item."""
    batch, heads, length, size = 2, 3, 37, 8
    qkv = make(random, (batch, heads, heads, length, length, size, size))
    joined = np.stack([swapped(x, "bshd") for x in qkv], axis=2)
    for shape in (
        (batch, 1, 1, length),
        (1, heads, length, length),
        (batch, 1, length, length),
    ):
        mask = holes(random, *shape)
        expected = reference.attention(*qkv, mask=mask)
        actual = guarded(
            "attention",
            (batch, length, heads, size),
            joined,
            layout="qkv",
            mask=mask,
            kernel=kernel,
        )
        allowed = tolerance.attention(expected, qkv[2], size)
        assert_within(swapped(actual, "bshd"), expected.value, allowed)


@each_kernel
@each_layout
@pytest.mark.parametrize("shape", [(2, 6, 2, 70, 70, 16, 16), (1, 4, 1, 5, 300, 8, 24)])
def test_sharing_is_as_copies_would_be(
    kernel: str, layout: str, shape: Sizes, random: np.random.Generator
) -> None:
    """The same bits, where no heads are taken together, as with causal."""
    q, k, v = make(random, shape)
    copied_k, copied_v = (np.ascontiguousarray(reference.for_each_head(q, x)) for x in (k, v))
    np.testing.assert_array_equal(
        attend(kernel, layout, (q, k, v), causal=True),
        attend(kernel, layout, (q, copied_k, copied_v), causal=True),
    )


def test_shared_keys_are_packed_once() -> None:
    """Scratch holds the packed keys and values of one head, whatever number of heads reads them."""
    name, keys = "attention_flash_packed_simd_parallel", (1, 1, 4096, 64)

    def scratch(heads: int, kv: tuple[int, ...], threads: int) -> int:
        shapes = [(1, heads, 512, 64), kv, kv]
        return ablation_kernels.scratch_bytes(name, shapes, {"tile_q": 64}, threads)

    assert scratch(8, keys, 2) == scratch(1, keys, 2)
    assert scratch(8, keys, 2) < scratch(8, (1, 8, 4096, 64), 2)


#: (Sq, Sk) and windows: of one key, around vectors and tiles, of more keys than there are.
LENGTHS = ((1, 1), (33, 33), (70, 40), (40, 70), (8, 300), (300, 300))
WINDOWS = (1, 2, 7, 16, 33, 64, 299, 2**62)


@each_kernel
@each_layout
@pytest.mark.parametrize("lengths", LENGTHS)
def test_windows(
    kernel: str, layout: str, lengths: tuple[int, int], random: np.random.Generator
) -> None:
    queries, keys = lengths
    qkv = make(random, (1, 4, 2, queries, keys, 8, 20))
    mask = normal(random, queries, keys)
    for window in WINDOWS:
        for tiles in ((0, 0), (5, 7), (64, 32)):
            check(kernel, layout, qkv, tiles, causal=True, window=window)
        check(kernel, layout, qkv, (5, 7), causal=True, window=window, mask=mask)


@each_kernel
def test_windows_in_one_array(kernel: str, random: np.random.Generator) -> None:
    qkv = make(random, (2, 3, 3, 150, 150, 16, 16))
    joined = np.stack([swapped(x, "bshd") for x in qkv], axis=2)
    for window in (1, 40, 1000):
        expected = reference.attention(*qkv, causal=True, window=window)
        actual = guarded(
            "attention", (2, 150, 3, 16), joined, layout="qkv", causal=True, window=window,
            kernel=kernel,
        )  # fmt: skip
        allowed = tolerance.attention(expected, qkv[2], 16)
        assert_within(swapped(actual, "bshd"), expected.value, allowed)


@each_kernel
@each_layout
def test_a_window_of_all_keys_is_causal(
    kernel: str, layout: str, random: np.random.Generator
) -> None:
    qkv = make(random, (1, 2, 1, 90, 90, 16, 16))
    causal = attend(kernel, layout, qkv, causal=True, tile_q=32)
    for window in (90, 2**62):
        all_keys = attend(kernel, layout, qkv, causal=True, tile_q=32, window=window)
        np.testing.assert_array_equal(all_keys, causal)


@each_kernel
@each_layout
@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e30])
def test_hidden_keys_reach_no_query(
    kernel: str, layout: str, garbage: float, random: np.random.Generator
) -> None:
    window, length = 20, 150
    q, k, v = make(random, (1, 4, 2, length, length, 8, 8))
    q[0, :, :, 2] = 1e9
    expected = attend(kernel, layout, (q, k, v), causal=True, window=window)
    k[0, 1, 70] = garbage
    actual = attend(kernel, layout, (q, k, v), causal=True, window=window)
    np.testing.assert_array_equal(actual[:, :2], expected[:, :2])  # the heads of the other keys
    unseen = np.ones(length, bool)
    unseen[70 : 70 + window] = False
    np.testing.assert_array_equal(actual[:, :, unseen], expected[:, :, unseen])
    assert not np.array_equal(actual[:, 2:, ~unseen], expected[:, 2:, ~unseen], equal_nan=True)


@each_kernel
@each_layout
def test_tiles_outside_the_window_are_not_read(
    kernel: str, layout: str, random: np.random.Generator
) -> None:
    """A NaN in a value reaches queries of its tile at most."""
    q, k, v = make(random, (1, 2, 1, 500, 500, 8, 8))
    v[0, 0, 100:110] = np.nan
    out = attend(kernel, layout, (q, k, v), causal=True, window=16, tile_q=16, tile_k=32)
    assert np.isnan(out[:, :, 100:125]).all()
    assert np.isfinite(out[:, :, :84]).all() and np.isfinite(out[:, :, 200:]).all()


@each_kernel
@each_layout
def test_a_query_beyond_the_window_of_every_key_gives_zero(
    kernel: str, layout: str, random: np.random.Generator
) -> None:
    qkv = make(random, (1, 2, 1, 90, 32, 8, 40))
    for tiles in ((0, 0), (16, 16)):
        settings: dict[str, Any] = {"causal": True, "window": 8, "tile_q": tiles[0]}
        out = attend(kernel, layout, qkv, **settings, tile_k=tiles[1])
        np.testing.assert_array_equal(out[:, :, 39:], 0)
        assert np.all(out[:, :, 38] != 0)
        out = attend(kernel, layout, qkv, **settings, tile_k=tiles[1], strict=True)
        assert np.isnan(out[:, :, 39:]).all() and np.isfinite(out[:, :, :39]).all()


@each_kernel
@each_layout
def test_the_same_for_any_number_of_threads(
    kernel: str, layout: str, random: np.random.Generator
) -> None:
    """Heads that share keys: many short ones, few long ones, one step of a decoder."""
    cases: list[tuple[Sizes, dict[str, Any]]] = [
        ((1, 6, 2, 270, 270, 16, 8), {}),
        ((1, 6, 2, 270, 270, 16, 8), {"causal": True, "window": 50}),
        ((2, 27, 9, 40, 70, 40, 40), {}),
        ((2, 16, 2, 1, 900, 32, 32), {}),
        ((1, 12, 1, 8, 900, 32, 32), {}),
    ]
    before = ablation_kernels.get_num_threads()
    try:
        for shape, settings in cases:
            qkv = make(random, shape)
            ablation_kernels.set_num_threads(1)
            serial = attend(kernel, layout, qkv, **settings)
            for threads in (2, 3, 16):
                ablation_kernels.set_num_threads(threads)
                np.testing.assert_array_equal(attend(kernel, layout, qkv, **settings), serial)
    finally:
        ablation_kernels.set_num_threads(before)


def other_head(qkv: Qkv, window: int) -> reference.Array:
    """Query head h reads head h modulo Hk."""
    q, k, v = qkv
    k, v = (np.tile(x, (1, q.shape[1] // x.shape[1], 1, 1)) for x in (k, v))
    return reference.attention(q, k, v, causal=window > 0, window=window).value


def window_of_one_more(qkv: Qkv, window: int) -> reference.Array:
    return reference.attention(*qkv, causal=True, window=window + 1).value


def no_window(qkv: Qkv, window: int) -> reference.Array:
    return reference.attention(*qkv, causal=True).value


@pytest.mark.parametrize(
    ("mutant", "shape"),
    [
        (mutant, shape)
        for mutant in (other_head, window_of_one_more, no_window)
        for shape in SHAPES
        if shape[3] > 2 and (mutant is not other_head or 1 < shape[2] < shape[1])
    ],
)
def test_tolerance_catches_mutants(mutant: Any, shape: Sizes, random: np.random.Generator) -> None:
    qkv = make(random, shape)
    expected = reference.attention(*qkv, causal=True, window=2)
    allowed = tolerance.attention(expected, qkv[2], shape[5])
    assert worst_ratio(mutant(qkv, 2), expected.value, allowed) > 10
