"""Blocks as export writes those of real models: the ways to make q, k and v, and the attentions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from small_graphs import random

from ablation_executor.ir import Array, Graph, GraphBuilder, Value

Attention = Callable[["Forms", Value, int], Value]

SWAP = (0, 2, 1, 3)
LOWEST = float(np.finfo(np.float32).min)


class Forms:
    """A graph being built, with the handlers of export in short."""

    def __init__(self) -> None:
        self.builder = GraphBuilder()

    def node(self, op: str, *inputs: Value | None, **attributes: Any) -> Value:
        return self.builder.node(op, inputs, attributes)

    def weight(self, *shape: int) -> Value:
        return self.builder.constant("weight", random(*shape))

    def number(self, array: Array | float) -> Value:
        return self.builder.constant("number", array)

    def reshape(self, x: Value, *shape: int) -> Value:
        return x if shape == x.shape else self.node("reshape", x, shape=shape)

    def permute(self, x: Value, *perm: int) -> Value:
        """A reshape where only axes of size 1 move, as export has it."""
        moved = [axis for axis in perm if x.shape[axis] != 1]
        if moved == sorted(moved):
            return self.reshape(x, *(x.shape[axis] for axis in perm))
        return self.node("permute", x, perm=perm)

    def slice(self, x: Value, axis: int, start: int, stop: int) -> Value:
        return self.node("slice", x, axis=axis, start=start, stop=stop)

    def select(self, x: Value, axis: int, index: int) -> Value:
        part = self.slice(x, axis, index, index + 1)
        return self.reshape(part, *x.shape[:axis], *x.shape[axis + 1 :])

    def linear(self, x: Value, columns: int, bias: bool = True) -> Value:
        weight = self.node("permute", self.weight(columns, x.shape[-1]), perm=(1, 0))
        out = self.node("matmul", x, weight)
        return self.node("add", out, self.weight(columns)) if bias else out

    def addmm(self, x: Value, columns: int) -> Value:
        """GPT-2's Conv1D, on flat rows."""
        flat = self.reshape(x, x.size // x.shape[-1], x.shape[-1])
        out = self.node("matmul", flat, self.weight(x.shape[-1], columns))
        out = self.node("add", out, self.weight(columns))
        return self.reshape(out, *x.shape[:-1], columns)

    def expand(self, x: Value, axis: int, count: int) -> Value:
        """An axis of size 1 repeated, as export has it."""
        return self.node("take", x, self.number(np.zeros(count)), axis=axis)

    def heads(self, x: Value, n_heads: int) -> Value:
        """(B, S, H D) -> (B, H, S, D)."""
        batch, seq_len, width = x.shape
        return self.permute(self.reshape(x, batch, seq_len, n_heads, width // n_heads), *SWAP)

    def attend(
        self,
        q: Value,
        k: Value,
        v: Value,
        scale: float | None = 0.25,
        mask: Array | Value | None = None,
    ) -> Value:
        last = len(k.shape) - 1
        scores = self.node("matmul", q, self.permute(k, *range(last - 1), last, last - 1))
        if scale is not None:
            scores = self.node("mul", scores, self.number(scale))
        if mask is not None:
            mask = mask if isinstance(mask, Value) else self.number(mask)
            scores = self.node("add", scores, mask)
        return self.node("matmul", self.node("softmax", scores), v)

    def joined(self, out: Value) -> Value:
        """(B, H, S, D) -> (B, S, H D)."""
        batch, n_heads, seq_len, head_dim = out.shape
        return self.reshape(self.permute(out, *SWAP), batch, seq_len, n_heads * head_dim)

    def norm(self, x: Value) -> Value:
        return self.node("layer_norm", x, self.weight(x.shape[-1]), self.weight(x.shape[-1]))


def causal(seq_len: int) -> Array:
    """An added mask with the lowest number behind each query."""
    return np.where(np.tri(seq_len) > 0, 0, LOWEST)


def timm(forms: Forms, x: Value, n_heads: int) -> Value:
    """One linear layer, (B, N, 3, H, D), permute, unbind."""
    batch, seq_len, width = x.shape
    out = forms.linear(x, 3 * width)
    out = forms.reshape(out, batch, seq_len, 3, n_heads, width // n_heads)
    out = forms.permute(out, 2, 0, 3, 1, 4)
    q, k, v = (forms.select(out, 0, index) for index in range(3))
    return forms.linear(forms.joined(forms.attend(q, k, v)), width)


def gpt2(forms: Forms, x: Value, n_heads: int) -> Value:
    """One addmm, split on the last axis."""
    _, seq_len, width = x.shape
    out = forms.addmm(x, 3 * width)
    q, k, v = (
        forms.heads(forms.slice(out, 2, index * width, (index + 1) * width), n_heads)
        for index in range(3)
    )
    return forms.addmm(forms.joined(forms.attend(q, k, v, mask=causal(seq_len))), width)


def neox(forms: Forms, x: Value, n_heads: int) -> Value:
    """The heads outside of q, k and v, split behind the permute."""
    width = x.shape[-1]
    size = width // n_heads
    out = forms.heads(forms.linear(x, 3 * width), n_heads)
    q, k, v = (forms.slice(out, 3, index * size, (index + 1) * size) for index in range(3))
    return forms.linear(forms.joined(forms.attend(q, k, v)), width)


def bloom(forms: Forms, x: Value, n_heads: int) -> Value:
    """The heads outside of q, k and v, products over (B H), two masks added in two shapes."""
    batch, seq_len, width = x.shape
    size, flat = width // n_heads, batch * n_heads
    out = forms.reshape(forms.linear(x, 3 * width), batch, seq_len, n_heads, 3, size)
    q, k, v = (forms.select(out, 3, index) for index in range(3))
    q, v = (forms.reshape(forms.permute(part, *SWAP), flat, seq_len, size) for part in (q, v))
    k = forms.reshape(forms.permute(k, 0, 2, 3, 1), flat, size, seq_len)
    scores = forms.node("mul", forms.node("matmul", q, k), forms.number(0.25))
    scores = forms.node("add", scores, forms.weight(flat, 1, seq_len))
    scores = forms.reshape(scores, batch, n_heads, seq_len, seq_len)
    scores = forms.node("add", scores, forms.number(causal(seq_len)[None, None]))
    weights = forms.reshape(forms.node("softmax", scores), flat, seq_len, seq_len)
    out = forms.reshape(forms.node("matmul", weights, v), batch, n_heads, seq_len, size)
    return forms.linear(forms.joined(out), width)


def opt(forms: Forms, x: Value, n_heads: int) -> Value:
    """Three linear layers, k without a bias, a factor on q."""
    width = x.shape[-1]
    q = forms.node("mul", forms.linear(x, width), forms.number(0.125))
    parts = [q, forms.linear(x, width, False), forms.linear(x, width)]
    q, k, v = (forms.heads(part, n_heads) for part in parts)
    return forms.linear(forms.joined(forms.attend(q, k, v, None)), width)


def _packed(forms: Forms, x: Value, n_heads: int) -> list[Value]:
    """q, k and v (B H, S, D) of x (S, B, E), as torch.nn.MultiheadAttention makes them."""
    seq_len, batch, width = x.shape
    out = forms.reshape(forms.linear(x, 3 * width), seq_len, batch, 3, width)
    out = forms.permute(forms.reshape(out, 1, seq_len, batch, 3, width), 3, 1, 2, 0, 4)
    out = forms.reshape(out, 3, seq_len, batch, width)
    flat = (seq_len, batch * n_heads, width // n_heads)
    return [
        forms.permute(forms.reshape(forms.select(out, 0, index), *flat), 1, 0, 2)
        for index in range(3)
    ]


def _unpacked(forms: Forms, out: Value, seq_len: int, batch: int) -> Value:
    """The layer behind attention, on flat rows, from (S B, E) to (S, B, E)."""
    return forms.reshape(forms.linear(out, out.shape[-1]), seq_len, batch, out.shape[-1])


def sequence_first(forms: Forms, x: Value, n_heads: int) -> Value:
    """torch.nn.MultiheadAttention(batch_first=False)."""
    seq_len, batch, width = x.shape
    shape = (batch, n_heads, seq_len, width // n_heads)
    q, k, v = (forms.reshape(part, *shape) for part in _packed(forms, x, n_heads))
    out = forms.permute(forms.attend(q, k, v), 2, 0, 1, 3)
    return _unpacked(forms, forms.reshape(out, seq_len * batch, width), seq_len, batch)


def with_weights(forms: Forms, x: Value, n_heads: int) -> Value:
    """torch.nn.MultiheadAttention(need_weights=True): q is scaled, products over (B H)."""
    seq_len, batch, width = x.shape
    q, k, v = _packed(forms, x, n_heads)
    q = forms.node("mul", q, forms.number(0.3))
    out = forms.permute(forms.attend(q, k, v, None), 1, 0, 2)
    return _unpacked(forms, forms.reshape(out, seq_len * batch, width), seq_len, batch)


def batch_first(inner: Attention) -> Attention:
    """The same on (B, S, E)."""

    def attention(forms: Forms, x: Value, n_heads: int) -> Value:
        return forms.permute(inner(forms, forms.permute(x, 1, 0, 2), n_heads), 1, 0, 2)

    return attention


def grouped(forms: Forms, x: Value, n_heads: int) -> Value:
    """Two heads of keys and values for all of q, repeated as repeat_kv does."""
    batch, seq_len, width = x.shape
    size, own = width // n_heads, 2
    q = forms.heads(forms.linear(x, width, False), n_heads)
    k, v = (forms.heads(forms.linear(x, own * size, False), own) for _ in "kv")

    def repeated(part: Value) -> Value:
        part = forms.reshape(part, batch, own, 1, seq_len, size)
        part = forms.expand(part, 2, n_heads // own)
        return forms.reshape(part, batch, n_heads, seq_len, size)

    return forms.linear(forms.joined(forms.attend(q, repeated(k), repeated(v))), width)


def interleaved(forms: Forms, x: Value, n_heads: int) -> Value:
    """The same of one product, cut on the last axis, by repeat_interleave."""
    width = x.shape[-1]
    size, own = width // n_heads, 2
    out = forms.linear(x, width + 2 * own * size)
    edges = (0, width, width + own * size, width + 2 * own * size)
    q, k, v = (
        forms.heads(forms.slice(out, 2, first, last), heads)
        for first, last, heads in zip(edges[:-1], edges[1:], (n_heads, own, own), strict=True)
    )
    ids = forms.number(np.repeat(np.arange(own), n_heads // own))
    k, v = (forms.node("take", part, ids, axis=1) for part in (k, v))
    return forms.linear(forms.joined(forms.attend(q, k, v)), width)


def narrow(forms: Forms, x: Value, n_heads: int) -> Value:
    """Values with a head size of their own."""
    width = x.shape[-1]
    q, k = (forms.heads(forms.linear(x, width), n_heads) for _ in "qk")
    v = forms.heads(forms.linear(x, 3 * n_heads), n_heads)
    return forms.linear(forms.joined(forms.attend(q, k, v)), width)


def turned(forms: Forms, x: Value, n_heads: int) -> Value:
    """A rotation of queries and keys, as of Llama."""
    width, seq_len = x.shape[-1], x.shape[1]
    tables = [forms.weight(seq_len, width // n_heads // 2) for _ in "cs"]
    q, k, v = (forms.heads(forms.linear(x, width, False), n_heads) for _ in "qkv")
    q, k = (forms.node("rotary", part, *tables) for part in (q, k))
    return forms.linear(forms.joined(forms.attend(q, k, v)), width)


def cross(forms: Forms, x: Value, n_heads: int) -> Value:
    """Keys and values from another input of another length."""
    batch, _, width = x.shape
    other = forms.builder.input("other", (batch, 9, width))
    q = forms.heads(forms.linear(x, width), n_heads)
    k, v = (forms.heads(forms.linear(other, width), n_heads) for _ in "kv")
    return forms.linear(forms.joined(forms.attend(q, k, v)), width)


def block(attention: Attention, batch: int, n_heads: int, *, norm_first: bool = True) -> Graph:
    """A transformer block of (batch, 6, 32) around an attention."""
    forms = Forms()
    x = forms.builder.input("x", (batch, 6, 32))

    def feed_forward(y: Value) -> Value:
        return forms.linear(forms.node("gelu", forms.linear(y, 48)), 32)

    if norm_first:
        x = forms.node("add", x, attention(forms, forms.norm(x), n_heads))
        return forms.builder.finish(forms.node("add", x, feed_forward(forms.norm(x))))
    x = forms.norm(forms.node("add", x, attention(forms, x, n_heads)))
    return forms.builder.finish(forms.norm(forms.node("add", x, feed_forward(x))))
