"""attention, strict: NaN and infinity as in softmax(scores) @ v, by every kernel and layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import Float32, kernels_of, normal

import ablation_kernels

each_kernel = pytest.mark.parametrize("kernel", kernels_of("attention"))

INFINITY = np.float32(np.inf)
LOWEST = np.finfo(np.float32).min
#: (Sq, Sk): square, fewer and more queries than keys, around a vector of 16.
LENGTHS = [(1, 1), (5, 5), (17, 17), (7, 18), (18, 7)]
each_length = pytest.mark.parametrize("lengths", LENGTHS)


def make(random: np.random.Generator, queries: int, keys: int) -> list[Float32]:
    return [normal(random, 2, 2, length, 5) for length in (queries, keys, keys)]


def hidden_keys(queries: int, keys: int, window: int = 0) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """What causal hides, with a window also the keys before it."""
    hidden = ~np.tri(queries, keys, dtype=bool)
    return hidden | np.tri(queries, keys, -window, dtype=bool) if window else hidden


def written_out(
    qkv: list[Float32],
    *,
    mask: Float32 | None = None,
    causal: bool = False,
    mask_replaces: bool = False,
    mask_is_causal: bool = False,
    window: int = 0,
    scale: float = 0.5,
) -> Float32:
    """softmax(scores) @ v in float64, the scores rounded to the range of float32."""
    with np.errstate(all="ignore"):
        q, k, v = (x.astype(np.float64) for x in qkv)
        k, v = (np.repeat(x, q.shape[1] // x.shape[1], axis=1) for x in (k, v))
        scores = (q @ np.swapaxes(k, -1, -2)).astype(np.float32) * np.float32(scale)
        if mask is not None:
            scores = np.where(mask != 0, mask, scores) if mask_replaces else scores + mask
        if causal:
            queries, keys = scores.shape[-2:]
            scores = np.where(hidden_keys(queries, keys, window), -INFINITY, scores)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True), dtype=np.float32)
        out = (weights / weights.sum(axis=-1, keepdims=True)) @ v
        return np.asarray(out, np.float32)


def check(kernel: str, qkv: list[Float32], scale: float = 0.5, **keywords: Any) -> None:
    want = written_out(qkv, scale=scale, **keywords)
    largest = np.abs(qkv[2][np.isfinite(qkv[2])]).max()
    for layout in ("bhsd", "bshd"):
        given = qkv if layout == "bhsd" else [np.swapaxes(x, 1, 2).copy() for x in qkv]
        got = ablation_kernels.attention(
            *given, kernel=kernel, layout=layout, strict=True, scale=scale, **keywords
        )
        got = got if layout == "bhsd" else np.swapaxes(got, 1, 2)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * largest, err_msg=layout)


@each_kernel
def test_a_query_without_keys_is_nan_if_strict(kernel: str, random: np.random.Generator) -> None:
    qkv = make(random, 6, 9)
    mask = np.zeros((6, 9), np.float32)
    mask[2] = -INFINITY
    check(kernel, qkv, mask=mask)
    qkv[0][:, :, 4, 0], qkv[1][..., 0] = -1e30, 1e30
    check(kernel, qkv)
    assert np.isnan(ablation_kernels.attention(*qkv, kernel=kernel, strict=True)[:, :, 4]).all()
    assert not ablation_kernels.attention(*qkv, kernel=kernel)[:, :, 4].any()


@each_kernel
@each_length
@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
def test_values_that_causal_hides_reach_every_query_if_strict(
    kernel: str, lengths: tuple[int, int], garbage: float, random: np.random.Generator
) -> None:
    for key in {lengths[1] - 1, lengths[1] // 2}:
        for window in (0, 1, 4):
            qkv = make(random, *lengths)
            qkv[2][1, 0, key, 3] = garbage
            check(kernel, qkv, causal=True, window=window)
            check(kernel, [qkv[0], *(x[:, :1].copy() for x in qkv[1:])], causal=True, window=window)


@each_kernel
@pytest.mark.parametrize("garbage", [np.nan, np.inf])
def test_values_before_a_window_reach_every_query_if_strict(
    kernel: str, garbage: float, random: np.random.Generator
) -> None:
    """Whose tiles of keys begin behind them."""
    qkv = make(random, 300, 290)
    qkv[2][1, 0, 7, 3] = garbage
    check(kernel, qkv, causal=True, window=20)


@each_kernel
@each_length
@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_keys_that_causal_hides_reach_no_query(
    kernel: str, lengths: tuple[int, int], garbage: float, random: np.random.Generator
) -> None:
    for window in (0, 1, 4):
        qkv = make(random, *lengths)
        qkv[1][0, 1, -1, 2] = garbage
        qkv[0][0, 1, 0, 2] = 1e30
        check(kernel, qkv, causal=True, window=window)


@each_kernel
@pytest.mark.parametrize("fill", [-np.inf, LOWEST, -1e30, -1e4, 3.0, np.nan])
def test_a_mask_that_replaces_hides_what_the_score_was(
    kernel: str, fill: float, random: np.random.Generator
) -> None:
    queries, keys = 7, 19
    for garbage in (0.0, np.nan, np.inf, 1e30):
        qkv = make(random, queries, keys)
        qkv[1][:, :, 12:] += np.float32(garbage)
        hidden = np.zeros((2, 1, queries, keys), bool)
        hidden[..., 12:] = True
        hidden[0, 0, 3, :12] = random.random(12) < 0.5
        hidden[1, 0, 2] = True  # all of a row
        mask = np.where(hidden, np.float32(fill), np.float32(0))
        check(kernel, qkv, mask=mask, mask_replaces=True)
    check(kernel, make(random, queries, keys), mask=np.array([0] * 11 + [fill] * 8, np.float32),
          mask_replaces=True)  # fmt: skip
    check(kernel, make(random, queries, keys), mask=np.full((7, 1), fill, np.float32),
          mask_replaces=True)  # fmt: skip


@each_kernel
def test_an_added_mask_hides_no_nan(kernel: str, random: np.random.Generator) -> None:
    qkv = make(random, 4, 6)
    qkv[1][:, :, 5] = np.nan
    mask = np.array([0] * 5 + [-np.inf], np.float32)
    check(kernel, qkv, mask=mask)
    got = ablation_kernels.attention(*qkv, mask=mask, kernel=kernel)
    assert np.isnan(got).all()


@each_kernel
def test_the_scale_follows_the_product(kernel: str, random: np.random.Generator) -> None:
    """q k is beyond float32, scale q k would not be; and the other way round."""
    qkv = make(random, 5, 7)
    qkv[0][0, 0, 2], qkv[1][0, 0, 1] = 1e20, 1e19
    check(kernel, qkv, scale=1e-9)
    qkv = make(random, 5, 7)
    qkv[0][0, 0, 2], qkv[1][0, 0] = 1e38, random.random((7, 5)) * 1e-38
    check(kernel, qkv, scale=16.0)


@each_kernel
@each_length
@pytest.mark.parametrize("replaces", [False, True])
@pytest.mark.parametrize("fill", [-np.inf, LOWEST])
@pytest.mark.parametrize("window", [0, 4])
def test_a_causal_mask_is_skipped_where_that_gives_the_same(
    kernel: str,
    lengths: tuple[int, int],
    replaces: bool,
    fill: float,
    window: int,
    random: np.random.Generator,
) -> None:
    mask = np.where(hidden_keys(*lengths, window), np.float32(fill), np.float32(0))
    settings: dict[str, Any] = {"mask": mask, "mask_replaces": replaces, "scale": 0.5}
    settings |= {"mask_is_causal": True, "window": window}
    qkv = make(random, *lengths)
    check(kernel, qkv, **settings)
    q, k, v = qkv
    if window == 0 or lengths[0] - lengths[1] < window:  # else the last query sees no key
        given: dict[str, Any] = {"kernel": kernel, "strict": True}
        skipped = ablation_kernels.attention(q, k, v, **settings, **given)
        causal = ablation_kernels.attention(q, k, v, causal=True, window=window, scale=0.5, **given)
        np.testing.assert_array_equal(skipped, causal)
    for garbage in (np.nan, np.inf, -np.inf, 1e30, -1e30):
        qkv = make(random, *lengths)
        qkv[1][0, 0, -1], qkv[0][0, 0, 0] = garbage, 1e30
        check(kernel, qkv, **settings)
        qkv = make(random, *lengths)
        qkv[2][0, 1, -1, 0] = garbage
        check(kernel, qkv, **settings)


@each_kernel
def test_scratch_has_room_for_a_causal_mask_either_way(kernel: str) -> None:
    for length in (64, 500, 1000, 3000):
        shapes = [(1, 3, length, 64)] * 3 + [(length, length)]
        either, masked, causal = (
            ablation_kernels.scratch_bytes(kernel, given, attributes, 4)
            for given, attributes in (
                (shapes, {"mask_is_causal": True}),
                (shapes, {}),
                (shapes[:3], {"causal": True}),
            )
        )
        assert either == max(masked, causal)
