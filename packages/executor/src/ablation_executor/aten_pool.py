"""Handlers of pools: the mean or the largest element of each window of the spatial axes.

Importing this module registers the handlers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .aten import Context, handles
from .aten_convolution import Sizes, Windows, each, windows_of, with_padding
from .aten_shapes import reshaped
from .ir import Value
from .tensors import Tensor


def _pooled(
    context: Context,
    x: Tensor,
    windows: Windows,
    fill: float,
    reduce_rows: Callable[[Value], Value],
) -> Value:
    """What a reduction of (..., windows, kernel) -> (..., windows, 1) makes of the windows of x."""
    rank = len(windows.sizes)
    leading = x.shape[: len(x.shape) - rank]
    flat = reshaped(context, x, (math.prod(leading), math.prod(windows.sizes)))
    out = reduce_rows(with_padding(context, flat, windows, fill))
    return reshaped(context, out, (*leading, *windows.counts))


def _pool_windows(
    x: Tensor, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil: bool, rank: int
) -> Windows:
    sizes = x.shape[len(x.shape) - rank :]
    widths = each(kernel, rank)
    steps = each(stride, rank) if not isinstance(stride, Sequence) or stride else widths
    both = [(size, size) for size in each(padding, rank)]
    return windows_of(sizes, widths, steps, both, each(dilation, rank), ceil)


def _mean_of_windows(
    context: Context, x: Tensor, windows: Windows, divisors: NDArray[Any]
) -> Value:
    """The sums of the windows over a number for each, (windows,)."""
    is_one = np.all(divisors == divisors.flat[0])
    divisor = divisors.flat[0] if is_one else context.constant("counts", divisors[:, None])

    def mean(rows: Value) -> Value:
        return context.emit("div", context.emit("sum", rows), divisor)

    return _pooled(context, x, windows, 0.0, mean)


def _avg_pool(rank: int) -> Callable[..., Value]:
    def handler(
        context: Context,
        x: Tensor,
        kernel: Sizes,
        stride: Sizes = (),
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Value:
        windows = _pool_windows(x, kernel, stride, padding, 1, ceil_mode, rank)
        # A window that goes beyond the padding counts what is inside of it.
        margins = each(padding, rank) if count_include_pad else (0,) * rank
        inside = [
            ((part >= -margin) & (part < size + margin)).sum(axis=1)
            for part, size, margin in zip(windows.positions, windows.sizes, margins, strict=True)
        ]
        divisors = reduce(np.multiply.outer, inside).reshape(-1).astype(float)
        if divisor_override is not None:
            divisors = np.full(divisors.shape, float(divisor_override))
        return _mean_of_windows(context, x, windows, divisors)

    return handler


def _max_pool(rank: int) -> Callable[..., Value]:
    def handler(
        context: Context,
        x: Tensor,
        kernel: Sizes,
        stride: Sizes = (),
        padding: Sizes = 0,
        dilation: Sizes = 1,
        ceil_mode: bool = False,
    ) -> Value:
        windows = _pool_windows(x, kernel, stride, padding, dilation, ceil_mode, rank)
        return _pooled(context, x, windows, -math.inf, lambda rows: context.emit("amax", rows))

    return handler


def _adaptive_avg_pool(rank: int) -> Callable[..., Value]:
    def handler(context: Context, x: Tensor, output: Sizes) -> Value:
        """Window i of n is [floor(i size / n), ceil((i + 1) size / n)); short ones are padded."""
        sizes = x.shape[len(x.shape) - rank :]
        positions, inside = [], []
        for size, count in zip(sizes, each(output, rank), strict=True):
            index = np.arange(count)
            starts, stops = index * size // count, -(-(index + 1) * size // count)
            part = starts[:, None] + np.arange((stops - starts).max())
            positions.append(np.where(part < stops[:, None], part, size))
            inside.append(stops - starts)
        divisors = reduce(np.multiply.outer, inside).reshape(-1).astype(float)
        windows = Windows(tuple(positions), tuple(sizes))
        return _mean_of_windows(context, x, windows, divisors)

    return handler


for _rank in (1, 2, 3):
    handles(f"max_pool{_rank}d.default")(_max_pool(_rank))
for _rank in (2, 3):
    handles(f"avg_pool{_rank}d.default")(_avg_pool(_rank))
    handles(f"_adaptive_avg_pool{_rank}d.default")(_adaptive_avg_pool(_rank))
