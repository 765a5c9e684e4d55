"""Attentions that are written out, and copies in front of an attention."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ir import Value
from ._example import SHAPE, SWAP, B, Builder, D, Examples, H, S

EXAMPLES = Examples()


@EXAMPLES.add(
    "fuse_attention",
    "Attention whose weights are returned",
    "Return the result alone: `need_weights=False`, `output_attentions=False`.",
)
def _weights_are_read(b: Builder) -> Sequence[Value]:
    q, k, v = b.heads()
    weights = b.do("softmax", b.scores(q, k))
    return b.do("matmul", weights, v), weights


@EXAMPLES.add(
    "fuse_attention",
    "Attention with a factor for each key",
    "Multiply the keys by the factors, before the product.",
)
def _scale_of_each_key(b: Builder) -> Value:
    q, k, v = b.heads()
    return b.attend(b.do("mul", b.scores(q, k), b.weight("temperature", S)), v)


@EXAMPLES.add(
    "fuse_attention",
    "Attention that masks before it scales",
    "Scale the queries or the scores first, and add the mask last.",
)
def _mask_before_scale(b: Builder) -> Value:
    q, k, v = b.heads()
    masked = b.do("add", b.scores(q, k), b.input("mask", (S, S)))
    return b.attend(b.do("mul", masked, 0.5), v)


@EXAMPLES.add(
    "fuse_attention",
    "Attention with a function of its scores, other than a soft cap",
    "Leave the function out if the weights allow it. Only `c * tanh(scores / c)` is computed.",
)
def _function_of_scores(b: Builder) -> Value:
    q, k, v = b.heads()
    return b.attend(b.do("relu", b.scores(q, k)), v)


@EXAMPLES.add(
    "fuse_attention",
    "Attention with one softmax over all pairs",
    "Take the softmax over the keys of each query, if the weights allow it.",
)
def _softmax_of_all_pairs(b: Builder) -> Value:
    q, k, v = b.heads()
    weights = b.do("softmax", b.do("reshape", b.scores(q, k), shape=(B, H, S * S)))
    return b.do("matmul", b.do("reshape", weights, shape=(B, H, S, S)), v)


@EXAMPLES.add(
    "fuse_attention",
    "Attention with a factor of each head behind the softmax",
    "Multiply the result of each head by the factor, behind the product.",
)
def _scaled_weights(b: Builder) -> Value:
    q, k, v = b.heads()
    weights = b.do("mul", b.do("softmax", b.scores(q, k)), b.input("heads", (H, 1, 1)))
    return b.do("matmul", weights, v)


@EXAMPLES.add(
    "fuse_attention",
    "Attention that masks scores by 0",
    "Mask by `float('-inf')`. A score of 0 is not hidden: it has a weight of exp(0).",
)
def _masked_by_zero(b: Builder) -> Value:
    q, k, v = b.heads()
    return b.attend(b.do("where", b.constant("keep", np.tri(S)), b.scores(q, k), 0.0), v)


@EXAMPLES.add(
    "fuse_attention",
    "Attention with other scores where a mask hides",
    "Mask by one number, `float('-inf')`.",
)
def _masked_by_a_tensor(b: Builder) -> Value:
    q, k, v = b.heads()
    fill = b.input("fill", (S, S))
    return b.attend(b.do("where", b.constant("keep", np.tri(S)), b.scores(q, k), fill), v)


@EXAMPLES.add(
    "fuse_attention",
    "Attention with a position bias and a mask that replaces",
    "Add the mask too: 0 for a key that stays, `float('-inf')` for a hidden one.",
)
def _bias_and_replacing_mask(b: Builder) -> Value:
    q, k, v = b.heads()
    biased = b.do("add", b.scores(q, k), b.weight("bias", H, S, S))
    return b.attend(b.do("where", b.constant("keep", [1, 1, 1, 0]), biased, -np.inf), v)


@EXAMPLES.add(
    "fuse_attention",
    "Attention with a mask that is an input, behind a causal one",
    "Add the input first, and mask last.",
)
def _input_behind_causal_mask(b: Builder) -> Value:
    q, k, v = b.heads()
    masked = b.do("where", b.constant("causal", np.tri(S)), b.scores(q, k), -np.inf)
    return b.attend(b.do("add", masked, b.input("bias", (S, S))), v)


@EXAMPLES.add(
    "fuse_attention",
    "Attention of windows with a mask for each head alone",
    "Give batch and windows as one axis: scores of (B, H, S, S), a mask of (1, H, S, S).",
)
def _mask_of_five_axes(b: Builder) -> Value:
    q, k, v = b.inputs("q k v", 2, H, 2, S, D)
    return b.attend(b.do("add", b.scores(q, k), b.input("mask", (H, 1, S, S))), v)


@EXAMPLES.add(
    "fuse_attention",
    "Keys that all heads and items of a batch share, as a matrix",
    "Expand keys and values to (B, 1, S, D), and queries to (B, H, S, D).",
)
def _shared_keys(b: Builder) -> Value:
    q = b.input("q", (2, H, S, D))
    k, v = b.inputs("k v", S, D)
    return b.attend(b.scores(q, k), v)


@EXAMPLES.add(
    "fuse_attention",
    "Attention with a residual of each head",
    "Add the residual behind the output projection.",
)
def _residual_of_heads(b: Builder) -> Value:
    q, k, v = b.heads()
    return b.do("add", b.attend(b.scores(q, k), v), b.input("residual", SHAPE))


# Copies in front of an attention ------------------------------------------------------------------


@EXAMPLES.add(
    "direct_layout",
    "Queries as (B, S, H, D), keys and values as (B, H, S, D)",
    "Keep all three in one order of axes.",
)
def _one_of_three_is_permuted(b: Builder) -> Value:
    q = b.input("q", (B, S, H, D))
    _, k, v = b.heads()
    return b.node("attention", [b.do("permute", q, perm=SWAP), k, v])
