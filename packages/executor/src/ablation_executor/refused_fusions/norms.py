"""Norms that are written out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..ir import Value
from ._example import WIDTH, B, Builder, Examples, S

EXAMPLES = Examples()


def _x(b: Builder) -> Value:
    return b.input("x", (B, S, WIDTH))


def _mean_of_squares(b: Builder, x: Value, factor: float = 1 / WIDTH) -> Value:
    column = b.constant("mean", np.full((WIDTH, 1), factor))
    return b.node("matmul", [b.do("mul", x, x), column], name="mean_of_squares")


def _weighted(b: Builder, normed: Value) -> Value:
    return b.do("mul", normed, b.weight("weight", WIDTH))


def _scaled(b: Builder, eps: Value | float, factor: float = 1 / WIDTH) -> tuple[Value, Value]:
    """A norm of x and its reciprocal root."""
    x = _x(b)
    root = b.do("rsqrt", b.do("add", _mean_of_squares(b, x, factor), eps))
    return _weighted(b, b.do("mul", x, root)), root


def _divided(b: Builder, change: Callable[[Value], Value]) -> Value:
    """x over a function of its root."""
    x = _x(b)
    return _weighted(b, b.do("div", x, change(b.do("sqrt", _mean_of_squares(b, x)))))


@EXAMPLES.add(
    "fuse_rms_norm",
    "A norm with eps behind its root",
    "Add eps to the mean of squares: `x * torch.rsqrt(mean + eps)`.",
)
def _eps_beside_the_root(b: Builder) -> Value:
    return _divided(b, lambda root: b.do("add", root, 1e-5))


@EXAMPLES.add(
    "fuse_rms_norm",
    "A norm with a clamped root, such as F.normalize",
    "Add eps to the mean of squares in place of the clamp.",
)
def _clamped_root(b: Builder) -> Value:
    return _divided(b, lambda root: b.do("maximum", root, 1e-5))


@EXAMPLES.add(
    "fuse_rms_norm",
    "A norm of length 1: a root of the sum of squares",
    "Take the mean of squares, and divide the weight by the root of the width.",
)
def _sum_of_squares(b: Builder) -> Value:
    return _scaled(b, 1e-5, factor=1.0)[0]


@EXAMPLES.add(
    "fuse_rms_norm",
    "A norm with an eps for each row",
    "Give one eps, a number.",
)
def _eps_of_each_row(b: Builder) -> Value:
    return _scaled(b, b.input("eps", (S, 1)))[0]


@EXAMPLES.add(
    "fuse_rms_norm",
    "A norm with a negative eps",
    "Give an eps of 0 or more.",
)
def _negative_eps(b: Builder) -> Value:
    return _scaled(b, -0.1)[0]


@EXAMPLES.add(
    "fuse_rms_norm",
    "A norm whose root is returned",
    "Return the result alone.",
)
def _root_is_returned(b: Builder) -> Sequence[Value]:
    return _scaled(b, 1e-5)


@EXAMPLES.add(
    "fuse_rms_norm",
    "A norm that scales another tensor than the one it measures",
    "Scale the tensor that the squares are of, and multiply by the weight last.",
)
def _another_value_is_scaled(b: Builder) -> Value:
    root = b.do("rsqrt", b.do("add", _mean_of_squares(b, _x(b)), 1e-5))
    return _weighted(b, b.do("mul", b.input("other", (B, S, WIDTH)), root))


@EXAMPLES.add(
    "fuse_rms_norm",
    "A norm by the mean of absolute values",
    "Take the mean of squares, if the weights allow it.",
)
def _mean_of_absolute_values(b: Builder) -> Value:
    x = _x(b)
    column = b.constant("mean", np.full((WIDTH, 1), 1 / WIDTH))
    return _weighted(b, b.do("mul", x, b.do("rsqrt", b.do("matmul", b.do("abs", x), column))))
