"""Handlers of attention: written out in primitives, or the attention op where masks need it.

Importing this module registers the handlers.
"""

from __future__ import annotations

import math

import numpy as np

from . import ranges as rules
from .aten import Context, handles
from .aten_product import product
from .aten_shapes import expanded, reshaped, swapped, taken
from .ir import Value
from .tensors import Constant, Tensor, dtype_of


@handles("scaled_dot_product_attention.default", one_type=True, ranges=rules.to_float)
def _attention(
    context: Context,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    """Written out in primitives, as the manual form is; `fuse_attention` puts it back together.

    Where a row may be masked in every key, softmax gives NaN and torch's attention 0: there the
    attention op is emitted directly. Heads that queries share are taken once for each.

    As in torch, is_causal replaces scores and a mask is added, a boolean one as 0 and -infinity: a
    NaN in a key that it hides reaches the output. A row whose scores all overflow to -infinity is
    NaN here and 0 in torch.
    """
    if enable_gqa:
        k, v = _shared(context, k, q), _shared(context, v, q)
    factor = float(scale) if scale is not None else 1.0 / math.sqrt(q.shape[-1])
    if mask is not None:
        may_hide_rows = is_causal or _may_mask_whole_rows(mask)
        mask = _additive(context, mask)
        if may_hide_rows:
            return _attention_op(context, q, k, v, mask, factor, is_causal)
    scores = context.emit("mul", product(context, q, swapped(context, k, -2, -1)), factor)
    if is_causal:
        keep = np.tri(q.shape[-2], k.shape[-2], dtype=np.float32)
        scores = context.emit("where", context.constant("causal", keep), scores, -math.inf)
    if mask is not None:
        scores = context.emit("add", scores, mask)
    return product(context, context.emit("softmax", scores), v)


def _shared(context: Context, part: Tensor, q: Tensor) -> Value:
    """Keys or values with a head for each query head: head h is head h / (H / Hk)."""
    axis = len(part.shape) - 3
    count, heads = part.shape[axis], q.shape[len(q.shape) - 3]
    if heads % count:
        raise ValueError(f"q has {heads} heads, which {count} heads of k or v do not divide")
    return taken(context, part, np.repeat(np.arange(count), heads // count), axis)


def _may_mask_whole_rows(mask: Tensor) -> bool:
    if not isinstance(mask, Constant):
        return True
    array = mask.tensor.detach().numpy()
    hidden = ~array if array.dtype == bool else np.isneginf(array)
    return bool(hidden.all(axis=-1).any())


def _additive(context: Context, mask: Tensor) -> Tensor:
    """A mask to add to scores: 0 where a boolean one is true, else -infinity."""
    if dtype_of(mask) != "bool":
        return mask
    if isinstance(mask, Constant):
        return context.constant("mask", np.where(mask.tensor.numpy(), 0.0, -math.inf))
    return context.emit("where", mask, 0.0, -math.inf)


def _attention_op(
    context: Context, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float, causal: bool
) -> Value:
    """The op, which has (B, H, S, D): other leading axes become the heads of one batch."""
    leading = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    parts = [expanded(context, part, (*leading, *part.shape[-2:])) for part in (q, k, v)]
    shape = (*leading, q.shape[-2], v.shape[-1])
    if len(leading) != 2:
        flat = (1, math.prod(leading))
        parts = [reshaped(context, part, (*flat, *part.shape[-2:])) for part in parts]
        if len(mask.shape) > 2:
            mask = expanded(context, mask, (*leading, *mask.shape[-2:]))
            mask = reshaped(context, mask, (*flat, *mask.shape[-2:]))
    out = context.emit("attention", *parts, mask, scale=scale, causal=causal)
    return reshaped(context, out, shape)
