"""Handlers of the ATen overloads that work along axes: sums, extrema, variances, softmax.

The kernels work along the last axis, to which the others are brought first. Importing this module
registers the handlers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import ranges as rules
from .aten import Context, handles
from .aten_comparison import negation, truth_of
from .aten_elementwise import negated
from .aten_product import product
from .aten_shapes import EXACT, axis_of, reduced, reshaped, swapped
from .integers import Range
from .ir import Value
from .tensors import Tensor, range_of

Dims = int | Sequence[int] | None

# Sums ---------------------------------------------------------------------------------------------


@handles("sum.dim_IntList", ranges=rules.sum_)
def _sum(
    context: Context, x: Tensor, dims: Dims = None, keepdim: bool = False, *, dtype: Any = None
) -> Value:
    return reduced(context, x, dims, keepdim, lambda rows: context.emit("sum", rows))


def _mean_of(context: Context, x: Tensor, dims: Dims, keepdim: bool, correction: float) -> Value:
    """The sum over the axes by their number less a correction: a product with a column of it."""

    def by_column(rows: Value) -> Value:
        size = rows.shape[-1]
        column = context.constant("mean", np.full((size, 1), 1.0 / (size - correction)))
        return product(context, rows, column)

    return reduced(context, x, dims, keepdim, by_column)


@handles("mean.dim")
def _mean(
    context: Context, x: Tensor, dims: Dims, keepdim: bool = False, *, dtype: Any = None
) -> Value:
    """A product with a column of 1 / D. It is finite also where torch's sum of a row overflows."""
    return _mean_of(context, x, dims, keepdim, 0)


@handles("mean.default")
def _mean_of_all(context: Context, x: Tensor, *, dtype: Any = None) -> Value:
    return _mean_of(context, x, None, False, 0)


@handles("cumsum.default", ranges=rules.cumsum)
def _cumsum(context: Context, x: Tensor, dim: int, *, dtype: Any = None) -> Value:
    if not x.shape:
        return context.value(x)
    return swapped(context, context.emit("cumsum", swapped(context, x, dim, -1)), dim, -1)


# Variances ----------------------------------------------------------------------------------------


def _variance(context: Context, x: Tensor, dims: Dims, keepdim: bool, correction: Any) -> Value:
    """The mean of (x - mean)^2, with n - correction in place of the number n of elements."""
    rank, degrees = len(x.shape), 1 if correction is None else correction
    axes = [dims] if isinstance(dims, int) else dims
    count = math.prod(x.shape[axis_of(axis, rank)] for axis in axes or range(rank)) if rank else 1
    if count <= degrees:
        raise ValueError(f"the variance of {count} elements with the correction {degrees} is none")
    mean = _mean_of(context, x, dims, True, 0)
    centered = context.emit("sub", x, mean)
    squares = context.emit("mul", centered, centered)
    return _mean_of(context, squares, dims, keepdim, degrees)


@handles("var.correction")
def _var(
    context: Context, x: Tensor, dims: Dims = None, *, correction: Any = None, keepdim: bool = False
) -> Value:
    return _variance(context, x, dims, keepdim, correction)


@handles("var_mean.correction")
def _var_mean(
    context: Context, x: Tensor, dims: Dims = None, *, correction: Any = None, keepdim: bool = False
) -> tuple[Value, Value]:
    variance = _variance(context, x, dims, keepdim, correction)
    return variance, _mean_of(context, x, dims, keepdim, 0)


# Extrema ------------------------------------------------------------------------------------------


def largest(context: Context, x: Tensor, dims: Dims = None, keepdim: bool = False) -> Value:
    """The largest element; NaN where one is NaN."""
    return reduced(context, x, dims, keepdim, lambda rows: context.emit("amax", rows))


def _smallest(context: Context, x: Tensor, dims: Dims = None, keepdim: bool = False) -> Value:
    return negated(context, largest(context, negated(context, x), dims, keepdim))


@handles("amax.default", "max.default", ranges=rules.same)
def _amax(context: Context, x: Tensor, dims: Dims = None, keepdim: bool = False) -> Value:
    return largest(context, x, dims, keepdim)


@handles("amin.default", "min.default", ranges=rules.same)
def _amin(context: Context, x: Tensor, dims: Dims = None, keepdim: bool = False) -> Value:
    return _smallest(context, x, dims, keepdim)


def _position_range(x: Tensor, dim: int | None = None, *_: Any, **options: Any) -> Range:
    return Range(0, (math.prod(x.shape) if dim is None else x.shape[dim] if x.shape else 1) - 1)


def _value_and_position(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Range, Range]:
    """The ranges of an extremum; floats have none, and none is asked for."""
    position = _position_range(x, dim)
    try:
        return range_of(x), position
    except ValueError:
        return Range.of(0), position


@handles("argmax.default", ranges=_position_range)
def _argmax(context: Context, x: Tensor, dim: int | None = None, keepdim: bool = False) -> Value:
    """The first place of the largest element, or of NaN where there is one."""

    def first(rows: Value) -> Value:
        size = rows.shape[-1]
        if size > EXACT:
            raise ValueError(f"it counts {size} elements, expected at most 2^24")
        top = context.emit("equal", rows, context.emit("amax", rows))
        is_nan = negation(context, context.emit("equal", rows, rows))
        hit = context.emit("maximum", top, is_nan)
        # The smallest place is what is left of the size by the largest number of places behind.
        behind = context.constant("places_behind", np.arange(size, 0, -1))
        return context.emit(
            "sub", float(size), context.emit("amax", context.emit("mul", hit, behind))
        )

    return reduced(context, x, dim, keepdim, first)


@handles("argmin.default", ranges=_position_range)
def _argmin(context: Context, x: Tensor, dim: int | None = None, keepdim: bool = False) -> Value:
    return _argmax(context, context.emit("sub", 0.0, x), dim, keepdim)


@handles("max.dim", ranges=_value_and_position)
def _max(context: Context, x: Tensor, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
    return largest(context, x, dim, keepdim), _argmax(context, x, dim, keepdim)


@handles("min.dim", ranges=_value_and_position)
def _min(context: Context, x: Tensor, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
    return _smallest(context, x, dim, keepdim), _argmin(context, x, dim, keepdim)


@handles("any.default", "any.dim", "any.dims", ranges=rules.truth)
def _any(context: Context, x: Tensor, dims: Dims = None, keepdim: bool = False) -> Value:
    return largest(context, truth_of(context, x), dims, keepdim)


# Norms of vectors ---------------------------------------------------------------------------------


@handles("linalg_vector_norm.default")
def _vector_norm(
    context: Context,
    x: Tensor,
    order: float = 2,
    dims: Dims = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Value:
    magnitude = context.emit("abs", x)
    if order == math.inf:
        return largest(context, magnitude, dims, keepdim)
    if order == -math.inf:
        return _smallest(context, magnitude, dims, keepdim)
    if order == 0:
        return _sum(context, truth_of(context, magnitude), dims, keepdim)
    if order == 1:
        return _sum(context, magnitude, dims, keepdim)
    if order == 2:
        return context.emit("sqrt", _sum(context, context.emit("mul", x, x), dims, keepdim))
    powers = context.emit("pow", magnitude, float(order))
    return context.emit("pow", _sum(context, powers, dims, keepdim), 1.0 / order)


# Softmax ------------------------------------------------------------------------------------------


@handles("softmax.int", "_softmax.default")
def _softmax(context: Context, x: Tensor, dim: int, dtype: Any = None) -> Value:
    rows = x if x.shape else reshaped(context, x, (1,))
    out = swapped(context, context.emit("softmax", swapped(context, rows, dim, -1)), dim, -1)
    return reshaped(context, out, x.shape)


@handles("_log_softmax.default")
def _log_softmax(context: Context, x: Tensor, dim: int, dtype: Any = None) -> Value:
    """(x - max) - log(sum(exp(x - max)))."""
    shifted = context.emit("sub", x, largest(context, x, dim, True))
    total = _sum(context, context.emit("exp", shifted), dim, True)
    return context.emit("sub", shifted, context.emit("log", total))
