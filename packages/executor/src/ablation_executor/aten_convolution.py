"""Handlers of convolutions: windows of the spatial axes, as rows of one product with the weight.

Where kernel and stride are one (patches of an image), a permute lays them out; else the positions
of each window are taken, those of the padding from one more entry. Importing this module registers
the handlers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .aten import Context, handles
from .aten_shapes import concatenated, permuted, reshaped, sliced, swapped, taken
from .ir import Value
from .tensors import Tensor

Sizes = int | Sequence[int]


def each(sizes: Sizes, rank: int) -> tuple[int, ...]:
    """One size for each spatial axis."""
    listed = (sizes,) if isinstance(sizes, int) else tuple(map(int, sizes))
    return listed * rank if len(listed) == 1 else listed


@dataclass(frozen=True)
class Windows:
    """Positions along each spatial axis, (windows, kernel), and the sizes of the axes.

    A position below 0 or beyond its axis is padding.
    """

    positions: tuple[NDArray[Any], ...]
    sizes: tuple[int, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of windows along each axis: the shape of the result."""
        return tuple(part.shape[0] for part in self.positions)

    @property
    def has_padding(self) -> bool:
        return any(
            part.min() < 0 or part.max() >= size
            for part, size in zip(self.positions, self.sizes, strict=True)
        )

    def ids(self) -> NDArray[Any]:
        """(windows, kernel) places among all positions; padding is the place behind the last."""
        rank = len(self.sizes)
        place = np.zeros((1,) * (2 * rank), np.int64)
        inside = np.ones((1,) * (2 * rank), bool)
        for axis, (part, size) in enumerate(zip(self.positions, self.sizes, strict=True)):
            shape = [1] * (2 * rank)
            shape[axis], shape[rank + axis] = part.shape
            part = part.reshape(shape)
            place = place * size + part
            inside = inside & (part >= 0) & (part < size)
        places = np.where(inside, place, math.prod(self.sizes))
        return places.reshape(math.prod(self.counts), -1)


def windows_of(
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    rounds_up: bool = False,
) -> Windows:
    """The windows of a convolution or pool; `padding` in front and behind, for each axis."""
    positions = []
    for size, width, step, (front, behind), gap in zip(
        sizes, kernel, stride, padding, dilation, strict=True
    ):
        room = size + front + behind - gap * (width - 1) - 1
        count = room // step + 1
        # A last window that is cut off counts where it starts inside.
        if rounds_up and room % step and count * step < size + front:
            count += 1
        if count < 1:
            raise ValueError(f"a kernel of {gap * (width - 1) + 1} is wider than the {size} padded")
        starts = np.arange(count) * step - front
        positions.append(starts[:, None] + np.arange(width) * gap)
    return Windows(tuple(positions), tuple(sizes))


# Convolution --------------------------------------------------------------------------------------


def _convolution(
    context: Context,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sizes,
    padding: Sequence[tuple[int, int]],
    dilation: Sizes,
    groups: int,
) -> Value:
    """(N, C, ...) -> (N, O, ...), weight (O, C / groups, ...); N may be absent."""
    rank = len(weight.shape) - 2
    if len(x.shape) == rank + 1:
        batch = reshaped(context, x, (1, *x.shape))
        out = _convolution(context, batch, weight, bias, stride, padding, dilation, groups)
        return reshaped(context, out, out.shape[1:])
    kernel, steps, gaps = weight.shape[2:], each(stride, rank), each(dilation, rank)
    windows = windows_of(x.shape[2:], kernel, steps, padding, gaps)
    channels, outputs = x.shape[1], weight.shape[0]
    if groups == channels == outputs and groups > 1:
        out = _depthwise(context, x, weight, windows)
        if bias is not None:
            out = context.emit("add", out, reshaped(context, bias, (outputs, 1)))
        return reshaped(context, out, (x.shape[0], outputs, *windows.counts))
    is_tiling = steps == kernel and not windows.has_padding and max(gaps) == 1
    if groups == 1 and is_tiling:
        rows = _tiles(context, x, kernel, windows.counts)
        flat = reshaped(context, weight, (outputs, math.prod(weight.shape[1:])))
        out = context.emit("matmul", rows, permuted(context, flat, (1, 0)))
    else:
        rows = _gathered(context, x, windows)
        out = _grouped_product(context, rows, weight, groups)
    if bias is not None:
        out = context.emit("add", out, bias)
    return reshaped(context, swapped(context, out, 1, 2), (x.shape[0], outputs, *windows.counts))


def _tiles(context: Context, x: Tensor, kernel: Sequence[int], counts: Sequence[int]) -> Value:
    """(N, C, ...) -> (N, tiles, C * kernel): the axes are cut into tiles, which are then moved."""
    batch, channels, *_ = x.shape
    rank, out = len(kernel), context.value(x)
    shape = [batch, channels]
    for axis, (count, width) in enumerate(zip(counts, kernel, strict=True)):
        out = sliced(context, out, 2 + axis, 0, count * width)
        shape += [count, width]
    perm = [0, *range(2, 2 + 2 * rank, 2), 1, *range(3, 3 + 2 * rank, 2)]
    tiles = permuted(context, reshaped(context, out, tuple(shape)), perm)
    return reshaped(context, tiles, (batch, math.prod(counts), channels * math.prod(kernel)))


def _gathered(context: Context, x: Tensor, windows: Windows) -> Value:
    """(N, C, ...) -> (N, windows, kernel, C): rows of channels, of zeros where x is padded."""
    batch, channels, *sizes = x.shape
    rows = swapped(context, reshaped(context, x, (batch, channels, math.prod(sizes))), 1, 2)
    if windows.has_padding:
        zeros = context.constant("zeros", np.zeros((batch, 1, channels)))
        rows = concatenated(context, [rows, zeros], 1)
    return taken(context, rows, windows.ids(), 1)


def _grouped_product(context: Context, rows: Value, weight: Tensor, groups: int) -> Value:
    """(N, windows, kernel, C) @ (O, C / groups, ...) -> (N, windows, O)."""
    batch, count, places, channels = rows.shape
    outputs, depth = weight.shape[0], channels // groups
    if groups == 1:
        flat = swapped(context, reshaped(context, weight, (outputs, depth, places)), 1, 2)
        matrix = permuted(context, reshaped(context, flat, (outputs, places * depth)), (1, 0))
        return context.emit(
            "matmul", reshaped(context, rows, (batch, count, places * depth)), matrix
        )
    split = reshaped(context, rows, (batch * count, places, groups, depth))
    left = reshaped(
        context,
        permuted(context, split, (2, 0, 1, 3)),
        (groups, batch * count, places * depth),
    )
    parts = reshaped(context, weight, (groups, outputs // groups, depth, places))
    right = reshaped(
        context,
        permuted(context, parts, (0, 3, 2, 1)),
        (groups, places * depth, outputs // groups),
    )
    out = permuted(context, context.emit("matmul", left, right), (1, 0, 2))
    return reshaped(context, out, (batch, count, outputs))


def _depthwise(context: Context, x: Tensor, weight: Tensor, windows: Windows) -> Value:
    """(N, C, ...) -> (N, C, windows): each channel by its own kernel, without a product."""
    batch, channels, *sizes = x.shape
    flat = reshaped(context, x, (batch, channels, math.prod(sizes)))
    places = with_padding(context, flat, windows, 0.0)
    kernel = reshaped(context, weight, (channels, 1, math.prod(weight.shape[2:])))
    total = context.emit("sum", context.emit("mul", places, kernel))
    return reshaped(context, total, total.shape[:-1])


def with_padding(context: Context, flat: Value, windows: Windows, fill: float) -> Value:
    """(..., positions) -> (..., windows, kernel), with the number `fill` where x is padded."""
    if windows.has_padding:
        more = context.constant("padding", np.full((*flat.shape[:-1], 1), fill))
        flat = concatenated(context, [flat, more], len(flat.shape) - 1)
    return taken(context, flat, windows.ids(), len(flat.shape) - 1)


@handles("convolution.default", one_type=True)
def _convolution_of_any_rank(
    context: Context,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    output_padding: Sizes,
    groups: int,
) -> Value:
    if transposed:
        raise ValueError("it is a transposed convolution, expected one that is not")
    both = [(size, size) for size in each(padding, len(weight.shape) - 2)]
    return _convolution(context, x, weight, bias, stride, both, dilation, groups)
