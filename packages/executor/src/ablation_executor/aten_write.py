"""Handlers of in-place writes, which torch.export has turned into ops that give a new tensor.

Importing this module registers the handlers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .aten import Context, handles
from .aten_shapes import axis_of, concatenated, expanded, reshaped, sliced, taken
from .integers import Range
from .ir import Value
from .tensors import Constant, Tensor, dtype_of, range_of


@handles("slice_scatter.default", ranges=lambda x, part, *_, **__: range_of(x) | range_of(part))
def _slice_scatter(
    context: Context,
    x: Tensor,
    part: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Value:
    """x with part in place of a slice: what is in front, part, what is behind.

    With a step the entries of x and of part, one behind the other, are put in order.
    """
    axis = axis_of(dim, len(x.shape))
    size = x.shape[axis]
    places = np.arange(size)[slice(start, end, step)]
    if not places.size:
        return context.value(x)
    part_value = expanded(context, part, (*x.shape[:axis], places.size, *x.shape[axis + 1 :]))
    if step == 1:
        edges = [(0, int(places[0])), (int(places[-1]) + 1, size)]
        front, behind = (
            [sliced(context, x, axis, *edge)] if edge[0] < edge[1] else [] for edge in edges
        )
        return concatenated(context, [*front, part_value, *behind], axis)
    order = np.arange(size)
    order[places] = size + np.arange(places.size)
    return taken(context, concatenated(context, [x, part_value], axis), order, axis)


def _replacement(x: Any, replacement: Any, *_: Any) -> Range:
    """The range of what a tensor is overwritten with."""
    return range_of(replacement)


@handles("copy.default", ranges=_replacement)
def _copy(context: Context, x: Tensor, source: Tensor, non_blocking: bool = False) -> Value:
    """The source, in the shape of what it is copied to."""
    if context.result_dtype not in ("float32", dtype_of(source)):
        raise ValueError(f"{dtype_of(source)} is copied to {context.result_dtype}")
    return expanded(context, source, x.shape)


@handles("index_put.default", ranges=lambda x, ids, new, *_: range_of(x) | range_of(new))
def _index_put(
    context: Context,
    x: Tensor,
    indices: Sequence[Tensor | None],
    values: Tensor,
    accumulate: bool = False,
) -> Value:
    """x with one number where a mask is set, or with rows in constant places of the first axis."""
    if accumulate:
        raise ValueError("it adds to what is there (accumulate), expected accumulate=False")
    if len(indices) != 1 or indices[0] is None:
        raise ValueError("it writes by indices of several axes, expected one mask or one list")
    chosen = indices[0]
    if dtype_of(chosen) == "bool":
        if math.prod(values.shape) != 1:
            raise ValueError(
                f"{list(values.shape)} values are written where a mask is set: use one"
            )
        mask = reshaped(context, chosen, (*chosen.shape, *[1] * (len(x.shape) - len(chosen.shape))))
        return context.emit("where", mask, reshaped(context, values, ()), x)
    if not isinstance(chosen, Constant) or chosen.tensor.ndim != 1:
        raise ValueError("it writes in places that are made at run time: use a mask")
    places = chosen.tensor.numpy() % x.shape[0]
    if len(set(places.tolist())) != places.size:
        raise ValueError("it writes to one place twice")
    rows = expanded(context, values, (places.size, *x.shape[1:]))
    order = np.arange(x.shape[0])
    order[places] = x.shape[0] + np.arange(places.size)
    return taken(context, concatenated(context, [x, rows], 0), order, 0)


# Triangles ----------------------------------------------------------------------------------------


def _with_zero(x: Tensor, diagonal: int = 0) -> Range:
    return range_of(x) | Range.of(0)


@handles("tril.default", ranges=_with_zero)
def _tril(context: Context, x: Tensor, diagonal: int = 0) -> Value:
    """0 above a diagonal, whatever is there."""
    kept = context.constant("lower", np.tri(x.shape[-2], x.shape[-1], diagonal))
    return context.emit("where", kept, x, 0.0)


@handles("triu.default", ranges=_with_zero)
def _triu(context: Context, x: Tensor, diagonal: int = 0) -> Value:
    """0 below a diagonal, whatever is there."""
    hidden = context.constant("below", np.tri(x.shape[-2], x.shape[-1], diagonal - 1))
    return context.emit("where", hidden, 0.0, x)
