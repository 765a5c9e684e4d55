"""ONNX nodes as torch calls: a function of inputs and attributes for each op type.

Inputs that a node computes shapes, axes or sizes from are NumPy arrays (`STATIC` has their slots),
all others tensors; an input that is left out is None. Attributes are keywords, and `n` is how many
outputs a node has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from onnx_functions import (
    all_axes,
    as_list,
    attention,
    average_pool,
    batch_norm,
    causal_conv,
    conv,
    cumsum,
    depth_to_space,
    dropout,
    gather,
    gemm,
    group_norm,
    layer_norm,
    linear_attention,
    max_pool,
    mean_variance,
    mod,
    one_hot,
    pad,
    position,
    power,
    reshape,
    rms_norm,
    rotary,
    slice_,
    space_to_depth,
    split,
    trilu,
    unsqueeze,
)
from torch import Tensor
from torch.nn import functional

Op = Callable[..., Any]

_AXES = dict.fromkeys(
    ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceLogSum",
     "ReduceLogSumExp", "ReduceSumSquare", "Squeeze", "Unsqueeze", "Reshape", "Expand", "Tile",
     "Split", "CumSum", "Trilu"), (1,)
)  # fmt: skip
STATIC: Mapping[str, tuple[int, ...]] = {
    **_AXES,
    "Slice": (1, 2, 3, 4),
    "Pad": (1, 2, 3),
    "Range": (0, 1, 2),
    "ConstantOfShape": (0,),
    "OneHot": (1,),
    "Dropout": (1, 2),
}
_TYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
}


def _reduce(function: Callable[..., Tensor]) -> Op:
    """A reduction over axes; none of them are all of them, or none at all."""

    def reduce(
        x: Tensor, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Any:
        is_empty = axes is None or not len(axes)
        if is_empty and noop_with_empty_axes:
            return function(x.unsqueeze(0), [0], False)
        return function(x, all_axes(x, axes), bool(keepdims))

    return reduce


def _norm(order: int) -> Callable[..., Tensor]:
    return lambda x, axes, keep: torch.linalg.vector_norm(x, order, axes, keep)


def _fold(function: Callable[[Tensor, Tensor], Tensor]) -> Op:
    def fold(*parts: Tensor) -> Tensor:
        result = parts[0]
        for part in parts[1:]:
            result = function(result, part)
        return result

    return fold


_SAME = "Abs Neg Exp Log Sqrt Reciprocal Tanh Sigmoid Erf Relu Sin Cos Sign Floor Ceil Round"


OPS: Mapping[str, Op] = {
    # Elements
    **{name: getattr(torch, name.lower()) for name in _SAME.split()},
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Pow": power,
    "Div": lambda a, b: a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc"),
    "Mod": mod,
    "Where": torch.where,
    "Equal": torch.eq,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
    "Not": torch.logical_not,
    "IsNaN": torch.isnan,
    "Max": _fold(torch.maximum),
    "Min": _fold(torch.minimum),
    "Sum": _fold(torch.add),
    "Mean": lambda *parts: torch.stack(parts).mean(0) if len(parts) > 1 else parts[0],
    "Clip": lambda x, low=None, high=None: (
        x if low is None and high is None else torch.clamp(x, low, high)
    ),
    "Cast": lambda x, *, to, saturate=1, round_mode="": x.to(_TYPES[to]),
    "CastLike": lambda x, other, *, saturate=1, round_mode="": x.to(other.dtype),
    "Identity": lambda x: x,
    "Dropout": dropout,
    # Activation functions
    "Gelu": lambda x, *, approximate="none": functional.gelu(x, approximate=approximate),
    "Elu": lambda x, *, alpha=1.0: functional.elu(x, alpha),
    "Celu": lambda x, *, alpha=1.0: functional.celu(x, alpha),
    "Selu": lambda x, *, alpha=1.6732632, gamma=1.0507010: (
        gamma * torch.where(x > 0, x, alpha * torch.expm1(torch.clamp(x, max=0)))
    ),
    "LeakyRelu": lambda x, *, alpha=0.01: functional.leaky_relu(x, alpha),
    "PRelu": lambda x, slope: torch.where(x < 0, x * slope, x),
    "ThresholdedRelu": lambda x, *, alpha=1.0: torch.where(x > alpha, x, torch.zeros_like(x)),
    "HardSigmoid": lambda x, *, alpha=0.2, beta=0.5: torch.clamp(alpha * x + beta, 0, 1),
    "HardSwish": functional.hardswish,
    "Mish": functional.mish,
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "Swish": lambda x, *, alpha=1.0: x * torch.sigmoid(alpha * x),
    "SwiGLU": lambda a, b, *, alpha=1.0: a * torch.sigmoid(alpha * a) * b,
    "Shrink": lambda x, *, bias=0.0, lambd=0.5: torch.where(
        x < -lambd, x + bias, torch.where(x > lambd, x - bias, torch.zeros_like(x))
    ),
    "Softmax": lambda x, *, axis=-1: x.softmax(axis),
    "LogSoftmax": lambda x, *, axis=-1: x.log_softmax(axis),
    # Products
    "MatMul": torch.matmul,
    "Gemm": gemm,
    "Einsum": lambda *parts, equation: torch.einsum(equation, *parts),
    "Conv": conv,
    "Attention": attention,
    "RotaryEmbedding": rotary,
    "CausalConvWithState": causal_conv,
    "LinearAttention": linear_attention,
    # Reductions and norms
    "ReduceSum": _reduce(lambda x, axes, keep: x.sum(axes, keepdim=keep)),
    "ReduceMean": _reduce(lambda x, axes, keep: x.mean(axes, keepdim=keep)),
    "ReduceMax": _reduce(lambda x, axes, keep: x.amax(axes, keepdim=keep)),
    "ReduceMin": _reduce(lambda x, axes, keep: x.amin(axes, keepdim=keep)),
    "ReduceL1": _reduce(_norm(1)),
    "ReduceL2": _reduce(_norm(2)),
    "ReduceLogSum": _reduce(lambda x, axes, keep: x.sum(axes, keepdim=keep).log()),
    "ReduceLogSumExp": _reduce(lambda x, axes, keep: x.logsumexp(axes, keepdim=keep)),
    "ReduceSumSquare": _reduce(lambda x, axes, keep: x.square().sum(axes, keepdim=keep)),
    "CumSum": cumsum,
    "ArgMax": lambda x, *, axis=0, keepdims=1, select_last_index=0: position(
        x, "argmax", axis, keepdims, select_last_index
    ),
    "ArgMin": lambda x, *, axis=0, keepdims=1, select_last_index=0: position(
        x, "argmin", axis, keepdims, select_last_index
    ),
    "LayerNormalization": layer_norm,
    "RMSNormalization": rms_norm,
    "GroupNormalization": group_norm,
    "InstanceNormalization": lambda x, scale, bias, *, epsilon=1e-5: functional.instance_norm(
        x, weight=scale, bias=bias, eps=epsilon
    ),
    "BatchNormalization": batch_norm,
    "MeanVarianceNormalization": mean_variance,
    "LpNormalization": lambda x, *, axis=-1, p=2: functional.normalize(x, p, axis, eps=1e-30),
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": lambda x: x.mean(list(range(2, x.dim())), keepdim=True),
    "GlobalMaxPool": lambda x: x.amax(list(range(2, x.dim())), keepdim=True),
    # Movements
    "Reshape": reshape,
    "Flatten": lambda x, *, axis=1: x.reshape(math.prod(x.shape[:axis]), -1),
    "Transpose": lambda x, *, perm=None: x.permute(perm or list(range(x.dim()))[::-1]),
    "Squeeze": lambda x, axes=None: (
        x.squeeze() if axes is None else x.squeeze(tuple(as_list(axes)))
    ),
    "Unsqueeze": unsqueeze,
    "Concat": lambda *parts, axis: torch.cat(parts, axis),
    "Split": split,
    "Slice": slice_,
    "Pad": pad,
    "Expand": lambda x, shape: x * torch.ones(as_list(shape), dtype=x.dtype),
    "Tile": lambda x, repeats: x.repeat(as_list(repeats)),
    "Gather": gather,
    "GatherElements": lambda x, ids, *, axis=0: torch.gather(
        x, axis, torch.where(ids < 0, ids + x.shape[axis], ids)
    ),
    "Trilu": trilu,
    "OneHot": one_hot,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    # Made of attributes and shapes
    "Constant": lambda *, value=None, value_float=None, value_int=None, **lists: torch.as_tensor(
        next(v for v in (value, value_float, value_int, *lists.values()) if v is not None)
    ),
    "ConstantOfShape": lambda shape, *, value=None: torch.as_tensor(
        np.full(
            as_list(shape),
            np.float32(0) if value is None else np.asarray(value).item(),
            np.float32 if value is None else np.asarray(value).dtype,
        )
    ),
    "Range": lambda start, limit, delta: torch.as_tensor(
        np.arange(
            *(np.asarray(n).item() for n in (start, limit, delta)), dtype=np.asarray(start).dtype
        )
    ),
    "Shape": lambda x, *, start=0, end=None: torch.tensor(
        list(x.shape)[start:end], dtype=torch.int64
    ),
    "Size": lambda x: torch.tensor(x.numel()),
}
