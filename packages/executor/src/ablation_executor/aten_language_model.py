"""Handlers of the ATen overloads that language models are written with: RMSNorm, rotary, SwiGLU.

Written out, a norm is a mean of squares and its reciprocal root, a rotation ends in a stack. Both
become primitives that run as they are; `fuse_rms_norm` and `fuse_rotary` put them back together.
Importing this module registers the handlers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .aten import Context, Tensor, axis_of, check_eps, handles, permuted, product, reshaped
from .ir import Value

#: torch.finfo(torch.float32).eps: what RMSNorm adds where no eps is given.
_FLOAT32_EPS = 2.0**-23


@handles("square.default")
def _square(context: Context, x: Tensor) -> Value:
    return context.emit("mul", x, x)


@handles("pow.Tensor_Scalar")
def _pow(context: Context, x: Tensor, exponent: float) -> Value:
    if exponent != 2:
        raise ValueError(f"exponent is {exponent}, expected 2")
    return _square(context, x)


@handles("rsqrt.default")
def _rsqrt(context: Context, x: Tensor) -> Value:
    return context.emit("rsqrt", x)


@handles("silu.default")
def _silu(context: Context, x: Tensor) -> Value:
    return context.emit("silu", x)


@handles("mean.dim")
def _mean(
    context: Context, x: Tensor, dims: Sequence[int], keepdim: bool = False, *, dtype: Any = None
) -> Value:
    """A product with a column of 1 / D, behind which the averaged axes are brought.

    It is finite also where torch's sum of a row overflows.
    """
    rank = len(x.shape)
    gone = sorted(axis_of(int(dim), rank) for dim in dims or range(rank))
    left = [axis for axis in range(rank) if axis not in gone]
    size = math.prod(x.shape[axis] for axis in gone)
    rows = reshaped(
        context, permuted(context, x, [*left, *gone]), (*(x.shape[axis] for axis in left), size)
    )
    column = context.builder.constant("mean", np.full((size, 1), 1.0 / size))
    kept = [1 if axis in gone else length for axis, length in enumerate(x.shape)]
    shape = tuple(kept if keepdim else (x.shape[axis] for axis in left))
    if not left:
        rows = reshaped(context, rows, (1, size))
    return reshaped(context, product(context, rows, column), shape)


@handles("stack.default")
def _stack(context: Context, tensors: Sequence[Tensor], dim: int = 0) -> Value:
    """where(is first, first, where(is second, second, ...)), the new axis by broadcasting."""
    shape = tensors[0].shape
    axis = axis_of(dim, len(shape) + 1)
    parts = [reshaped(context, part, (*shape[:axis], 1, *shape[axis:])) for part in tensors]
    out = parts[-1]
    for index in reversed(range(len(parts) - 1)):
        chosen = (np.arange(len(parts)) == index).reshape(-1, *[1] * (len(shape) - axis))
        condition = context.builder.constant("is_part", chosen)
        out = context.emit("where", condition, parts[index], out)
    return out


@handles("rms_norm.default", one_type=True)
def _rms_norm(
    context: Context,
    x: Tensor,
    normalized: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Value:
    if eps is not None:
        check_eps(eps)
    size = math.prod(normalized)
    rows = (*x.shape[: len(x.shape) - len(normalized)], size)
    scale = context.builder.constant("ones", np.ones(size)) if weight is None else weight
    inputs = [reshaped(context, x, rows), reshaped(context, scale, (size,))]
    out = context.emit("rms_norm", *inputs, eps=_FLOAT32_EPS if eps is None else float(eps))
    return reshaped(context, out, x.shape)
