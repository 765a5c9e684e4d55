"""Small graphs that a pass refuses to fuse, each with what a model's author can change.

The reason is never written here: `RefusedFusion.run` asks the passes for it. The site shows the
graphs, and the tests hold each one to be refused by the pass that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .ir import Graph, GraphBuilder, Value
from .passes import optimize
from .rewrite import Place

_B, _H, _S, _D = 1, 2, 4, 8
_WIDTH = _H * _D
_SHAPE = (_B, _H, _S, _D)


@dataclass(frozen=True)
class RefusedFusion:
    """`what` is the part of a model, `pass_name` the pass that refuses, `change` the way out."""

    what: str
    pass_name: str
    change: str
    build: Callable[[], Graph]

    def run(self) -> tuple[Graph, Place]:
        """Return the graph as written, and the place that all passes leave in it.

        Raises:
            ValueError: the passes leave no such place, or several.
        """
        graph = self.build()
        _, log = optimize(graph)
        missed = [place for place in log.missed if place.reason.startswith(f"{self.pass_name}: ")]
        if len(missed) != 1:
            raise ValueError(f"{self.what}: {self.pass_name} refuses {len(missed)} places, not 1")
        return graph, missed[0]


class _Builder(GraphBuilder):
    """Names constants by their place, and makes the heads of an attention."""

    def weight(self, name: str, *shape: int) -> Value:
        """Add a constant of this shape, whose elements do not matter."""
        return self.constant(name, np.linspace(-1.0, 1.0, int(np.prod(shape))).reshape(shape))

    def heads(self) -> list[Value]:
        """Add q, k and v as inputs (B, H, S, D)."""
        return [self.input(name, _SHAPE) for name in "qkv"]

    def scores(self, q: Value, k: Value) -> Value:
        """Append q @ k^T."""
        return self.node("matmul", [q, k], {"transpose_b": True}, name="scores")

    def attend(self, scores: Value, v: Value) -> Value:
        """Append softmax(scores) @ v."""
        return self.node("matmul", [self.node("softmax", [scores]), v], name="attended")

    def linear(self, x: Value, name: str, columns: int = _WIDTH, **attributes: Any) -> Value:
        """Append x @ a constant."""
        weight = self.weight(f"{name}.weight", x.shape[-1], columns)
        return self.node("matmul", [x, weight], attributes, name=name, module_path=name)


# Attention ----------------------------------------------------------------------------------------


def _weights_are_read() -> Graph:
    builder = _Builder()
    q, k, v = builder.heads()
    weights = builder.node("softmax", [builder.scores(q, k)], name="weights")
    return builder.finish(builder.node("matmul", [weights, v]), weights)


def _scale_of_each_key() -> Graph:
    builder = _Builder()
    q, k, v = builder.heads()
    scaled = builder.node("mul", [builder.scores(q, k), builder.weight("temperature", _S)])
    return builder.finish(builder.attend(scaled, v))


def _mask_before_scale() -> Graph:
    builder = _Builder()
    q, k, v = builder.heads()
    masked = builder.node("add", [builder.scores(q, k), builder.input("mask", (_S, _S))])
    scaled = builder.node("mul", [masked, builder.constant("scale", 0.5)])
    return builder.finish(builder.attend(scaled, v))


def _function_of_scores() -> Graph:
    builder = _Builder()
    q, k, v = builder.heads()
    return builder.finish(builder.attend(builder.node("relu", [builder.scores(q, k)]), v))


def _masked_by_zero() -> Graph:
    builder = _Builder()
    q, k, v = builder.heads()
    keep = builder.constant("keep", np.tri(_S))
    zero = builder.constant("zero", 0.0)
    return builder.finish(
        builder.attend(builder.node("where", [keep, builder.scores(q, k), zero]), v)
    )


def _residual_of_heads() -> Graph:
    builder = _Builder()
    q, k, v = builder.heads()
    out = builder.attend(builder.scores(q, k), v)
    return builder.finish(builder.node("add", [out, builder.input("residual", _SHAPE)]))


# Copies around attention --------------------------------------------------------------------------


def _one_of_three_is_permuted() -> Graph:
    builder = _Builder()
    q = builder.input("q", (_B, _S, _H, _D))
    _, k, v = builder.heads()
    swapped = builder.node("permute", [q], {"perm": (0, 2, 1, 3)})
    return builder.finish(builder.node("attention", [swapped, k, v]))


def _projected(make: Callable[[_Builder, Value, str], Value], *read: str) -> Graph:
    """Attention over projections of x; `read` are names of projections that the model returns."""
    builder = _Builder()
    x = builder.input("x", (_B, _S, _WIDTH))
    products = {name: make(builder, x, name) for name in "qkv"}
    heads = [
        builder.node(
            "permute",
            [builder.node("reshape", [value], {"shape": (_B, _S, _H, _D)})],
            {"perm": (0, 2, 1, 3)},
        )
        for value in products.values()
    ]
    out = builder.node("attention", heads, name="attention")
    return builder.finish(out, *(products[name] for name in read))


def _keys_are_returned() -> Graph:
    return _projected(lambda builder, x, name: builder.linear(x, name), "k")


def _activation_of_values() -> Graph:
    def make(builder: _Builder, x: Value, name: str) -> Value:
        product = builder.linear(x, name)
        return builder.node("relu", [product]) if name == "v" else product

    return _projected(make)


# Norms --------------------------------------------------------------------------------------------


def _written_norm(scale: Callable[[_Builder, Value, Value], Value]) -> Graph:
    """x scaled by a function of the mean of its squares, and a weight."""
    builder = _Builder()
    x = builder.input("x", (_B, _S, _WIDTH))
    mean = builder.constant("mean", np.full((_WIDTH, 1), 1 / _WIDTH))
    squares = builder.node("matmul", [builder.node("mul", [x, x]), mean], name="mean_of_squares")
    normed = scale(builder, x, squares)
    return builder.finish(builder.node("mul", [normed, builder.weight("weight", _WIDTH)]))


def _eps_beside_the_root() -> Graph:
    def scale(builder: _Builder, x: Value, squares: Value) -> Value:
        eps = builder.constant("eps", 1e-5)
        return builder.node("div", [x, builder.node("add", [builder.node("sqrt", [squares]), eps])])

    return _written_norm(scale)


def _clamped_root() -> Graph:
    def scale(builder: _Builder, x: Value, squares: Value) -> Value:
        least = builder.constant("least", 1e-5)
        root = builder.node("maximum", [builder.node("sqrt", [squares]), least])
        return builder.node("div", [x, root])

    return _written_norm(scale)


def _negative_eps() -> Graph:
    def scale(builder: _Builder, x: Value, squares: Value) -> Value:
        total = builder.node("add", [squares, builder.constant("eps", -0.1)])
        return builder.node("mul", [x, builder.node("rsqrt", [total])])

    return _written_norm(scale)


def _another_value_is_scaled() -> Graph:
    def scale(builder: _Builder, x: Value, squares: Value) -> Value:
        other = builder.input("other", x.shape)
        total = builder.node("add", [squares, builder.constant("eps", 1e-5)])
        return builder.node("mul", [other, builder.node("rsqrt", [total])])

    return _written_norm(scale)


# Gates and linear layers --------------------------------------------------------------------------


def _gate_is_read() -> Graph:
    builder = _Builder()
    a, b = (builder.input(name, (_S, _WIDTH)) for name in ("a", "b"))
    gate = builder.node("silu", [a], name="gate")
    return builder.finish(builder.node("mul", [gate, b]), gate)


def _after_linear(finish: Callable[[_Builder, Value], Sequence[Value]]) -> Graph:
    builder = _Builder()
    product = builder.linear(builder.input("x", (_S, _WIDTH)), "linear")
    return builder.finish(*finish(builder, product))


def _two_residuals() -> Graph:
    def finish(builder: _Builder, product: Value) -> Sequence[Value]:
        for name in ("residual", "other"):
            product = builder.node("add", [product, builder.input(name, product.shape)])
        return [product]

    return _after_linear(finish)


def _sum_of_each_row() -> Graph:
    return _after_linear(
        lambda builder, product: [builder.node("add", [product, builder.input("offset", (_S, 1))])]
    )


def _residual_behind_activation() -> Graph:
    def finish(builder: _Builder, product: Value) -> Sequence[Value]:
        active = builder.node("relu", [product])
        return [builder.node("add", [active, builder.input("residual", product.shape)])]

    return _after_linear(finish)


def _scaled(*factors: float, bias: bool = False) -> Graph:
    def finish(builder: _Builder, product: Value) -> Sequence[Value]:
        if bias:
            product = builder.node("add", [product, builder.weight("bias", _WIDTH)])
        for factor in factors:
            product = builder.node("mul", [product, builder.constant("factor", factor)])
        return [product]

    return _after_linear(finish)


def _large_factor_behind_a_bias() -> Graph:
    return _scaled(2.0, bias=True)


def _two_factors() -> Graph:
    return _scaled(0.5, 4.0)


EXAMPLES: tuple[RefusedFusion, ...] = (
    RefusedFusion(
        "Attention whose weights are returned",
        "fuse_attention",
        "Return the result alone: `need_weights=False`, `output_attentions=False`.",
        _weights_are_read,
    ),
    RefusedFusion(
        "Attention with a factor for each key",
        "fuse_attention",
        "Multiply the keys by the factors, before the product.",
        _scale_of_each_key,
    ),
    RefusedFusion(
        "Attention that masks before it scales",
        "fuse_attention",
        "Scale the queries or the scores first, and add the mask last.",
        _mask_before_scale,
    ),
    RefusedFusion(
        "Attention with a function of its scores, other than a soft cap",
        "fuse_attention",
        "Leave the function out if the weights allow it. Only `c * tanh(scores / c)` is computed.",
        _function_of_scores,
    ),
    RefusedFusion(
        "Attention that masks scores by 0",
        "fuse_attention",
        "Mask by `float('-inf')`. A score of 0 is not hidden: it has a weight of exp(0).",
        _masked_by_zero,
    ),
    RefusedFusion(
        "Attention with a residual of each head",
        "fuse_attention",
        "Add the residual behind the output projection.",
        _residual_of_heads,
    ),
    RefusedFusion(
        "Queries as (B, S, H, D), keys and values as (B, H, S, D)",
        "direct_layout",
        "Keep all three in one order of axes.",
        _one_of_three_is_permuted,
    ),
    RefusedFusion(
        "Keys that the model returns",
        "merge_qkv",
        "Return results alone; a cache of keys is made outside of the graph.",
        _keys_are_returned,
    ),
    RefusedFusion(
        "Values behind an activation",
        "merge_qkv",
        "Apply the activation behind attention, if the weights allow it.",
        _activation_of_values,
    ),
    RefusedFusion(
        "A norm with eps behind its root",
        "fuse_rms_norm",
        "Add eps to the mean of squares: `x * torch.rsqrt(mean + eps)`.",
        _eps_beside_the_root,
    ),
    RefusedFusion(
        "A norm with a clamped root, such as F.normalize",
        "fuse_rms_norm",
        "Add eps to the mean of squares in place of the clamp.",
        _clamped_root,
    ),
    RefusedFusion(
        "A norm with a negative eps",
        "fuse_rms_norm",
        "Give an eps of 0 or more.",
        _negative_eps,
    ),
    RefusedFusion(
        "A norm that scales another tensor than the one it measures",
        "fuse_rms_norm",
        "Scale the tensor that the squares are of.",
        _another_value_is_scaled,
    ),
    RefusedFusion(
        "A gate whose activation is returned",
        "fuse_silu_mul",
        "Return the product alone.",
        _gate_is_read,
    ),
    RefusedFusion(
        "A linear layer with two residuals",
        "fuse_matmul_add",
        "Add the residuals to each other first; then one sum is left.",
        _two_residuals,
    ),
    RefusedFusion(
        "A linear layer with a number for each row",
        "fuse_matmul_add",
        "Make it a residual of the full shape, or a bias of the columns.",
        _sum_of_each_row,
    ),
    RefusedFusion(
        "A residual behind an activation",
        "fuse_matmul_add",
        "Add the residual before the activation, if the weights allow it.",
        _residual_behind_activation,
    ),
    RefusedFusion(
        "A linear layer with a factor above 1 behind its bias",
        "absorb_into_matmul",
        "Multiply weight and bias by the factor once, before the export.",
        _large_factor_behind_a_bias,
    ),
    RefusedFusion(
        "A linear layer with a factor below 1, then one above",
        "absorb_into_matmul",
        "Multiply the two factors with each other, in Python.",
        _two_factors,
    ),
)
