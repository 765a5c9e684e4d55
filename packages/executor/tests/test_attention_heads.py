"""Fewer heads of keys than of queries, norms of q and k, soft caps: one product, one call of each.

As Llama 3, Qwen 3, OLMo 2, Falcon and Gemma 2 write them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from attention_forms import Attention, Forms, block, causal
from small_graphs import ops_of
from test_attention_forms import BLOCK, optimized

from ablation_executor.ir import Graph, Node, Value
from ablation_executor.passes import optimize

SIZE, KV_HEADS = 8, 2

Norm = Callable[[Forms, Value, str], Value]


def rms_norm(forms: Forms, x: Value, eps: float = 1e-6) -> Value:
    return forms.node("rms_norm", x, forms.weight(x.shape[-1]), eps=eps)


def attend(
    *,
    heads: Norm = lambda forms, x, name: x,
    together: Norm = lambda forms, x, name: x,
    behind: Norm = lambda forms, x, name: x,
    kv_heads: int = KV_HEADS,
    turns: bool = True,
    cap: float = 0.0,
) -> Attention:
    """Three linear layers, what is done to all their columns, to heads, and behind the permute."""

    def attention(forms: Forms, x: Value, n_heads: int) -> Value:
        batch, seq_len, width = x.shape
        tables = [forms.weight(seq_len, SIZE // 2) for _ in "cs"]
        parts = []
        for name, count in zip("qkv", (n_heads, kv_heads, kv_heads), strict=True):
            part = together(forms, forms.linear(x, count * SIZE, False), name)
            part = heads(forms, forms.reshape(part, batch, seq_len, count, SIZE), name)
            part = behind(forms, forms.permute(part, 0, 2, 1, 3), name)
            if turns and name != "v":
                part = forms.node("rotary", part, *tables, pairs="halves")
            if name != "q" and count < n_heads:
                part = forms.reshape(part, batch, count, 1, seq_len, SIZE)
                part = forms.expand(part, 2, n_heads // count)
                part = forms.reshape(part, batch, n_heads, seq_len, SIZE)
            parts.append(part)
        return forms.linear(forms.joined(scored(forms, parts, cap)), width)

    return attention


def scored(forms: Forms, parts: list[Value], cap: float) -> Value:
    q, k, v = parts
    if not cap:
        return forms.attend(q, k, v, mask=causal(q.shape[2]))
    scores = forms.node("matmul", q, forms.permute(k, 0, 1, 3, 2))
    scores = forms.node("mul", scores, forms.number(0.25))
    scores = forms.node("tanh", forms.node("div", scores, forms.number(cap)))
    scores = forms.node("mul", scores, forms.number(cap))
    scores = forms.node("add", scores, forms.number(causal(q.shape[2])))
    return forms.node("matmul", forms.node("softmax", scores), v)


def norm_of_q_and_k(forms: Forms, x: Value, name: str) -> Value:
    return x if name == "v" else rms_norm(forms, x)


FORMS = {
    "llama 3": (attend(), ["rotary"]),
    "qwen 3": (attend(heads=norm_of_q_and_k), ["rms_norm", "rotary"]),
    "norms behind the permute": (attend(behind=norm_of_q_and_k), ["rms_norm", "rotary"]),
    "norms alone": (attend(heads=norm_of_q_and_k, turns=False), ["rms_norm"]),
    "olmo 2": (attend(together=norm_of_q_and_k, kv_heads=4), ["rms_norm", "rotary"]),
    "qwen 3 of as many heads": (attend(heads=norm_of_q_and_k, kv_heads=4), ["rms_norm", "rotary"]),
    "falcon": (attend(kv_heads=1), ["rotary"]),
    "gemma 2": (attend(cap=5.0), ["rotary"]),
}


def only(graph: Graph, op: str) -> Node:
    (node,) = [node for node in graph.nodes if node.op == op]
    return node


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", FORMS)
def test_one_product_and_one_call_of_each_kind(name: str, batch: int) -> None:
    form, between = FORMS[name]
    after, log = optimized(block(form, batch, 4))
    calls = [op for op in ops_of(after) if op != "reshape"]
    assert calls == ["layer_norm", "matmul", *between, "attention", *BLOCK[5:]]
    assert only(after, "attention").attribute("layout") == "qkv" and not log.missed


def test_the_merged_calls_leave_the_heads_of_v() -> None:
    after, log = optimized(block(FORMS["qwen 3"][0], 2, 4))
    norm, rotary = only(after, "rms_norm"), only(after, "rotary")
    x, weight = norm.inputs[:2]
    assert x is not None and weight is not None
    assert (x.shape, weight.shape) == ((2, 6, 4 + 2 * KV_HEADS, SIZE), (4 + KV_HEADS, SIZE))
    rows = after.constants[weight]
    np.testing.assert_array_equal(rows[:4], np.tile(rows[0], (4, 1)))
    np.testing.assert_array_equal(rows[4:], np.tile(rows[4], (KV_HEADS, 1)))
    assert np.any(rows[0] != rows[4]) and norm.attribute("eps") == 1e-6
    assert rotary.attribute("n_heads") == 4 + KV_HEADS
    said = str(log)
    assert "layout qkv, mask_is_causal, mask, 2 heads of keys for 4" in said
    assert "rms_norm, 6 weights at once" in said and "rotary of halves, 6 of 8 heads" in said


def test_norms_of_all_heads_together_have_two_weights() -> None:
    after, log = optimized(block(FORMS["olmo 2"][0], 2, 4))
    x, weight = only(after, "rms_norm").inputs[:2]
    assert x is not None and weight is not None
    assert (x.shape, weight.shape) == ((2, 6, 3, 32), (2, 32))
    assert "rms_norm, 2 weights at once" in str(log)


def test_the_log_names_a_soft_cap() -> None:
    after, log = optimized(block(FORMS["gemma 2"][0], 1, 4))
    assert only(after, "attention").attribute("softcap") == 5.0
    assert "mask, soft cap 5, 2 heads of keys for 4" in str(log)


def one_norm(forms: Forms, x: Value, name: str) -> Value:
    return rms_norm(forms, x) if name == "k" else x


def norm_of_all(forms: Forms, x: Value, name: str) -> Value:
    return rms_norm(forms, x)


def other_eps(forms: Forms, x: Value, name: str) -> Value:
    return x if name == "v" else rms_norm(forms, x, 1e-6 if name == "q" else 1e-5)


def weight_of_input(forms: Forms, x: Value, name: str) -> Value:
    if name != "k":
        return norm_of_q_and_k(forms, x, name)
    return forms.node("rms_norm", x, forms.builder.input("w", (SIZE,)), eps=1e-6)


def scaled_behind(forms: Forms, x: Value, name: str) -> Value:
    x = norm_of_q_and_k(forms, x, name)
    return forms.node("mul", x, forms.number(0.5)) if name == "q" else x


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (attend(heads=one_norm), "only one of queries and keys is normed"),
        (attend(heads=norm_of_all), "values are normed as well"),
        (attend(heads=other_eps), "the norms of q and k differ in eps"),
        (attend(heads=weight_of_input), "the weight of the norm of k is not a constant vector"),
        (
            attend(together=norm_of_q_and_k),
            "one norm is of all heads together, and q has other heads than k",
        ),
    ],
)
def test_norms_that_stay_apart(form: Attention, reason: str) -> None:
    """The three products are left, and read where they lie."""
    after, log = optimized(block(form, 2, 4))
    (missed,) = log.missed
    assert (missed.kind, missed.left) == ("attention", ("matmul", "matmul"))
    assert missed.reason == f"merge_qkv: {reason}"
    assert only(after, "attention").attribute("layout") == "bshd"
    assert "permute" not in ops_of(after)


def test_a_factor_behind_a_norm_stays() -> None:
    _, log = optimized(block(attend(heads=scaled_behind), 2, 4))
    assert [reason for _, reason in log.refused("merge_qkv")] == ["q is scaled behind its norm"]


def test_values_of_another_size_stay_apart() -> None:
    """One product of q, k and v, whose parts no layout reads together, becomes three."""
    forms = Forms()
    x = forms.builder.input("x", (2, 6, 32))
    out = forms.linear(x, 4 * SIZE + 2 * SIZE + 2 * 3)
    edges = (0, 32, 48, 54)
    q, k, v = (
        forms.heads(forms.slice(out, 2, first, last), heads)
        for first, last, heads in zip(edges[:-1], edges[1:], (4, 2, 2), strict=True)
    )
    k, v = (forms.node("take", part, forms.number(np.repeat([0, 1], 2)), axis=1) for part in (k, v))
    graph = forms.builder.finish(forms.joined(forms.attend(q, k, v)))
    after, log = optimized(graph)
    assert log.fired("split_qkv") == 1 and ops_of(after).count("matmul") == 3
    assert "slice" not in ops_of(after)


def test_layers_share_the_joined_weights_of_norms() -> None:
    """A layer that is used twice has its constants once."""
    forms = Forms()
    x = forms.builder.input("x", (1, 6, 32))
    weights = [forms.weight(SIZE) for _ in "qk"]
    columns = [forms.weight(32, heads * SIZE) for heads in (4, 2, 2)]
    for _ in range(2):
        parts = [forms.heads(forms.node("matmul", x, weight), heads)
                 for weight, heads in zip(columns, (4, 2, 2), strict=True)]  # fmt: skip
        q, k = (
            forms.node("rms_norm", part, weight)
            for part, weight in zip(parts, weights, strict=False)
        )
        out = forms.node("attention", q, k, parts[2], None, causal=True)
        x = forms.joined(out)
    after, _ = optimize(forms.builder.finish(x))
    norms = [node for node in after.nodes if node.op == "rms_norm"]
    assert len(norms) == 2 and norms[0].inputs[1] is norms[1].inputs[1]
    assert len(after.constants) == 2
