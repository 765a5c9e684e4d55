"""attention_lse and attention_backward: against gradients in float64, on every tail and tile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference
import tolerance
from harness import Float32, assert_within, guarded, joined, kernels_of, normal, worst_ratio
from shapes import ATTENTIONS

import ablation_kernels

each_forward = pytest.mark.parametrize("kernel", kernels_of("attention_lse"))
each_backward = pytest.mark.parametrize("kernel", kernels_of("attention_backward"))
each_causal = pytest.mark.parametrize("causal", [False, True])

Sizes = tuple[int, int, int, int, int]
Arrays = tuple[Float32, Float32, Float32, Float32]

#: (B, H, Sq, Sk, D): lengths around the 72 queries of a tile and the 128 to 256 keys of a block,
#: several groups of keys in one head, head sizes around vectors and panels, unseen keys.
LONG = (
    (1, 1, 71, 127, 15),
    (1, 1, 72, 128, 16),
    (1, 1, 73, 129, 17),
    (1, 2, 145, 193, 31),
    (2, 1, 143, 191, 33),
    (1, 1, 509, 521, 64),
    (1, 1, 1, 700, 64),
    (1, 1, 700, 1, 64),
    (1, 1, 90, 601, 48),
    (1, 3, 601, 90, 40),
    (1, 1, 150, 300, 130),
    (2, 2, 40, 300, 7),
)


def make(random: np.random.Generator, shape: Sizes, spread: float = 1.0) -> Arrays:
    """q, k, v and the gradient of the output."""
    batch, heads, queries, keys, size = shape
    return (
        normal(random, batch, heads, queries, size, spread=spread),
        normal(random, batch, heads, keys, size, spread=spread),
        normal(random, batch, heads, keys, size),
        normal(random, batch, heads, queries, size),
    )


def check_forward(kernel: str, arrays: Arrays, **keywords: Any) -> None:
    q, k, v, _ = arrays
    expected = reference.attention_lse(q, k, v, **keywords)
    actual = guarded("attention_lse", expected.flat.shape, q, k, v, kernel=kernel, **keywords)
    assert_within(actual, expected.flat, tolerance.attention_lse(expected, v, q.shape[-1]))


def check_backward(kernel: str, arrays: Arrays, **keywords: Any) -> None:
    q, k, v, grad_output = arrays
    expected = reference.attention_backward(*arrays, **keywords)
    actual = guarded(
        "attention_backward", expected.flat.shape,
        q, k, v, *expected.saved, grad_output, kernel=kernel, **keywords,
    )  # fmt: skip
    assert_within(actual, expected.flat, tolerance.attention_backward(expected))


@each_forward
@pytest.mark.parametrize("shape", (*ATTENTIONS, *LONG))
@each_causal
def test_lse_shapes(kernel: str, shape: Sizes, causal: bool, random: np.random.Generator) -> None:
    check_forward(kernel, make(random, shape), causal=causal)


@each_backward
@pytest.mark.parametrize("shape", (*ATTENTIONS, *LONG))
@each_causal
def test_shapes(kernel: str, shape: Sizes, causal: bool, random: np.random.Generator) -> None:
    check_backward(kernel, make(random, shape), causal=causal)


@each_forward
@pytest.mark.parametrize("scale", [1.0, 0.05, -0.7, 0.0])
@each_causal
def test_lse_scale(kernel: str, scale: float, causal: bool, random: np.random.Generator) -> None:
    check_forward(kernel, make(random, (1, 2, 77, 83, 12)), scale=scale, causal=causal)


@each_backward
@pytest.mark.parametrize("scale", [1.0, 0.05, -0.7, 0.0])
@each_causal
def test_scale(kernel: str, scale: float, causal: bool, random: np.random.Generator) -> None:
    check_backward(kernel, make(random, (1, 2, 77, 83, 12)), scale=scale, causal=causal)


def make_large(random: np.random.Generator, spread: float) -> Arrays:
    arrays = make(random, (2, 2, 90, 140, 16), spread=spread)
    scores = arrays[0] @ arrays[1].swapaxes(-1, -2) / 4
    assert scores.min() < -80 and scores.max() > 80
    return arrays


@each_forward
@pytest.mark.parametrize("spread", [6.5, 10.0, 60.0])
@each_causal
def test_lse_of_large_scores(
    kernel: str, spread: float, causal: bool, random: np.random.Generator
) -> None:
    check_forward(kernel, make_large(random, spread), causal=causal)


@each_backward
@pytest.mark.parametrize("spread", [6.5, 10.0, 60.0])
@each_causal
def test_large_scores(
    kernel: str, spread: float, causal: bool, random: np.random.Generator
) -> None:
    """Scores from -80 to 80 and far beyond: weights that vanish, exponentials that overflow."""
    check_backward(kernel, make_large(random, spread), causal=causal)


@each_backward
@each_causal
def test_forward_and_backward_together(
    kernel: str, causal: bool, random: np.random.Generator
) -> None:
    """What attention_lse gives is what attention_backward takes."""
    q, k, v, grad_output = arrays = make(random, (2, 2, 150, 170, 48))
    output, lse = ablation_kernels.attention_lse(q, k, v, causal=causal)
    gradients = ablation_kernels.attention_backward(
        q, k, v, output, lse, grad_output, causal=causal, kernel=kernel
    )
    expected = reference.attention_backward(*arrays, causal=causal)
    forward = expected.forward
    saved_error = (tolerance.attention(forward.attention, v, 48), tolerance.lse(forward, 48))
    allowed = tolerance.attention_backward(expected, saved_error)
    assert [x.shape for x in gradients] == [q.shape, k.shape, v.shape]
    assert_within(joined(gradients), expected.flat, allowed)


@each_forward
def test_the_output_beside_lse_is_that_of_attention(
    kernel: str, random: np.random.Generator
) -> None:
    q, k, v, _ = make(random, (1, 3, 90, 110, 24))
    form = kernel.removeprefix("attention_lse_")
    alone = ablation_kernels.attention(q, k, v, causal=True, kernel=form)
    output, _ = ablation_kernels.attention_lse(q, k, v, causal=True, kernel=kernel)
    np.testing.assert_array_equal(output, alone)


@each_backward
@each_causal
@pytest.mark.parametrize("shape", [(1, 1, 700, 700, 40), (1, 5, 270, 300, 40), (1, 1, 80, 900, 33)])
def test_same_for_any_number_of_threads(
    kernel: str, causal: bool, shape: Sizes, random: np.random.Generator
) -> None:
    q, k, v, grad_output = arrays = make(random, shape)
    saved = reference.attention_backward(*arrays, causal=causal).saved

    def run(threads: int) -> Float32:
        ablation_kernels.set_num_threads(threads)
        return joined(
            ablation_kernels.attention_backward(
                q, k, v, *saved, grad_output, causal=causal, kernel=kernel
            )
        )

    serial = run(1)
    for threads in (2, 3, 16):
        np.testing.assert_array_equal(run(threads), serial)


@each_forward
def test_lse_of_rows_without_keys(kernel: str, random: np.random.Generator) -> None:
    q, k, v, _ = make(random, (1, 2, 20, 50, 8))
    k[..., 0] = np.abs(k[..., 0]) + 1
    q[0, 1, 7] = 0
    q[0, 1, 7, 0] = -np.inf
    output, lse = ablation_kernels.attention_lse(q, k, v, kernel=kernel)
    assert lse[0, 1, 7] == -np.inf
    assert np.isfinite(lse).sum() == lse.size - 1
    np.testing.assert_array_equal(output[0, 1, 7], 0)


@each_backward
def test_rows_without_keys_add_nothing(kernel: str, random: np.random.Generator) -> None:
    q, k, v, grad_output = arrays = make(random, (1, 2, 90, 150, 8))
    output, lse = reference.attention_backward(*arrays).saved
    lse[0, 1, 7], output[0, 1, 7] = -np.inf, 0
    actual = ablation_kernels.attention_backward(q, k, v, output, lse, grad_output, kernel=kernel)
    np.testing.assert_array_equal(actual[0][0, 1, 7], 0)
    lse[0, 1, 7], grad_output[0, 1, 7] = 0, 0
    others = ablation_kernels.attention_backward(q, k, v, output, lse, grad_output, kernel=kernel)
    np.testing.assert_array_equal(joined(actual), joined(others))


@each_backward
def test_nan_reaches_what_depends_on_it(kernel: str, random: np.random.Generator) -> None:
    q, k, v, grad_output = arrays = make(random, (1, 2, 80, 140, 8))
    saved = reference.attention_backward(*arrays).saved
    grad_output[0, 1, 5, 3] = np.nan
    grad_q, grad_k, grad_v = ablation_kernels.attention_backward(
        q, k, v, *saved, grad_output, kernel=kernel
    )
    for gradient in (grad_q, grad_k, grad_v):
        assert np.all(np.isfinite(gradient[0, 0]))
    assert np.all(np.isnan(grad_q[0, 1, 5])) and np.isnan(grad_q).sum() == 8
    assert np.all(np.isnan(grad_k[0, 1]))
    assert np.all(np.isnan(grad_v[0, 1, :, 3])) and np.isnan(grad_v).sum() == 140


@each_backward
def test_inputs_are_left_alone(kernel: str, random: np.random.Generator) -> None:
    q, k, v, grad_output = arrays = make(random, (1, 2, 80, 140, 7))
    given = (q, k, v, *reference.attention_backward(*arrays).saved, grad_output)
    before = [array.copy() for array in given]
    ablation_kernels.attention_backward(*given, causal=True, kernel=kernel)
    for array, copy in zip(given, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_parts_are_views_of_out(random: np.random.Generator) -> None:
    q, k, v, grad_output = make(random, (1, 2, 5, 9, 4))
    assert ablation_kernels.infer_shape("attention_lse", [x.shape for x in (q, k, v)]) == (50,)
    out = np.full(50, np.nan, np.float32)
    output, lse = ablation_kernels.attention_lse(q, k, v, out=out)
    assert (output.shape, lse.shape) == ((1, 2, 5, 4), (1, 2, 5))
    np.testing.assert_array_equal(joined((output, lse)), out)
    assert np.shares_memory(output, out) and np.shares_memory(lse, out)
    given = (q, k, v, output, lse, grad_output)
    size = ablation_kernels.infer_shape("attention_backward", [x.shape for x in given])
    assert size == (2 * 4 * (5 + 9 + 9),)
    out = np.full(size, np.nan, np.float32)
    gradients = ablation_kernels.attention_backward(*given, out=out)
    np.testing.assert_array_equal(joined(gradients), out)
    assert all(np.shares_memory(gradient, out) for gradient in gradients)


def test_torch_tensors(random: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    q, k, v, _ = make(random, (1, 2, 5, 9, 4))
    expected = ablation_kernels.attention_lse(q, k, v)
    actual = ablation_kernels.attention_lse(*(torch.from_numpy(x) for x in (q, k, v)))
    np.testing.assert_array_equal(joined(actual), joined(expected))


@pytest.mark.parametrize("name,value", [("layout", "bshd"), ("tile_q", 8), ("mask", None)])
@pytest.mark.parametrize("op", ["attention_lse", "attention_backward"])
def test_attributes_of_attention_alone(op: str, name: str, value: object) -> None:
    query = (1, 2, 3, 4)
    shapes = [query, query, query, query, query[:-1], query]
    shapes = shapes[: len(ablation_kernels.ops()[op].slots)]
    with pytest.raises(ValueError, match=f"'{name}'"):
        ablation_kernels.infer_shape(op, shapes, {name: value})


def delta_forgotten(wanted: reference.AttentionBackward) -> list[reference.Array]:
    of_scores = wanted.forward.attention.weights * (wanted.grad_output @ wanted.v.swapaxes(-1, -2))
    grad_q, grad_k = of_scores @ wanted.k, of_scores.swapaxes(-1, -2) @ wanted.q
    return [wanted.scale * grad_q, wanted.scale * grad_k, wanted.value[2]]


def scale_forgotten(wanted: reference.AttentionBackward) -> list[reference.Array]:
    grad_q, grad_k, grad_v = wanted.value
    return [grad_q, grad_k / wanted.scale, grad_v]


def last_key_dropped(wanted: reference.AttentionBackward) -> list[reference.Array]:
    of_scores = wanted.forward.attention.weights * wanted.difference
    grad_q = wanted.scale * of_scores[..., :-1] @ wanted.k[:, :, :-1]
    return [grad_q, *wanted.value[1:]]


def last_query_dropped(wanted: reference.AttentionBackward) -> list[reference.Array]:
    weights = wanted.forward.attention.weights[:, :, :-1]
    grad_v = weights.swapaxes(-1, -2) @ wanted.grad_output[:, :, :-1]
    return [*wanted.value[:2], grad_v]


def heads_swapped(wanted: reference.AttentionBackward) -> list[reference.Array]:
    return [np.roll(part, 1, axis=1) for part in wanted.value]


Mutant = Callable[[reference.AttentionBackward], list[reference.Array]]


@pytest.mark.parametrize(
    "mutant", [delta_forgotten, scale_forgotten, last_key_dropped, last_query_dropped,
               heads_swapped],
)  # fmt: skip
@each_causal
def test_tolerance_catches_mutants(
    mutant: Mutant, causal: bool, random: np.random.Generator
) -> None:
    """A wrong kernel would be far outside the tolerance, on inputs like those of test_shapes."""
    expected = reference.attention_backward(*make(random, (2, 3, 67, 67, 17)), causal=causal)
    mutated = np.concatenate([part.ravel() for part in mutant(expected)])
    assert worst_ratio(mutated, expected.flat, tolerance.attention_backward(expected)) > 100


@each_causal
def test_tolerance_catches_the_other_mask(causal: bool, random: np.random.Generator) -> None:
    arrays = make(random, (2, 3, 67, 67, 17))
    expected = reference.attention_backward(*arrays, causal=causal)
    other = reference.attention_backward(*arrays, causal=not causal)
    assert worst_ratio(other.flat, expected.flat, tolerance.attention_backward(expected)) > 100
    forward, allowed = expected.forward, tolerance.attention_lse(expected.forward, arrays[2], 17)
    assert worst_ratio(other.forward.flat, forward.flat, allowed) > 100
