"""Handlers of the ATen overloads that move values or cut them out, and compute nothing.

Importing this module registers the handlers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from . import ranges as rules
from .aten import Context, handles
from .aten_comparison import truth_of
from .aten_shapes import axis_of, permuted, reshaped, sliced, swapped, taken
from .ir import Value
from .tensors import Constant, Integer, Tensor


@handles("clone.default", "contiguous.default", "alias.default", "detach.default", moves=True)
@handles("lift_fresh_copy.default", moves=True)
def _identity(context: Context, x: Tensor, **options: Any) -> Value:
    return context.value(x)


@handles("_to_copy.default", "to.dtype", "to.dtype_layout", moves=True, ranges=rules.cast)
@handles("type_as.default", moves=True, ranges=rules.cast)
def _cast(context: Context, x: Tensor, *others: Any, **options: Any) -> Value:
    """Nothing, since integers are carried in float32; as bool all but 0 is 1, NaN too."""
    is_truth = isinstance(x, Integer) and rules.TRUTH.holds(x.range)
    if context.result_dtype != "bool" or is_truth:
        return context.value(x)
    return truth_of(context, x)


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


@handles("permute.default", moves=True)
def _permute(context: Context, x: Tensor, dims: Sequence[int]) -> Value:
    return permuted(context, x, dims)


@handles("transpose.int", moves=True)
def _transpose(context: Context, x: Tensor, dim0: int, dim1: int) -> Value:
    return swapped(context, x, dim0, dim1) if x.shape else context.value(x)


@handles("t.default", moves=True)
def _t(context: Context, x: Tensor) -> Value:
    return _permute(context, x, range(len(x.shape))[::-1])


@handles("slice.Tensor", moves=True)
def _slice_or_nothing(
    context: Context,
    x: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Value | Constant:
    """As `_slice`; without an element there is nothing to compute, and torch.cat leaves it out."""
    import torch

    axis = axis_of(dim, len(x.shape))
    first, last, _ = slice(start, end).indices(x.shape[axis])
    if first >= last and isinstance(x, Value):
        return Constant(torch.empty(*x.shape[:axis], 0, *x.shape[axis + 1 :]), "empty")
    return _slice(context, x, dim, start, end, step)


def _slice(
    context: Context,
    x: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Value:
    axis = axis_of(dim, len(x.shape))
    first, last, _ = slice(start, end).indices(x.shape[axis])
    if step != 1 and first < last:
        if isinstance(x, Constant):  # torch works it out: no pass sees through a copy of rows
            raise ValueError(f"step is {step}, and the tensor is known at export")
        return taken(context, x, np.arange(first, last, step), axis)
    return sliced(context, x, axis, first, last)


@handles("select.int", moves=True)
def _select(context: Context, x: Tensor, dim: int, index: int) -> Value:
    axis = axis_of(dim, len(x.shape))
    first = axis_of(index, x.shape[axis])
    part = _slice(context, x, axis, first, first + 1)
    return reshaped(context, part, (*x.shape[:axis], *x.shape[axis + 1 :]))


@handles("split_with_sizes.default", ranges=rules.same)
def _split_sizes(
    context: Context, x: Tensor, sizes: Sequence[int], dim: int = 0
) -> tuple[Tensor, ...]:
    edges = np.cumsum([0, *sizes]).tolist()
    return tuple(_slice(context, x, dim, first, last) for first, last in pairwise(edges))


@handles("split.Tensor", ranges=rules.same)
def _split(context: Context, x: Tensor, size: int, dim: int = 0) -> tuple[Tensor, ...]:
    length = x.shape[axis_of(dim, len(x.shape))]
    sizes = [min(size, length - first) for first in range(0, length, size)]
    return _split_sizes(context, x, sizes, dim)


@handles("chunk.default", ranges=rules.same)
def _chunk(context: Context, x: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    length = x.shape[axis_of(dim, len(x.shape))]
    return _split(context, x, -(-length // chunks), dim)


@handles("unbind.int", ranges=rules.same)
def _unbind(context: Context, x: Tensor, dim: int = 0) -> tuple[Value, ...]:
    count = x.shape[axis_of(dim, len(x.shape))]
    return tuple(_select(context, x, dim, index) for index in range(count))
