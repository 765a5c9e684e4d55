"""The teaching set: numbers, exact scratch, spans, threads, both softmaxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
import tolerance
from harness import CANARY, GUARD, Float32, assert_within, normal, worst_ratio

import ablation_kernels
from ablation_kernels import teaching

each_form = pytest.mark.parametrize("form", teaching.FORMS)
each_softmax = pytest.mark.parametrize("softmax", ["safe", "unsafe"])

Qkv = tuple[Float32, Float32, Float32]
Sizes = tuple[int, int, int, int]

#: (B, H, N, D): ones, primes, tails, one head, the course's row length.
SHAPES: tuple[Sizes, ...] = (
    (1, 1, 1, 1),
    (1, 2, 17, 5),
    (2, 3, 16, 16),
    (2, 3, 61, 13),
    (3, 1, 100, 64),
    (1, 2, 257, 32),
)
#: (block_q, block_k): one, no divisors, the course's, unequal both ways, beyond any N.
BLOCKS = ((1, 1), (3, 7), (7, 3), (16, 16), (100, 60), (256, 256), (256, 512))


def make(random: np.random.Generator, shape: Sizes) -> Qkv:
    return normal(random, *shape), normal(random, *shape), normal(random, *shape)


def attend(form: Any, qkv: Qkv, **keywords: Any) -> Float32:
    """Call into the middle of a larger array that holds NaN where the output goes."""
    size = qkv[0].size
    buffer = np.full(size + 2 * GUARD, CANARY, np.float32)
    out = buffer[GUARD : GUARD + size].reshape(qkv[0].shape)
    out[...] = np.nan
    result = teaching.attention(*qkv, form, out=out, **keywords)
    assert result.output is out
    assert result.scratch_bytes == result.scratch_formula_bytes
    assert np.all(buffer[:GUARD] == CANARY), "wrote before the output"
    assert np.all(buffer[GUARD + size :] == CANARY), "wrote behind the output"
    return out


def check(form: str, qkv: Qkv, *, scale: float | None = None, **keywords: Any) -> None:
    expected = reference.attention(*qkv, scale=scale)
    actual = attend(form, qkv, scale=scale, **keywords)
    assert_within(actual, expected.value, tolerance.attention(expected, qkv[2], qkv[0].shape[-1]))


def with_largest_score(random: np.random.Generator, shape: Sizes, largest: float) -> Qkv:
    """Arrays whose scores, at scale 1, reach from about -largest to just largest."""
    q, k, v = make(random, shape)
    scores = reference.float64(q) @ np.swapaxes(reference.float64(k), -1, -2)
    return (q * np.float32(largest / scores.max())), k, v


@each_form
@each_softmax
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(form: str, softmax: str, shape: Sizes, random: np.random.Generator) -> None:
    qkv = make(random, shape)
    check(form, qkv, softmax=softmax)
    check(form, qkv, softmax=softmax, block_q=16, block_k=8, threads=3)


@pytest.mark.parametrize("form", ["blocked", "flash"])
@each_softmax
@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize("shape", [(2, 2, 61, 13), (1, 2, 17, 8), (1, 1, 1, 4), (1, 1, 300, 16)])
def test_blocks(
    form: str, softmax: str, blocks: tuple[int, int], shape: Sizes, random: np.random.Generator
) -> None:
    check(form, make(random, shape), softmax=softmax, block_q=blocks[0], block_k=blocks[1])


@each_form
@pytest.mark.parametrize("scale", [1.0, 0.05, -0.7, 0.0])
def test_scale(form: str, scale: float, random: np.random.Generator) -> None:
    check(form, make(random, (1, 2, 33, 12)), scale=scale, block_q=8, block_k=8)


@pytest.mark.parametrize("length", [17, 61])
def test_forms_without_rescaling_agree_to_the_bit(length: int, random: np.random.Generator) -> None:
    """What differs between them is the order of memory, not of arithmetic."""
    qkv = make(random, (2, 2, length, 12))
    naive = attend("naive", qkv)
    np.testing.assert_array_equal(attend("blocked", qkv, block_q=7, block_k=5), naive)
    np.testing.assert_array_equal(attend("fused_row", qkv), naive)


@each_form
@each_softmax
@pytest.mark.parametrize("shape", [(2, 3, 61, 13), (1, 1, 100, 8), (1, 1, 5, 8)])
def test_threads_do_not_change_a_bit(
    form: str, softmax: str, shape: Sizes, random: np.random.Generator
) -> None:
    qkv = make(random, shape)
    keywords = {"softmax": softmax, "block_q": 16, "block_k": 24}
    serial = attend(form, qkv, **keywords)
    for threads in (2, 3):
        for _ in range(3):
            np.testing.assert_array_equal(attend(form, qkv, threads=threads, **keywords), serial)


@each_form
def test_the_course_case(form: Any, random: np.random.Generator) -> None:
    """N 1024, D 32, B 1, H 4, tiles of 256, scale 1, no maximum subtracted."""
    scratch = {"naive": 4194304, "blocked": 4194304, "fused_row": 4096, "flash": 695296}
    qkv = make(random, (1, 4, 1024, 32))
    q, k, v = qkv[0] * np.float32(0.3), qkv[1], qkv[2]
    check(form, (q, k, v), scale=1.0, softmax="unsafe", threads=3)
    result = teaching.attention(q, k, v, form, scale=1.0, softmax="unsafe")
    assert (result.scratch_bytes, result.scratch_formula_bytes) == (scratch[form],) * 2


@each_form
def test_long_rows_keep_their_accuracy(form: Any, random: np.random.Generator) -> None:
    """The largest error over the largest value: summed in float32, 4096 weights alone reach it."""
    q, k, v = make(random, (1, 1, 4096, 32))
    out = teaching.attention(q, k, v, form, scale=1.0, block_q=64, block_k=32).output
    rows = slice(None, None, 8)
    expected = reference.attention(np.ascontiguousarray(q[:, :, rows]), k, v, scale=1.0).value
    assert np.abs(out[:, :, rows] - expected).max() < 7e-6 * np.abs(expected).max()


@pytest.mark.parametrize(
    "form,shape,blocks,workers,expected",
    [
        ("naive", (1, 4, 64, 8), (256, 256), 3, 3 * 4 * 64 * 64),
        ("naive", (1, 2, 64, 8), (256, 256), 3, 2 * 4 * 64 * 64),  # two heads keep two workers
        ("blocked", (2, 1, 17, 8), (5, 3), 1, 4 * 17 * 17),
        ("fused_row", (1, 1, 1000, 8), (256, 256), 3, 3 * 4 * 1000),
        ("fused_row", (1, 2, 1, 8), (256, 256), 3, 2 * 4),
        ("flash", (1, 1, 1000, 32), (100, 60), 1, 4 * (9600 + 3840 + 12000 + 1000 + 300)),
        ("flash", (1, 1, 1000, 32), (100, 60), 3, 12 * (9600 + 3840 + 12000 + 1000 + 300)),
        ("flash", (1, 1, 17, 8), (256, 256), 3, 4 * (5 * 17 * 8 + 2 * 17 * 17 + 4 * 17)),
        ("flash", (1, 1, 1, 1), (256, 512), 1, 4 * (3 + 2 + 2 + 1 + 3)),
        ("flash", (1, 1, 128, 64), (256, 512), 1, 4 * (5 * 128 * 64 + 2 * 128 * 128 + 4 * 128)),
    ],
)  # fmt: skip
def test_scratch_is_the_formula(
    form: Any,
    shape: Sizes,
    blocks: tuple[int, int],
    workers: int,
    expected: int,
    random: np.random.Generator,
) -> None:
    keywords: dict[str, Any] = {"block_q": blocks[0], "block_k": blocks[1], "threads": workers}
    assert teaching.scratch_formula_bytes(shape, form, **keywords) == expected
    for _ in range(2):  # nothing is carried over from one call to the next
        result = teaching.attention(*make(random, shape), form, **keywords)
        assert (result.scratch_bytes, result.scratch_formula_bytes) == (expected, expected)


@each_form
@pytest.mark.parametrize("largest", [80.0, 100.0])
@pytest.mark.parametrize("blocks", [(256, 256), (16, 8)])
def test_large_scores(
    form: str, largest: float, blocks: tuple[int, int], random: np.random.Generator
) -> None:
    qkv = with_largest_score(random, (2, 2, 61, 16), largest)
    check(form, qkv, scale=1.0, block_q=blocks[0], block_k=blocks[1])


@each_form
def test_unsafe_softmax_overflows(form: str, random: np.random.Generator) -> None:
    """exp overflows above 88.7, and 0 / 0 is what scores far below zero leave."""
    q, k, v = with_largest_score(random, (1, 2, 61, 16), 100.0)
    out = attend(form, (q, k, v), scale=1.0, softmax="unsafe", block_q=16, block_k=8)
    largest = (reference.float64(q) @ np.swapaxes(reference.float64(k), -1, -2)).max(axis=-1)
    assert np.all(np.isnan(out[largest > 89]))
    assert np.all(np.isfinite(out[largest < 80]))
    assert np.any(largest > 89) and np.any(largest < 80)
    ones = np.ones((1, 1, 9, 4), np.float32)
    keywords: dict[str, Any] = {"scale": -30.0, "block_q": 4, "block_k": 4}
    assert np.all(np.isnan(attend(form, (ones, ones, ones), softmax="unsafe", **keywords)))
    np.testing.assert_allclose(attend(form, (ones, ones, ones), **keywords), 1, rtol=1e-6)


@pytest.mark.parametrize("block_k", [1, 8])
def test_flash_carries_a_sum_that_no_float_holds(block_k: int, random: np.random.Generator) -> None:
    """Scores rise or fall by 300 along the keys: each block outweighs the other by e^many."""
    q, k, v = make(random, (1, 2, 48, 8))
    q[..., 0], k[..., 0] = 1, np.linspace(-150, 150, 48)
    check("flash", (q, k, v), scale=1.0, block_q=5, block_k=block_k)
    turned = np.ascontiguousarray(k[:, :, ::-1])
    check("flash", (q, turned, v), scale=1.0, block_q=5, block_k=block_k)


@each_form
def test_permuted_heads_permute_the_output(form: str, random: np.random.Generator) -> None:
    qkv = make(random, (2, 5, 33, 8))
    order = [3, 0, 4, 1, 2]
    q, k, v = (np.ascontiguousarray(x[:, order]) for x in qkv)
    keywords = {"block_q": 8, "block_k": 8, "threads": 2}
    expected = attend(form, qkv, **keywords)[:, order]
    np.testing.assert_array_equal(attend(form, (q, k, v), **keywords), expected)


@each_form
@each_softmax
def test_constant_values_give_a_constant(
    form: str, softmax: str, random: np.random.Generator
) -> None:
    """The weights of a row sum to 1, however many blocks of keys they were mixed from."""
    q, k, v = make(random, (2, 2, 150, 8))
    v[...] = v[:, :, :1]
    out = attend(form, (q, k, v), softmax=softmax, block_q=8, block_k=1)
    np.testing.assert_allclose(out, v, rtol=1e-5)


@each_form
@each_softmax
def test_nan_stays_with_its_row_or_head(
    form: str, softmax: str, random: np.random.Generator
) -> None:
    for name, place in (("q", 0), ("k", 1)):
        qkv = make(random, (1, 2, 19, 4))
        qkv[place][0, 1, 7, 2] = np.nan
        is_nan = np.zeros((1, 2, 19, 4), bool)
        is_nan[0, 1, 7 if name == "q" else slice(None)] = True
        out = attend(form, qkv, softmax=softmax, block_q=4, block_k=4)
        np.testing.assert_array_equal(np.isnan(out), is_nan, err_msg=f"NaN in {name}")


def first_head_for_all(qkv: Qkv) -> reference.Array:
    """A wrong implementation: it reads head 0 of batch item 0 whatever it is asked for."""
    q, k, v = (np.broadcast_to(x[:1, :1], x.shape) for x in qkv)
    return reference.attention(q, k, v).value


def ramp(shape: Sizes, row: float, column: float) -> Float32:
    """The kind of input that the course checks with: the same in every batch item and head."""
    values = row * np.arange(shape[2])[:, None] + column * np.arange(shape[3])
    return np.broadcast_to(values, shape).astype(np.float32)


def test_a_ramp_hides_a_wrong_head_and_random_data_does_not(random: np.random.Generator) -> None:
    """Why every test here has other numbers in each batch item and head."""
    shape = (2, 3, 33, 8)
    ramps = (ramp(shape, 2e-4, 1e-4), ramp(shape, 6e-4, 3e-4), ramp(shape, 1e-4, 8e-4))
    for qkv, is_hidden in ((ramps, True), (make(random, shape), False)):
        expected = reference.attention(*qkv)
        allowed = tolerance.attention(expected, qkv[2], shape[-1])
        ratio = worst_ratio(first_head_for_all(qkv), expected.value, allowed)
        assert (ratio <= 1) if is_hidden else (ratio > 10)


@each_form
def test_spans_are_optional_and_change_nothing(form: Any, random: np.random.Generator) -> None:
    qkv = make(random, (2, 2, 61, 13))
    plain = teaching.attention(*qkv, form, block_q=16, block_k=24)
    measured = teaching.attention(*qkv, form, block_q=16, block_k=24, spans=True)
    assert plain.spans is None
    assert measured.spans is not None
    np.testing.assert_array_equal(measured.output, plain.output)
    assert measured.scratch_bytes == plain.scratch_bytes


@each_form
@pytest.mark.parametrize("workers", [1, 3])
def test_self_times_sum_to_the_total(form: Any, workers: int, random: np.random.Generator) -> None:
    """Exactly, since a span begins where the one before ended; and no span runs backwards."""
    qkv = make(random, (2, 3, 100, 16))
    spans = teaching.attention(
        *qkv, form, block_q=32, block_k=48, threads=workers, spans=True
    ).spans
    assert spans is not None
    assert sum(span.time_ns for span in spans.self_times.values()) == spans.total_ns > 0
    assert all(span.time_ns >= 0 and span.count > 0 for span in spans.self_times.values())


@pytest.mark.parametrize(
    "form,items,spans",
    [
        ("naive", 6, {"qk": 6, "softmax": 6, "pv": 6}),
        ("blocked", 6, {"qk": 6, "softmax": 6, "pv": 6}),
        ("fused_row", 600, {"qk": 600, "softmax": 600, "pv": 600}),
        # 4 blocks of rows x 3 of keys: a copy in and a copy out for each, one for k and v
        ("flash", 6, {"qk": 72, "softmax": 72, "pv": 72, "rescale": 72, "copy": 162}),
    ],
)
def test_span_counts(
    form: Any, items: int, spans: dict[str, int], random: np.random.Generator
) -> None:
    """On one thread. "other" has the set-up of the call and the end of each item."""
    qkv = make(random, (2, 3, 100, 16))
    measured = teaching.attention(*qkv, form, block_q=32, block_k=48, spans=True).spans
    assert measured is not None
    counts = {name: span.count for name, span in measured.self_times.items()}
    assert counts == {**spans, "other": items + 1}


def test_inputs_are_left_alone_and_out_is_optional(random: np.random.Generator) -> None:
    for form in teaching.FORMS:
        qkv = make(random, (1, 2, 33, 8))
        before = [array.copy() for array in qkv]
        expected = attend(form, qkv)
        for array, copy in zip(qkv, before, strict=True):
            np.testing.assert_array_equal(array, copy)
            array.flags.writeable = False
        fresh = teaching.attention(*qkv, form).output
        assert isinstance(fresh, np.ndarray)
        np.testing.assert_array_equal(fresh, expected)


def test_no_form_is_in_the_op_table() -> None:
    """Else `kernel=None`, `time_kernels` and the bench would take them for candidates."""
    alone = {"naive", "blocked", "fused_row"}
    assert not alone & {info.form for info in ablation_kernels.op_table()}
    assert not [name for name in ablation_kernels.ops() if "teaching" in name]
    with pytest.raises(ValueError, match="unknown kernel"):
        x = np.zeros((1, 1, 4, 4), np.float32)
        ablation_kernels.attention(x, x, x, kernel="naive")
