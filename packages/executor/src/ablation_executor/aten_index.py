"""Handlers of the ATen overloads that choose, repeat, reorder and join entries.

All are copies of rows: `take` by ids that are constants, or whole numbers made at run time, and
`concat`. Importing this module registers the handlers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import ranges as rules
from .aten import Context, handles
from .aten_shapes import (
    axis_of,
    check_exact,
    concatenated,
    expanded,
    permuted,
    reshaped,
    sliced,
    taken,
)
from .integers import Range
from .ir import Value
from .tensors import Constant, Tensor, dtype_of, range_of

# Joins --------------------------------------------------------------------------------------------


@handles("cat.default", ranges=rules.one_of)
def _cat(context: Context, tensors: Sequence[Tensor], dim: int = 0) -> Value:
    # A list may have empty vectors, which PyTorch leaves out whatever the others' shape is.
    parts = [part for part in tensors if 0 not in part.shape]
    return concatenated(context, parts, axis_of(dim, len(parts[0].shape)))


@handles("stack.default", ranges=rules.one_of)
def _stack(context: Context, tensors: Sequence[Tensor], dim: int = 0) -> Value:
    """Two parts by where(is first, first, second), the new axis by broadcasting; more by concat."""
    shape = tensors[0].shape
    axis = axis_of(dim, len(shape) + 1)
    parts = [reshaped(context, part, (*shape[:axis], 1, *shape[axis:])) for part in tensors]
    if len(parts) != 2:
        return concatenated(context, parts, axis)
    is_first = np.array([1, 0]).reshape(2, *[1] * (len(shape) - axis))
    return context.emit("where", context.constant("is_first", is_first), *parts)


# Repetition and order -----------------------------------------------------------------------------


@handles("expand.default", ranges=rules.same)
def _expand(context: Context, x: Tensor, sizes: Sequence[int], implicit: bool = False) -> Value:
    padded = (1,) * (len(sizes) - len(x.shape)) + x.shape
    wanted = [old if new == -1 else int(new) for old, new in zip(padded, sizes, strict=True)]
    return expanded(context, x, wanted)


@handles("repeat.default", ranges=rules.same)
def _repeat(context: Context, x: Tensor, repeats: Sequence[int]) -> Value:
    out = reshaped(context, x, (1,) * (len(repeats) - len(x.shape)) + x.shape)
    for axis, count in enumerate(repeats):
        out = taken(context, out, np.tile(np.arange(out.shape[axis]), count), axis)
    return out


@handles("repeat_interleave.self_int", ranges=rules.same)
def _repeat_interleave(
    context: Context,
    x: Tensor,
    repeats: int,
    dim: int | None = None,
    *,
    output_size: int | None = None,
) -> Value:
    if dim is None:
        x, dim = reshaped(context, x, (math.prod(x.shape),)), 0
    axis = axis_of(dim, len(x.shape))
    return taken(context, x, np.repeat(np.arange(x.shape[axis]), repeats), axis)


@handles("flip.default", ranges=rules.same)
def _flip(context: Context, x: Tensor, dims: Sequence[int]) -> Value:
    out = context.value(x)
    for dim in dims:
        axis = axis_of(dim, len(x.shape))
        out = taken(context, out, np.arange(x.shape[axis])[::-1], axis)
    return out


@handles("roll.default", ranges=rules.same)
def _roll(context: Context, x: Tensor, shifts: Sequence[int], dims: Sequence[int] = ()) -> Value:
    if not dims:
        flat = reshaped(context, x, (math.prod(x.shape),))
        return reshaped(context, _roll(context, flat, shifts, [0]), x.shape)
    out = context.value(x)
    for shift, dim in zip(shifts, dims, strict=True):
        axis = axis_of(dim, len(x.shape))
        out = taken(context, out, np.roll(np.arange(x.shape[axis]), shift), axis)
    return out


@handles("unfold.default", ranges=rules.same)
def _unfold(context: Context, x: Tensor, dim: int, size: int, step: int) -> Value:
    if not x.shape:
        return reshaped(context, x, (size,))
    axis = axis_of(dim, len(x.shape))
    starts = np.arange(0, x.shape[axis] - size + 1, step)
    windows = taken(context, x, starts[:, None] + np.arange(size), axis)
    rank = len(windows.shape)
    others = [other for other in range(rank) if other != axis + 1]
    return permuted(context, windows, [*others, axis + 1])


# Padding ------------------------------------------------------------------------------------------


def _pad_range(x: Tensor, pad: Sequence[int], value: float | None = None) -> Range:
    return range_of(x) | Range.of(int(value or 0))


@handles("constant_pad_nd.default", ranges=_pad_range)
def _constant_pad(context: Context, x: Tensor, pad: Sequence[int], value: float = 0) -> Value:
    """Blocks of the constant in front and behind; a negative size cuts off."""
    out = context.value(x)
    for position in range(len(pad) // 2):
        axis = len(x.shape) - 1 - position
        before, after = pad[2 * position], pad[2 * position + 1]
        kept = sliced(context, out, axis, max(-before, 0), out.shape[axis] - max(-after, 0))

        def block(count: int, like: Value = kept, axis: int = axis) -> list[Value]:
            shape = (*like.shape[:axis], max(count, 0), *like.shape[axis + 1 :])
            return [context.constant("padding", np.full(shape, float(value)))] if count > 0 else []

        out = concatenated(context, [*block(before), kept, *block(after)], axis)
    return out


# Indexing -----------------------------------------------------------------------------------------


@handles("embedding.default", ranges=rules.to_float)
def _embedding(context: Context, weight: Tensor, ids: Tensor, *_: Any, **options: Any) -> Value:
    """Rows of a table. The options padding_idx, scale_grad_by_freq and sparse concern gradients."""
    return _take(context, weight, ids, 0)


def _take(context: Context, x: Tensor, ids: Tensor, axis: int) -> Value:
    """Entries of an axis by ids from 0 on, which are checked when they are run-time values."""
    if isinstance(ids, Constant):
        return taken(context, x, ids.tensor.numpy(), axis)
    check_exact(x.shape[axis])
    return context.emit("take", x, ids, axis=axis)


@handles("index_select.default", ranges=rules.lookup)
def _index_select(context: Context, x: Tensor, dim: int, ids: Tensor) -> Value:
    if not x.shape:
        return context.value(x)
    axis = axis_of(dim, len(x.shape))
    out = _take(context, x, ids, axis)
    return reshaped(context, out, (*x.shape[:axis], math.prod(ids.shape), *x.shape[axis + 1 :]))


def _by_axis(indices: Sequence[Tensor | None]) -> dict[int, Tensor | NDArray[Any]]:
    """The axes that are indexed and by what."""
    found: dict[int, Tensor | NDArray[Any]] = {}
    for axis, part in enumerate(indices):
        if part is not None:
            if dtype_of(part) in ("bool", "uint8"):
                raise ValueError("a mask chooses how many elements there are: use torch.where")
            found[axis] = part.tensor.numpy() if isinstance(part, Constant) else part
    return found


class _Ids:
    """Ids of several axes as one: a constant sum, and what is added at run time.

    `outside` are conditions of run-time ids that do not exist, which would else be other entries.
    """

    def __init__(self, context: Context, counts_from_end: bool = True) -> None:
        self.context = context
        self.counts_from_end = counts_from_end
        self.constant: NDArray[Any] = np.zeros((), np.int64)
        self.value: Value | None = None
        self.outside: Value | None = None

    def add(self, ids: Tensor | NDArray[Any], size: int, stride: int) -> None:
        """Take the entries `ids` of an axis of this size, whose neighbours are `stride` apart."""
        lowest = -size if self.counts_from_end else 0
        if isinstance(ids, np.ndarray):
            if ids.size and not (lowest <= ids.min() and ids.max() < size):
                raise ValueError(f"an index is outside an axis of {size} entries")
            self.constant = self.constant + np.where(ids < 0, ids + size, ids) * stride
            return
        emit, known = self.context.emit, range_of(ids)
        value = self.context.value(ids)
        if self.counts_from_end:
            value = _from_front(self.context, ids, size)
        if known.low < lowest or known.high >= size:
            for condition in (emit("less", value, 0.0), emit("less_equal", float(size), value)):
                both = (
                    condition if self.outside is None else emit("maximum", self.outside, condition)
                )
                self.outside = both
        if stride != 1:
            value = emit("mul", value, float(stride))
        self.value = value if self.value is None else emit("add", self.value, value)

    def take(self, x: Value, axis: int) -> Value:
        """The entries of the axis of x that stands for all of them."""
        if self.value is None:
            return taken(self.context, x, self.constant, axis)
        check_exact(x.shape[axis])
        ids = self.value
        if self.constant.any() or np.broadcast_shapes(self.constant.shape, ids.shape) != ids.shape:
            ids = self.context.emit("add", ids, self.context.constant("ids", self.constant))
        if self.outside is not None:
            ids = self.context.emit("where", self.outside, -1.0, ids)
        return self.context.emit("take", x, ids, axis=axis)


@handles("index.Tensor", "_unsafe_index.Tensor", ranges=rules.lookup)
def _index(context: Context, x: Tensor, indices: Sequence[Tensor | None]) -> Value:
    """Entries by ids of one or several axes; these axes become one, ids of all of them one number.

    As in PyTorch, the result's axes stand where the indexed ones were if those follow each other,
    else in front.
    """
    found = _by_axis(indices)
    axes = list(found)
    first = axes[0]
    only = found[first]
    if len(axes) == 1 and not isinstance(only, np.ndarray):
        return context.emit("take", x, _from_front(context, only, x.shape[first]), axis=first)
    if axes != list(range(first, first + len(axes))):
        first = 0
    others = [axis for axis in range(len(x.shape)) if axis not in axes]
    moved = permuted(context, x, [*others[:first], *axes, *others[first:]])
    sizes = [x.shape[axis] for axis in axes]
    merged = (*moved.shape[:first], math.prod(sizes), *moved.shape[first + len(axes) :])
    numbers = _Ids(context)
    for position, part in enumerate(found.values()):
        numbers.add(part, sizes[position], math.prod(sizes[position + 1 :]))
    return numbers.take(reshaped(context, moved, merged), first)


def _from_front(context: Context, ids: Tensor, size: int) -> Value:
    """Run-time ids that may count from the end; take refuses what is outside then too."""
    check_exact(size)
    value = context.value(ids)
    if range_of(ids).low >= 0:
        return value
    behind = context.emit("add", value, float(size))
    return context.emit("where", context.emit("less", value, 0.0), behind, value)


@handles("gather.default", ranges=rules.lookup)
def _gather(
    context: Context, x: Tensor, dim: int, ids: Tensor, *, sparse_grad: bool = False
) -> Value:
    """out[i, j] = x[i, ids[i, j]]: entries of all of x, whose number is made of all positions."""
    if not x.shape:
        return expanded(context, x, ids.shape)
    axis, rank = axis_of(dim, len(x.shape)), len(x.shape)
    numbers = _Ids(context, counts_from_end=False)
    for other in range(rank):
        stride = math.prod(x.shape[other + 1 :])
        if other == axis:
            part: Tensor | NDArray[Any] = ids
            if isinstance(ids, Constant):
                part = ids.tensor.numpy()
        else:
            part = np.arange(ids.shape[other]).reshape(-1, *[1] * (rank - 1 - other))
        numbers.add(part, x.shape[other], stride)
    return numbers.take(reshaped(context, x, (math.prod(x.shape),)), 0)
