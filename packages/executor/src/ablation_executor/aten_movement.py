"""Handlers of the ATen overloads that move values or cut them out, and compute nothing.

Importing this module registers the handlers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from .aten import Context, Tensor, axis_of, handles, permuted, reshaped
from .ir import Value


@handles("clone.default", "contiguous.default", "alias.default", "detach.default", moves=True)
@handles("lift_fresh_copy.default", "_to_copy.default", "to.dtype", "type_as.default", moves=True)
def _identity(context: Context, x: Tensor, *others: Any, **options: Any) -> Value:
    return context.value(x)


@handles("dropout.default", "feature_dropout.default", moves=True)
def _dropout(context: Context, x: Tensor, p: float, train: bool) -> Value:
    """Nothing: export has refused it where it draws."""
    return context.value(x)


@handles("view.default", "reshape.default", "_unsafe_view.default", moves=True)
def _view(context: Context, x: Tensor, shape: Sequence[int]) -> Value:
    sizes = list(map(int, shape))
    if -1 in sizes:
        known = -math.prod(sizes)
        sizes[sizes.index(-1)] = math.prod(x.shape) // known
    return reshaped(context, x, tuple(sizes))


@handles("flatten.using_ints", moves=True)
def _flatten(context: Context, x: Tensor, start: int = 0, end: int = -1) -> Value:
    first, last = axis_of(start, len(x.shape)), axis_of(end, len(x.shape))
    merged = math.prod(x.shape[first : last + 1])
    return reshaped(context, x, (*x.shape[:first], merged, *x.shape[last + 1 :]))


@handles("unflatten.int", moves=True)
def _unflatten(context: Context, x: Tensor, dim: int, sizes: Sequence[int]) -> Value:
    axis = axis_of(dim, len(x.shape))
    return _view(context, x, [*x.shape[:axis], *_fill(sizes, x.shape[axis]), *x.shape[axis + 1 :]])


def _fill(sizes: Sequence[int], total: int) -> list[int]:
    known = -math.prod(sizes) if -1 in sizes else 1
    return [total // known if size == -1 else int(size) for size in sizes]


@handles("unsqueeze.default", moves=True)
def _unsqueeze(context: Context, x: Tensor, dim: int) -> Value:
    axis = axis_of(dim, len(x.shape) + 1)
    return reshaped(context, x, (*x.shape[:axis], 1, *x.shape[axis:]))


@handles("squeeze.default", "squeeze.dim", "squeeze.dims", moves=True)
def _squeeze(context: Context, x: Tensor, dims: int | Sequence[int] | None = None) -> Value:
    rank = len(x.shape)
    listed = range(rank) if dims is None else [dims] if isinstance(dims, int) else dims
    gone = {axis_of(dim, rank) for dim in listed}
    kept = tuple(size for axis, size in enumerate(x.shape) if axis not in gone or size != 1)
    return reshaped(context, x, kept)


@handles("expand.default")
def _expand(context: Context, x: Tensor, sizes: Sequence[int], implicit: bool = False) -> Value:
    """A product with ones, which broadcasts and is exact for every value."""
    padded = (1,) * (len(sizes) - len(x.shape)) + x.shape
    wanted = tuple(old if new == -1 else int(new) for old, new in zip(padded, sizes, strict=True))
    out = reshaped(context, x, padded)
    if wanted == padded:
        return out
    repeats = [new if new != old else 1 for old, new in zip(padded, wanted, strict=True)]
    return context.emit("mul", out, context.builder.constant("ones", np.ones(repeats)))


@handles("permute.default", moves=True)
def _permute(context: Context, x: Tensor, dims: Sequence[int]) -> Value:
    return permuted(context, x, dims)


@handles("transpose.int", moves=True)
def _transpose(context: Context, x: Tensor, dim0: int, dim1: int) -> Value:
    perm = list(range(len(x.shape)))
    first, second = axis_of(dim0, len(perm)), axis_of(dim1, len(perm))
    perm[first], perm[second] = perm[second], perm[first]
    return _permute(context, x, perm)


@handles("t.default", moves=True)
def _t(context: Context, x: Tensor) -> Value:
    return _permute(context, x, range(len(x.shape))[::-1])


@handles("slice.Tensor", moves=True)
def _slice(
    context: Context,
    x: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Value:
    if step != 1:
        raise ValueError(f"step is {step}, expected 1")
    axis = axis_of(dim, len(x.shape))
    first, last, _ = slice(start, end).indices(x.shape[axis])
    if first >= last:
        raise ValueError(f"[{first}, {last}) is empty in axis {axis} of {list(x.shape)}")
    if (first, last) == (0, x.shape[axis]):
        return context.value(x)
    return context.emit("slice", x, axis=axis, start=first, stop=last)


@handles("select.int", moves=True)
def _select(context: Context, x: Tensor, dim: int, index: int) -> Value:
    axis = axis_of(dim, len(x.shape))
    first = axis_of(index, x.shape[axis])
    part = _slice(context, x, axis, first, first + 1)
    return reshaped(context, part, (*x.shape[:axis], *x.shape[axis + 1 :]))


@handles("split_with_sizes.default")
def _split_sizes(
    context: Context, x: Tensor, sizes: Sequence[int], dim: int = 0
) -> tuple[Value, ...]:
    edges = np.cumsum([0, *sizes]).tolist()
    return tuple(_slice(context, x, dim, first, last) for first, last in pairwise(edges))


@handles("split.Tensor")
def _split(context: Context, x: Tensor, size: int, dim: int = 0) -> tuple[Value, ...]:
    length = x.shape[axis_of(dim, len(x.shape))]
    sizes = [min(size, length - first) for first in range(0, length, size)]
    return _split_sizes(context, x, sizes, dim)


@handles("chunk.default")
def _chunk(context: Context, x: Tensor, chunks: int, dim: int = 0) -> tuple[Value, ...]:
    length = x.shape[axis_of(dim, len(x.shape))]
    return _split(context, x, -(-length // chunks), dim)


@handles("unbind.int")
def _unbind(context: Context, x: Tensor, dim: int = 0) -> tuple[Value, ...]:
    count = x.shape[axis_of(dim, len(x.shape))]
    return tuple(_select(context, x, dim, index) for index in range(count))
