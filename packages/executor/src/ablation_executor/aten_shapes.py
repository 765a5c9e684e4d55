"""What handlers build of movement ops: reshapes, permutes, slices, copies of entries, joins."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .aten import Context
from .ir import Value
from .tensors import Tensor

#: The most inputs that one concat has.
_MOST_JOINED = 8
#: Up to here float32 holds every whole number.
EXACT = 2**24


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front."""
    return axis + rank if axis < 0 else axis


def reshaped(context: Context, x: Tensor, shape: tuple[int, ...]) -> Value:
    """The same elements under a shape; no node where it is theirs already."""
    return context.value(x) if shape == x.shape else context.emit("reshape", x, shape=shape)


def permuted(context: Context, x: Tensor, dims: Sequence[int]) -> Value:
    """x with its axes in the order of `dims`; a reshape where only axes of length one move."""
    perm = tuple(axis_of(int(dim), len(x.shape)) for dim in dims)
    moved = [axis for axis in perm if x.shape[axis] != 1]
    if moved == sorted(moved):
        return reshaped(context, x, tuple(x.shape[axis] for axis in perm))
    return context.emit("permute", x, perm=perm)


def swapped(context: Context, x: Tensor, first: int, second: int) -> Value:
    """x with two axes exchanged."""
    perm = list(range(len(x.shape)))
    first, second = axis_of(first, len(perm)), axis_of(second, len(perm))
    perm[first], perm[second] = perm[second], perm[first]
    return permuted(context, x, perm)


def sliced(context: Context, x: Tensor, axis: int, start: int, stop: int) -> Value:
    """Entries [start, stop) of one axis; no node where these are all."""
    if start >= stop:
        raise ValueError(f"[{start}, {stop}) is empty in axis {axis} of {list(x.shape)}")
    if (start, stop) == (0, x.shape[axis]):
        return context.value(x)
    return context.emit("slice", x, axis=axis, start=start, stop=stop)


def taken(context: Context, x: Tensor, ids: NDArray[Any], axis: int) -> Value:
    """The entries `ids`, of any shape, of one axis, which becomes the axes of ids.

    A slice where they follow each other. ValueError for no entries and ids that do not exist.
    """
    size, flat = x.shape[axis], ids.reshape(-1)
    if not flat.size:
        raise ValueError(f"it takes no entry of axis {axis} of {list(x.shape)}")
    if flat.min() < 0 or flat.max() >= size:
        raise ValueError(
            f"index {int(flat.min() if flat.min() < 0 else flat.max())} is outside axis {axis} of"
            f" {list(x.shape)}"
        )
    first = int(flat[0])
    if np.array_equal(flat, np.arange(first, first + flat.size)):
        shape = (*x.shape[:axis], *ids.shape, *x.shape[axis + 1 :])
        return reshaped(context, sliced(context, x, axis, first, first + flat.size), shape)
    check_exact(size)
    return context.emit("take", x, context.constant("ids", ids), axis=axis)


def check_exact(size: int) -> None:
    """ValueError for an axis whose entries float32 cannot count."""
    if size > EXACT:
        raise ValueError(f"an axis of {size} entries is indexed, expected at most 2^24")


def expanded(context: Context, x: Tensor, shape: Sequence[int]) -> Value:
    """x broadcast to a shape: axes of length one repeated, new ones in front.

    Each run of repeated axes is one copy, of the entry 0 as often as it is wanted.
    """
    wanted = tuple(shape)
    current = (1,) * (len(wanted) - len(x.shape)) + x.shape
    if np.broadcast_shapes(current, wanted) != wanted:
        raise ValueError(f"{list(x.shape)} does not broadcast to {list(wanted)}")
    out, first = reshaped(context, x, current), 0
    while first < len(wanted):
        last = first
        while last < len(wanted) and current[last] == 1:
            last += 1
        count = math.prod(wanted[first:last])
        if count > 1:
            run = reshaped(context, out, (*current[:first], 1, *current[last:]))
            run = taken(context, run, np.zeros(count, np.int64), first)
            current = (*current[:first], *wanted[first:last], *current[last:])
            out = reshaped(context, run, current)
        first = last + 1
    return out


def broadcast(context: Context, tensors: Sequence[Tensor]) -> list[Value]:
    """The tensors, each expanded to the shape that they have together."""
    shape = np.broadcast_shapes(*(part.shape for part in tensors))
    return [expanded(context, part, shape) for part in tensors]


def concatenated(context: Context, tensors: Sequence[Tensor], axis: int) -> Value:
    """The tensors one behind the other along one axis."""
    parts = list(tensors)
    while len(parts) > 1:
        groups = [parts[i : i + _MOST_JOINED] for i in range(0, len(parts), _MOST_JOINED)]
        parts = [
            group[0] if len(group) == 1 else context.emit("concat", *group, axis=axis)
            for group in groups
        ]
    return context.value(parts[0])


def reduced(
    context: Context,
    x: Tensor,
    dims: int | Sequence[int] | None,
    keepdim: bool,
    reduce: Callable[[Value], Value],
) -> Value:
    """What `reduce` makes of (..., n) -> (..., 1) over the listed axes, over all where none is.

    The axes are brought to the end and become one.
    """
    rank = len(x.shape)
    listed = [dims] if isinstance(dims, int) else dims
    gone = sorted({axis_of(int(dim), rank) for dim in listed or range(rank)} & {*range(rank)})
    left = [axis for axis in range(rank) if axis not in gone]
    size = math.prod(x.shape[axis] for axis in gone)
    lengths = tuple(x.shape[axis] for axis in left)
    rows = reshaped(context, permuted(context, x, [*left, *gone]), (*(lengths or (1,)), size))
    kept = tuple(1 if axis in gone else length for axis, length in enumerate(x.shape))
    return reshaped(context, reduce(rows), kept if keepdim else lengths)
