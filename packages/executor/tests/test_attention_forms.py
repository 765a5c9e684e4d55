"""Attention as real models write it: what all passes together leave of a block."""

from __future__ import annotations

import numpy as np
import pytest
from attention_forms import (
    SWAP,
    Attention,
    Forms,
    batch_first,
    block,
    bloom,
    cross,
    gpt2,
    grouped,
    interleaved,
    narrow,
    neox,
    opt,
    sequence_first,
    timm,
    turned,
    with_weights,
)
from small_graphs import inputs_of, ops_of

from ablation_executor.compiler import compile
from ablation_executor.interpreter import interpret
from ablation_executor.ir import Graph, verify
from ablation_executor.passes import optimize
from ablation_executor.passes._movements import steps_to
from ablation_executor.passes._views import View
from ablation_executor.rewrite import RewriteLog

BLOCK = ["layer_norm", "matmul", "reshape", "attention", "reshape", "matmul"]
BLOCK += ["layer_norm", "matmul", "matmul"]


def optimized(graph: Graph) -> tuple[Graph, RewriteLog]:
    """Run all passes; the result computes the same, by NumPy in float64 and by the kernels."""
    after, log = optimize(graph)
    verify(after)
    inputs = inputs_of(graph)
    (want,), (got,) = (interpret(each, inputs, np.float64) for each in (graph, after))
    # Joined weights are rounded to float32 where a factor went into them.
    np.testing.assert_allclose(got, want, rtol=0, atol=3e-7 * np.abs(want).max())
    native = compile(after)(*inputs)
    np.testing.assert_allclose(native, want, rtol=0, atol=1e-5 * np.abs(want).max())
    again, _ = optimize(after)
    assert len(again.nodes) == len(after.nodes)
    return after, log


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize(
    "form",
    [timm, gpt2, neox, bloom, opt, batch_first(sequence_first), batch_first(with_weights)],
    ids=["timm", "gpt2", "neox", "bloom", "opt", "torch.nn", "torch.nn with weights"],
)
def test_a_block_becomes_nine_nodes(form: Attention, norm_first: bool, batch: int) -> None:
    after, log = optimized(block(form, batch, 4, norm_first=norm_first))
    assert sorted(ops_of(after)) == sorted(BLOCK)
    assert log.fired("attention") == log.fired("merge_qkv") == 1
    (attention,) = [node for node in after.nodes if node.op == "attention"]
    assert attention.attribute("layout") == "qkv"
    assert log.places is not None and not log.missed
    assert [place.kind for place in log.places] == ["attention", *["norm"] * 2, *["linear"] * 4]


@pytest.mark.parametrize("form", [timm, gpt2, neox, opt, batch_first(sequence_first)])
def test_a_single_head(form: Attention) -> None:
    after, _ = optimized(block(form, 2, 1))
    calls = [op for op in ops_of(after) if op != "reshape"]
    assert calls == [op for op in BLOCK if op != "reshape"]


@pytest.mark.parametrize("form", [sequence_first, with_weights])
def test_rows_of_a_sequence_first_layer_are_permuted_once_each_way(form: Attention) -> None:
    after, log = optimized(block(form, 2, 4))
    calls = [op for op in ops_of(after) if op != "reshape"]
    assert calls.count("permute") == 2 and len(calls) == 9
    (missed,) = log.missed
    assert missed.kind == "attention" and missed.left == ("permute",)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("form", [grouped, interleaved])
def test_heads_that_share_keys_read_them_where_they_lie(form: Attention, batch: int) -> None:
    after, log = optimized(block(form, batch, 4))
    calls = [op for op in ops_of(after) if op != "reshape"]
    assert calls == [op for op in BLOCK if op != "reshape"]
    (attention,) = [node for node in after.nodes if node.op == "attention"]
    assert attention.attribute("layout") == "qkv" and attention.attribute("n_heads") == 4
    assert [value and value.shape for value in attention.inputs] == [(batch, 6, 8, 8), *[None] * 3]
    assert log.fired("shared_heads") == log.fired("merge_qkv") == 1 and not log.missed
    assert "layout qkv, 2 heads of keys for 4" in str(log)


def test_values_with_a_head_size_of_their_own() -> None:
    after, log = optimized(block(narrow, 2, 4))
    (attention,) = [node for node in after.nodes if node.op == "attention"]
    assert attention.output.shape == (2, 6, 4, 3) and not log.missed


@pytest.mark.parametrize("batch", [1, 2])
def test_a_rotation_of_q_and_k_is_one_call(batch: int) -> None:
    after, log = optimized(block(turned, batch, 4))
    calls = [op for op in ops_of(after) if op != "reshape"]
    assert calls == ["layer_norm", "matmul", "rotary", "attention", *BLOCK[5:]]
    (rotary,) = [node for node in after.nodes if node.op == "rotary"]
    assert rotary.attribute("n_heads") == 8 and rotary.output.shape == (batch, 6, 12, 8)
    assert not log.missed


def test_attention_to_another_input_reads_it_where_it_lies() -> None:
    after, log = optimized(block(cross, 2, 4))
    (attention,) = [node for node in after.nodes if node.op == "attention"]
    assert attention.attribute("layout") == "bshd" and "permute" not in ops_of(after)
    assert not log.missed


def test_a_row_of_the_output_is_all_that_is_computed() -> None:
    """The last layer's products behind attention, its norms and sums are those of one token."""
    forms = Forms()
    x = forms.builder.input("x", (2, 6, 32))
    x = forms.node("add", x, timm(forms, forms.norm(x), 4))
    x = forms.node("add", x, forms.linear(forms.node("gelu", forms.linear(x, 48)), 32))
    row = forms.reshape(forms.slice(forms.norm(x), 1, 5, 6), 2, 32)
    after, _ = optimized(forms.builder.finish(forms.linear(row, 41, False)))
    sizes = [node.output.size // node.output.shape[-1] for node in after.nodes[5:]]
    assert set(sizes) == {2}, after


def test_a_scale_that_would_overflow_before_its_bias_stays() -> None:
    forms = Forms()
    x = forms.builder.input("x", (2, 6, 32))
    out = forms.node("mul", forms.linear(x, 32), forms.number(3.0))
    _, log = optimized(forms.builder.finish(out))
    (place,) = log.missed
    assert place.reason == (
        "absorb_into_matmul: the factor 3 is above 1, which may overflow before the bias is added"
    )


# Views --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_a_view_says_where_each_element_lies(seed: int) -> None:
    """Random movements of an array against the view's offset and strides, and its steps."""
    random = np.random.default_rng(seed)
    for _ in range(20):
        forms = Forms()
        shape = ((4, 6, 5), (2, 1, 12, 3), (8,))[random.integers(3)]
        source = forms.builder.input("x", shape)
        array = np.arange(source.size).reshape(shape)
        view: View | None = View.of(source)
        for _ in range(random.integers(1, 6)):
            assert view is not None
            kind = random.integers(4)
            axis = int(random.integers(array.ndim))
            if kind == 0:
                perm = [int(place) for place in random.permutation(array.ndim)]
                view, array = view.permuted(perm), array.transpose(perm)
            elif kind == 1:
                divisors = [n for n in range(1, array.size + 1) if array.size % n == 0]
                first = int(random.choice(divisors))
                wanted = (first, array.size // first)
                view, array = view.reshaped(wanted), array.reshape(wanted)
            elif kind == 2:
                start = int(random.integers(array.shape[axis]))
                stop = int(random.integers(start + 1, array.shape[axis] + 1))
                view = view.sliced(axis, start, stop)
                array = array.take(range(start, stop), axis)
            else:
                ids = np.repeat(np.arange(0, array.shape[axis], 2), random.integers(1, 3))
                view, array = view.taken(axis, ids), array.take(ids, axis)
            if view is None:
                break
            check_view(view, array)


def check_view(view: View, array: np.ndarray) -> None:
    assert view.shape == array.shape
    places = np.array(view.offset)
    for axis in view.axes:
        own = np.zeros(1, int)
        for size, stride in axis:
            own = (own[:, None] + stride * np.arange(size)).reshape(-1)
        places = places[..., None] + own
    np.testing.assert_array_equal(places.reshape(array.shape), array)
    steps = steps_to(view, array.shape)
    if steps is not None:
        again = View.of(view.source).after(steps)
        assert again is not None
        np.testing.assert_array_equal(again.shape, array.shape)
        assert (again.offset, again.axes) == (view.offset, view.axes)


def test_shared_keys_are_a_view_with_a_repetition() -> None:
    forms = Forms()
    x = forms.builder.input("x", (2, 3, 5, 4))
    repeated = View.of(x).taken(1, np.repeat(np.arange(3), 2))
    assert repeated is not None and repeated.axes[1] == ((3, 20), (2, 0))
    assert steps_to(repeated, repeated.shape) is None
    assert repeated.permuted(SWAP).axes[2] == ((3, 20), (2, 0))
    # Neither has a shape of another number of elements
    assert View.of(x).reshaped(repeated.shape) is None
    assert repeated.reshaped(x.shape) is None
