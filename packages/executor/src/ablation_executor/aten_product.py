"""Handlers of products: matrices, vectors, batches, linear layers.

Importing this module registers the handlers.
"""

from __future__ import annotations

import math

import numpy as np

from .aten import Context, handles
from .aten_shapes import expanded, reshaped, swapped
from .ir import Value
from .tensors import Tensor


@handles("matmul.default", "mm.default", "bmm.default", one_type=True)
@handles("mv.default", "dot.default", one_type=True)
def product(context: Context, a: Tensor, b: Tensor) -> Value:
    """a @ b as torch has it: vectors, batches that broadcast, and one matrix for all of them."""
    if len(b.shape) == 1:
        rows = reshaped(context, a, (1, *a.shape)) if len(a.shape) == 1 else a
        column = product(context, rows, reshaped(context, b, (*b.shape, 1)))
        return reshaped(context, column, a.shape[:-1])
    if len(a.shape) == 1:  # a @ b = b^T @ a, for each b of a batch
        if len(b.shape) > 2:
            return product(context, swapped(context, b, -2, -1), a)
        row = product(context, reshaped(context, a, (1, *a.shape)), b)
        return reshaped(context, row, b.shape[1:])
    if len(b.shape) == 2 or a.shape[:-2] == b.shape[:-2]:
        return context.emit("matmul", a, b)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if math.prod(b.shape[:-2]) == 1:
        out = product(context, a, reshaped(context, b, b.shape[-2:]))
        return reshaped(context, out, (*batch, *out.shape[-2:]))
    left = expanded(context, a, (*batch, *a.shape[-2:]))
    right = expanded(context, b, (*batch, *b.shape[-2:]))
    return context.emit("matmul", left, right)


@handles("linear.default", one_type=True)
def _linear(context: Context, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Value:
    turned = weight if len(weight.shape) == 1 else context.emit("permute", weight, perm=(1, 0))
    out = product(context, x, turned)
    return out if bias is None else context.emit("add", out, bias)


@handles("addmm.default", "baddbmm.default", one_type=True)
def _addmm(
    context: Context, addend: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1
) -> Value:
    out = product(context, a, b)
    if alpha != 1:
        out = context.emit("mul", out, alpha)
    if beta == 0:
        return out
    return context.emit("add", out, context.emit("mul", addend, beta) if beta != 1 else addend)
