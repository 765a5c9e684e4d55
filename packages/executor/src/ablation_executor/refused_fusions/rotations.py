"""Rotary embeddings that are written out."""

from __future__ import annotations

import numpy as np

from ..ir import Value
from ._example import SHAPE, Builder, D, Examples, S

EXAMPLES = Examples()


def _table(b: Builder, name: str) -> Value:
    """Each angle twice, behind one another."""
    half = np.linspace(0.0, 1.0, S * D // 2).reshape(S, D // 2)
    return b.constant(name, np.concatenate([half, half], 1))


def _rotated(b: Builder, x: Value, cos: Value, sin: Value, order: tuple[int, ...] = ()) -> Value:
    """x * cos + (elements of x in another order, halves by default, with signs) * sin."""
    half = x.shape[-1] // 2
    if order:
        turned = b.do("take", x, b.constant("order", order), axis=3)
    else:
        turned = b.do(
            "concat",
            b.do("mul", b.cut(x, 3, half, 2 * half), -1.0),
            b.cut(x, 3, 0, half),
            axis=3,
        )
    return b.do("add", b.do("mul", x, cos), b.do("mul", turned, sin))


@EXAMPLES.add(
    "fuse_rotary",
    "A rotation whose pairs run from both ends of a head",
    "Pair each element with its neighbour, or with the one half a head away.",
)
def _pairs_from_both_ends(b: Builder) -> Value:
    x = b.input("x", SHAPE)
    return _rotated(b, x, _table(b, "cos"), _table(b, "sin"), tuple(range(D))[::-1])


@EXAMPLES.add(
    "fuse_rotary",
    "A rotation of tables that are inputs",
    "Compute the tables in the model, of positions, or give them as (S, D / 2).",
)
def _tables_are_inputs(b: Builder) -> Value:
    cos, sin = b.inputs("cos sin", 1, 1, S, D)
    return _rotated(b, b.input("x", SHAPE), cos, sin)


@EXAMPLES.add(
    "fuse_rotary",
    "A rotation by other positions in each item of a batch",
    "Give one row of position ids for the whole batch, or run the items one by one.",
)
def _positions_of_each_item(b: Builder) -> Value:
    x, angles = b.input("x", (2, *SHAPE[1:])), b.input("angles", (2, 1, S, D))
    return _rotated(b, x, b.do("cos", angles), b.do("sin", angles))


@EXAMPLES.add(
    "fuse_rotary",
    "A rotation of the last part of a head",
    "Turn the first part of a head, in the order that the weights have.",
)
def _last_part_is_turned(b: Builder) -> Value:
    x = b.input("x", (*SHAPE[:3], 2 * D))
    part = _rotated(b, b.cut(x, 3, D, 2 * D), _table(b, "cos"), _table(b, "sin"))
    return b.do("concat", part, b.cut(x, 3, 0, D), axis=3)
