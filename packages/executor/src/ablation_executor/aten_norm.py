"""Handlers of normalizations: over the last axes, over groups of channels, by fixed statistics.

Written out, they become primitives that run as they are, and passes put them back together.
Importing this module registers the handlers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .aten import Context, handles
from .aten_shapes import reshaped
from .ir import Value
from .tensors import Constant, Tensor

#: torch.finfo(torch.float32).eps: what RMSNorm adds where no eps is given.
_FLOAT32_EPS = 2.0**-23


def check_eps(eps: float) -> None:
    """ValueError for an eps that the kernels of norms do not have."""
    if not eps >= 0.0:
        raise ValueError(f"eps is {eps}, expected a number of at least 0")


def _layer_normalized(
    context: Context, x: Tensor, rows: tuple[int, ...], weight: Any, bias: Any, eps: float
) -> Value:
    """layer_norm of x in the shape `rows`, whose last axis is normalized."""
    check_eps(eps)
    size = rows[-1]
    scale = context.constant("ones", np.ones(size)) if weight is None else weight
    shift = context.constant("zeros", np.zeros(size)) if bias is None else bias
    flat = [reshaped(context, part, (size,)) for part in (scale, shift)]
    out = context.emit("layer_norm", reshaped(context, x, rows), *flat, eps=float(eps))
    return reshaped(context, out, x.shape)


@handles("layer_norm.default", one_type=True)
def _layer_norm(
    context: Context,
    x: Tensor,
    normalized: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Value:
    rows = (*x.shape[: len(x.shape) - len(normalized)], math.prod(normalized))
    return _layer_normalized(context, x, rows, weight, bias, eps)


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
    scale = context.constant("ones", np.ones(size)) if weight is None else weight
    inputs = [reshaped(context, x, rows), reshaped(context, scale, (size,))]
    out = context.emit("rms_norm", *inputs, eps=_FLOAT32_EPS if eps is None else float(eps))
    return reshaped(context, out, x.shape)


def _by_channel(context: Context, x: Tensor, part: Tensor) -> Value:
    """A vector of the channels, which are axis 1 of x, in a shape that broadcasts."""
    return reshaped(context, part, (x.shape[1], *[1] * (len(x.shape) - 2)))


def _scaled(context: Context, x: Tensor, out: Value, weight: Any, bias: Any) -> Value:
    if weight is not None:
        out = context.emit("mul", out, _by_channel(context, x, weight))
    return out if bias is None else context.emit("add", out, _by_channel(context, x, bias))


@handles("group_norm.default", one_type=True)
def _group_norm(
    context: Context,
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Value:
    """layer_norm of each group of channels, then weight and bias of each channel."""
    rows = (x.shape[0] * groups, math.prod(x.shape[1:]) // groups)
    out = _layer_normalized(context, x, rows, None, None, eps)
    return _scaled(context, x, out, weight, bias)


@handles("instance_norm.default", one_type=True)
def _instance_norm(
    context: Context,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Value:
    if not use_input_stats:
        return _by_statistics(context, x, weight, bias, mean, variance, eps)
    return _group_norm(context, x, x.shape[1], weight, bias, eps)


def _by_statistics(
    context: Context,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    eps: float,
) -> Value:
    """x scale + shift, vectors of the channels, as torch rounds."""
    scale = context.emit("rsqrt", context.emit("add", variance, eps))
    if weight is not None:
        scale = context.emit("mul", scale, weight)
    shift = context.emit("mul", context.emit("mul", mean, scale), -1.0)
    if bias is not None:
        shift = context.emit("add", shift, bias)
    return _scaled(context, x, context.value(x), scale, shift)


@handles("_native_batch_norm_legit_no_training.default", one_type=True)
def _batch_norm(
    context: Context,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the three results those of training are empty."""
    import torch

    empty = Constant(torch.zeros(0), "empty")
    return _by_statistics(context, x, weight, bias, mean, variance, eps), empty, empty
