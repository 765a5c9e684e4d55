"""attention: masks, causal, cross lengths, tiles, special values, mutants that must be caught."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference
import tolerance
from harness import Float32, assert_within, guarded, kernels_of, normal, worst_ratio
from shapes import ATTENTIONS, TILES

import ablation_kernels

KERNELS = kernels_of("attention")
each_kernel = pytest.mark.parametrize("kernel", KERNELS)
each_shape = pytest.mark.parametrize("shape", ATTENTIONS)

Qkv = tuple[Float32, Float32, Float32]
Sizes = tuple[int, int, int, int, int]


def make(random: np.random.Generator, shape: Sizes, spread: float = 1.0) -> Qkv:
    batch, heads, queries, keys, size = shape
    return (
        normal(random, batch, heads, queries, size, spread=spread),
        normal(random, batch, heads, keys, size, spread=spread),
        normal(random, batch, heads, keys, size),
    )


def check(kernel: str, qkv: Qkv, tile_q: int = 0, tile_k: int = 0, **keywords: Any) -> None:
    expected = reference.attention(*qkv, **keywords)
    actual = guarded(
        "attention", qkv[0].shape, *qkv, kernel=kernel, tile_q=tile_q, tile_k=tile_k, **keywords
    )
    allowed = tolerance.attention(expected, qkv[2], qkv[0].shape[-1])
    assert_within(actual, expected.value, allowed)


def holes(random: np.random.Generator, *shape: int) -> Float32:
    """A mask of zeros and -infinity that leaves the first key of each row visible."""
    mask = np.where(random.random(shape) < 0.4, -np.inf, 0.0).astype(np.float32)
    mask[..., 0] = 0
    return mask


@each_kernel
@each_shape
@pytest.mark.parametrize("causal", [False, True])
def test_shapes(kernel: str, shape: Sizes, causal: bool, random: np.random.Generator) -> None:
    check(kernel, make(random, shape), causal=causal)


@each_kernel
@each_shape
@pytest.mark.parametrize("causal", [False, True])
def test_masks(kernel: str, shape: Sizes, causal: bool, random: np.random.Generator) -> None:
    batch, heads, queries, keys, _ = shape
    qkv = make(random, shape)
    check(kernel, qkv, mask=normal(random, queries, keys), causal=causal)
    check(kernel, qkv, mask=holes(random, batch, heads, queries, keys), causal=causal)


@each_kernel
@pytest.mark.parametrize(
    "mask_shape",
    [(), (1,), (21,), (13, 1), (1, 21), (3, 1, 1), (3, 1, 21), (2, 1, 13, 21), (1, 3, 13, 1),
     (2, 3, 13, 21), (2, 1, 1, 21), (1, 1, 1, 1)],
)  # fmt: skip
def test_mask_broadcasts(
    kernel: str, mask_shape: tuple[int, ...], random: np.random.Generator
) -> None:
    qkv = make(random, (2, 3, 13, 21, 8))
    check(kernel, qkv, mask=normal(random, *mask_shape))
    check(kernel, qkv, mask=normal(random, *mask_shape), causal=True, tile_q=4, tile_k=5)


@each_kernel
@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize("shape", [(2, 2, 33, 65, 17), (1, 3, 65, 33, 8), (1, 2, 7, 1, 4)])
def test_tiles(
    kernel: str, tiles: tuple[int, int], shape: Sizes, random: np.random.Generator
) -> None:
    qkv = make(random, shape)
    mask = holes(random, shape[1], shape[2], shape[3])
    check(kernel, qkv, *tiles)
    check(kernel, qkv, *tiles, causal=True)
    check(kernel, qkv, *tiles, mask=mask)
    check(kernel, qkv, *tiles, mask=mask, causal=True)


def in_layout(layout: str, q: Float32, k: Float32, v: Float32) -> list[Float32]:
    """(B, H, S, D) arrays as the arguments of a layout."""
    if layout == "bhsd":
        return [q, k, v]
    rows = [np.ascontiguousarray(x.swapaxes(1, 2)) for x in (q, k, v)]
    return rows if layout == "bshd" else [np.stack(rows, axis=2)]


@each_kernel
@pytest.mark.parametrize("layout", ["bhsd", "bshd", "qkv"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "shape", [(2, 3, 37, 37, 16), (2, 2, 67, 67, 9), (1, 1, 1, 1, 3), (2, 3, 37, 50, 16)]
)
def test_layouts(
    kernel: str,
    layout: str,
    causal: bool,
    masked: bool,
    shape: Sizes,
    random: np.random.Generator,
) -> None:
    batch, heads, queries, keys, size = shape
    if layout == "qkv":
        keys = queries
    qkv = make(random, (batch, heads, queries, keys, size))
    mask = holes(random, batch, heads, queries, keys) if masked else None
    expected = reference.attention(*qkv, mask=mask, causal=causal)
    shape_out = (batch, heads, queries, size) if layout == "bhsd" else (batch, queries, heads, size)
    actual = guarded(
        "attention", shape_out, *in_layout(layout, *qkv),
        layout=layout, mask=mask, causal=causal, kernel=kernel, tile_q=16, tile_k=32,
    )  # fmt: skip
    if layout != "bhsd":
        actual = actual.swapaxes(1, 2)
    assert_within(actual, expected.value, tolerance.attention(expected, qkv[2], size))


@each_kernel
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1, 300, 64),
        (1, 2, 300, 3, 40),
        (1, 2, 61, 300, 300),
        (2, 1, 300, 170, 65),
        (1, 1, 513, 513, 128),
    ],
)
def test_several_tiles_of_keys(
    kernel: str, shape: Sizes, causal: bool, random: np.random.Generator
) -> None:
    """More keys than one tile, one query, wide heads; maxima that rise and fall on the way."""
    qkv = make(random, shape, spread=3.0)
    wave = 20 * np.sin(np.arange(shape[3], dtype=np.float32) / 41)
    check(kernel, qkv, causal=causal)
    check(kernel, qkv, tile_q=20, tile_k=64, causal=causal, mask=wave)
    check(
        kernel,
        qkv,
        tile_q=20,
        tile_k=64,
        causal=causal,
        mask=np.linspace(0, 99, shape[3], dtype=np.float32),
    )


@pytest.mark.parametrize("layout", ["bhsd", "bshd", "qkv"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads,length", [(1, 270), (5, 270), (9, 70)])
def test_flash_packed_is_the_same_for_any_number_of_threads(
    layout: Any, causal: bool, heads: int, length: int, random: np.random.Generator
) -> None:
    """Nine short heads are shared as a whole by two threads, and in pieces by more."""
    arrays = in_layout(layout, *make(random, (1, heads, length, length, 40)))
    before = ablation_kernels.get_num_threads()

    def run(threads: int) -> Float32:
        ablation_kernels.set_num_threads(threads)
        out: Float32 = ablation_kernels.attention(
            *arrays, layout=layout, causal=causal, kernel="flash_packed_simd_parallel"
        )
        return out

    try:
        serial = run(1)
        for threads in (2, 3, 16):
            np.testing.assert_array_equal(run(threads), serial)
    finally:
        ablation_kernels.set_num_threads(before)


@pytest.mark.parametrize("layout", ["bhsd", "bshd"])
def test_flash_packed_does_not_read_keys_that_no_query_sees(
    layout: Any, random: np.random.Generator
) -> None:
    q, k, v = make(random, (2, 3, 20, 600, 40))

    def run() -> Float32:
        out: Float32 = ablation_kernels.attention(
            *in_layout(layout, q, k, v),
            layout=layout,
            causal=True,
            kernel="flash_packed_simd_parallel",
        )
        return out

    expected = run()
    k[:, :, 20:], v[:, :, 20:] = np.nan, np.inf
    np.testing.assert_array_equal(run(), expected)
    name = "attention_flash_packed_simd_parallel"
    scratch = [
        ablation_kernels.scratch_bytes(name, [(2, 3, 20, 40), keys, keys], {"causal": True}, 1)
        for keys in ((2, 3, 20, 40), (2, 3, 600, 40))
    ]
    assert scratch[0] == scratch[1]


@each_kernel
@pytest.mark.parametrize("scale", [1.0, 0.05, -0.7, 0.0])
def test_scale(kernel: str, scale: float, random: np.random.Generator) -> None:
    check(kernel, make(random, (1, 2, 19, 23, 12)), scale=scale)


@each_kernel
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("tiles", [(0, 0), (5, 7)])
@pytest.mark.parametrize("spread", [10.0, 60.0])
def test_large_scores(
    kernel: str, spread: float, tiles: tuple[int, int], causal: bool, random: np.random.Generator
) -> None:
    """Scores in the hundreds and thousands: exp overflows unless the maximum goes first."""
    qkv = make(random, (2, 2, 33, 41, 16), spread=spread)
    check(kernel, qkv, *tiles, causal=causal)


@each_kernel
@pytest.mark.parametrize("tiles", [(0, 0), (4, 4)])
def test_scores_that_grow_along_the_keys(
    kernel: str, tiles: tuple[int, int], random: np.random.Generator
) -> None:
    """Each tile of keys beats the last: an online softmax must rescale what it has every time."""
    q, k, v = make(random, (1, 2, 16, 48, 8))
    slope = np.linspace(0, 300, 48, dtype=np.float32)
    check(kernel, (q, k, v), *tiles, mask=slope)
    check(kernel, (q, k, v), *tiles, mask=np.ascontiguousarray(slope[::-1]), causal=True)


@each_kernel
@pytest.mark.parametrize("tiles", [(0, 0), (3, 4), (1, 1)])
@pytest.mark.parametrize("causal", [False, True])
def test_rows_with_every_key_masked_give_zero(
    kernel: str, tiles: tuple[int, int], causal: bool, random: np.random.Generator
) -> None:
    qkv = make(random, (2, 2, 9, 11, 5))
    mask = holes(random, 2, 2, 9, 11)
    mask[0, 1, 4] = -np.inf
    mask[1, 0, :3] = -np.inf
    check(kernel, qkv, *tiles, mask=mask, causal=causal)
    everything = np.full((1, 11), -np.inf, np.float32)
    out = guarded(
        "attention", qkv[0].shape, *qkv, mask=everything, causal=causal, kernel=kernel,
        tile_q=tiles[0], tile_k=tiles[1],
    )  # fmt: skip
    np.testing.assert_array_equal(out, 0)


@each_kernel
@pytest.mark.parametrize("tiles", [(0, 0), (4, 4)])
def test_first_tiles_of_keys_masked(
    kernel: str, tiles: tuple[int, int], random: np.random.Generator
) -> None:
    """The running maximum is -infinity until the last tile: -infinity - -infinity must not leak."""
    qkv = make(random, (1, 2, 6, 19, 8))
    mask = np.full((6, 19), -np.inf, np.float32)
    mask[:, 17:] = normal(random, 6, 2)
    check(kernel, qkv, *tiles, mask=mask)


@each_kernel
@pytest.mark.parametrize("tiles", [(0, 0), (4, 4)])
def test_masks_of_the_lowest_finite_number(
    kernel: str, tiles: tuple[int, int], random: np.random.Generator
) -> None:
    """Masks by the lowest float32, as many models have them."""
    qkv = make(random, (1, 2, 8, 13, 8))
    lowest = np.finfo(np.float32).min
    mask = np.where(np.tri(8, 13, k=3) == 1, 0, lowest).astype(np.float32)
    check(kernel, qkv, *tiles, mask=mask)
    mask[2] = lowest  # all alike: float32 keeps no difference between the scores, so v is averaged
    out = guarded(
        "attention", qkv[0].shape, *qkv, mask=mask, kernel=kernel, tile_q=tiles[0], tile_k=tiles[1]
    )
    np.testing.assert_allclose(out[:, :, 2], qkv[2].mean(axis=2), rtol=0, atol=1e-5)


@each_kernel
@pytest.mark.parametrize("tiles", [(0, 0), (4, 4)])
def test_nan_stays_with_its_query_key_or_column(
    kernel: str, tiles: tuple[int, int], random: np.random.Generator
) -> None:
    shape = (2, 2, 9, 11, 5)
    for where in ("q", "k", "v", "mask"):
        q, k, v = make(random, shape)
        mask = normal(random, 9, 11)
        is_nan = np.zeros((2, 2, 9, 5), bool)
        if where == "q":
            q[0, 1, 4, 2] = np.nan
            is_nan[0, 1, 4] = True
        elif where == "k":
            k[1, 0, 10, 0] = np.nan
            is_nan[1, 0] = True
        elif where == "v":
            v[1, 1, 3, 4] = np.nan
            is_nan[1, 1, :, 4] = True
        else:
            mask[6, 2] = np.nan
            is_nan[:, :, 6] = True
        out = guarded(
            "attention",
            q.shape,
            q,
            k,
            v,
            mask=mask,
            kernel=kernel,
            tile_q=tiles[0],
            tile_k=tiles[1],
        )
        np.testing.assert_array_equal(np.isnan(out), is_nan, err_msg=f"NaN in {where}")
        clean = reference.attention(
            *(np.nan_to_num(x) for x in (q, k, v)), mask=np.nan_to_num(mask)
        )
        allowed = tolerance.attention(clean, np.nan_to_num(v), 5)
        assert worst_ratio(out[~is_nan], clean.value[~is_nan], allowed[~is_nan]) <= 1


@each_kernel
def test_infinite_scores(kernel: str, random: np.random.Generator) -> None:
    q, k, v = make(random, (1, 2, 5, 7, 4))
    mask = np.zeros((5, 7), np.float32)
    mask[3, 2] = np.inf
    out = guarded("attention", q.shape, q, k, v, mask=mask, kernel=kernel)
    assert np.all(np.isnan(out[:, :, 3])), "infinity - infinity is NaN, as in PyTorch"
    assert np.all(np.isfinite(out[:, :, [0, 1, 2, 4]]))
    v[0, 1, 6, 3] = -np.inf
    out = guarded("attention", q.shape, q, k, v, kernel=kernel)
    np.testing.assert_array_equal(out[0, 1, :, 3], -np.inf)
    assert np.isfinite(out).sum() == out.size - 5


@each_kernel
def test_inputs_are_left_alone(kernel: str, random: np.random.Generator) -> None:
    qkv = make(random, (1, 2, 33, 41, 16))
    mask = normal(random, 33, 41)
    before = [array.copy() for array in (*qkv, mask)]
    guarded("attention", qkv[0].shape, *qkv, mask=mask, causal=True, kernel=kernel)
    for array, copy in zip((*qkv, mask), before, strict=True):
        np.testing.assert_array_equal(array, copy)


@each_kernel
@pytest.mark.parametrize("causal", [False, True])
def test_heads_in_another_order(kernel: str, causal: bool, random: np.random.Generator) -> None:
    """Each head is attended by itself: the same bits at its new place."""
    qkv = make(random, (2, 3, 70, 70, 24))
    order = [2, 0, 1]
    plain = ablation_kernels.attention(*qkv, causal=causal, kernel=kernel)
    moved = [np.ascontiguousarray(array[:, order]) for array in qkv]
    result = ablation_kernels.attention(*moved, causal=causal, kernel=kernel)
    np.testing.assert_array_equal(result, plain[:, order])


@each_kernel
def test_causal_rows_do_not_know_later_keys(kernel: str, random: np.random.Generator) -> None:
    q, k, v = make(random, (1, 2, 150, 150, 24))
    seen = 77
    plain = ablation_kernels.attention(q, k, v, causal=True, kernel=kernel)
    k[:, :, seen:] *= -3
    v[:, :, seen:] += 100
    result = ablation_kernels.attention(q, k, v, causal=True, kernel=kernel)
    np.testing.assert_array_equal(result[:, :, :seen], plain[:, :, :seen])
    assert np.abs(result - plain)[:, :, seen:].min(axis=-1).max() > 1


@each_kernel
@pytest.mark.parametrize("causal", [False, True])
def test_equal_values_are_the_output(
    kernel: str, causal: bool, random: np.random.Generator
) -> None:
    """Weights sum to 1, whatever they are."""
    q, k, v = make(random, (1, 2, 90, 90, 24))
    v[:] = v[:, :, :1]
    result = ablation_kernels.attention(q, k, v, causal=causal, kernel=kernel)
    np.testing.assert_allclose(result, v, rtol=1e-5)


def test_the_error_does_not_grow_with_the_number_of_keys(random: np.random.Generator) -> None:
    """Packed flash sums a tile of keys by itself; one sum over all of them breaks the bound."""
    qkv = make(random, (1, 1, 64, 16384, 64))
    expected = reference.attention(*qkv).value
    actual = ablation_kernels.attention(*qkv, kernel="flash_packed_simd_parallel")
    assert np.abs(actual - expected).max() < 2e-6 * np.abs(expected).max()


def head_off_by_one(q: Float32, k: Float32, v: Float32, causal: bool) -> reference.Array:
    def next_head(x: Float32) -> Float32:
        return np.roll(x.reshape(-1, *x.shape[2:]), -1, axis=0).reshape(x.shape)

    return reference.attention(q, next_head(k), next_head(v), causal=causal).value


def causal_flipped(q: Float32, k: Float32, v: Float32, causal: bool) -> reference.Array:
    return reference.attention(q, k, v, causal=not causal).value


def causal_shifted(q: Float32, k: Float32, v: Float32, causal: bool) -> reference.Array:
    visible = np.tri(q.shape[2], k.shape[2], k=1 if causal else -1, dtype=bool)
    return reference.attention(q, k, v, mask=np.where(visible, 0, -np.inf)).value


def last_tile_dropped(q: Float32, k: Float32, v: Float32, causal: bool) -> reference.Array:
    keys = (k.shape[2] - 1) // 16 * 16 or k.shape[2] - 1
    return reference.attention(q, k[:, :, :keys], v[:, :, :keys], causal=causal).value


def last_query_tile_dropped(q: Float32, k: Float32, v: Float32, causal: bool) -> reference.Array:
    value = reference.attention(q, k, v, causal=causal).value.copy()
    value[:, :, (q.shape[2] - 1) // 16 * 16 :] = 0
    return value


def scale_forgotten(q: Float32, k: Float32, v: Float32, causal: bool) -> reference.Array:
    return reference.attention(q, k, v, causal=causal, scale=1.0).value


Mutant = Callable[[Float32, Float32, Float32, bool], reference.Array]
#: Each wrong kernel, and the shapes (B, H, Sq, Sk, D) for which it is wrong at all.
MUTANTS: list[tuple[Mutant, Callable[[Sizes, bool], bool]]] = [
    (head_off_by_one, lambda s, causal: s[0] * s[1] > 1),
    (causal_flipped, lambda s, causal: s[3] > 1),
    (causal_shifted, lambda s, causal: s[3] > 1),
    (last_tile_dropped, lambda s, causal: s[3] > 1 and (not causal or s[2] >= s[3])),
    (last_query_tile_dropped, lambda s, causal: True),
    (scale_forgotten, lambda s, causal: s[3] > 1 and s[4] > 1 and (not causal or s[2] > 1)),
]


@pytest.mark.parametrize(
    "mutant,shape,causal",
    [
        (mutant, shape, causal)
        for mutant, is_wrong in MUTANTS
        for shape in ATTENTIONS
        for causal in (False, True)
        if is_wrong(shape, causal)
    ],
)
def test_tolerance_catches_mutants(
    mutant: Mutant, shape: Sizes, causal: bool, random: np.random.Generator
) -> None:
    """On the very inputs of test_shapes, a wrong kernel would be far outside the tolerance."""
    q, k, v = make(random, shape)
    expected = reference.attention(q, k, v, causal=causal)
    allowed = tolerance.attention(expected, v, shape[-1])
    assert worst_ratio(mutant(q, k, v, causal), expected.value, allowed) > 10


@pytest.mark.parametrize("spread", [10.0, 60.0])
@pytest.mark.parametrize("causal", [False, True])
def test_tolerance_catches_a_missing_maximum(
    spread: float, causal: bool, random: np.random.Generator
) -> None:
    """On the very inputs of test_large_scores."""
    q, k, v = make(random, (2, 2, 33, 41, 16), spread=spread)
    with np.errstate(all="ignore"):
        weights = np.exp(q @ k.swapaxes(-1, -2) / np.float32(4))
        if causal:
            weights = weights * np.tri(33, 41, dtype=np.float32)
        mutant = weights / weights.sum(axis=-1, keepdims=True) @ v
    expected = reference.attention(q, k, v, causal=causal)
    assert worst_ratio(mutant, expected.value, tolerance.attention(expected, v, 16)) > 1
