"""One handler per ATen overload: what it is in primitive ops.

A handler takes the export context and the overload's own arguments. Tensors arrive as Value (an
activation) or Constant (made of parameters and buffers alone). It raises ValueError with the
reason where an overload is outside the op set with these arguments; export adds op and place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from .ir import GraphBuilder, Value
from .refusal import Refusal

Handler = Callable[..., Any]
_HandlerT = TypeVar("_HandlerT", bound=Handler)
HANDLERS: dict[str, Handler] = {}


#: The overloads that move a tensor's values and compute nothing. Of a weight too they are nodes.
MOVING: set[str] = set()
#: The overloads whose tensors have to be of one type, where others promote narrower ones.
ONE_TYPE: set[str] = set()


@dataclass(eq=False)
class Constant:
    """A torch tensor known at export; `express` emits it as nodes where the op set can.

    `refusal` is set where nobody knows its values: they are random, or uninitialized memory.
    """

    tensor: Any
    name: str
    express: Callable[[], Value] | None = None
    value: Value | None = field(default=None, repr=False)
    refusal: Refusal | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)


Tensor = Value | Constant


class Context:
    """What handlers work with: emits nodes and turns constants and numbers into values."""

    def __init__(self, builder: GraphBuilder, arrays: Mapping[str, Any] | None = None) -> None:
        self.builder = builder
        #: What to store for a parameter or buffer in the place of its tensor, by name.
        self.arrays: Mapping[str, Any] = arrays or {}
        self.module_path = ""
        self._numbers: dict[str, Value] = {}
        self._materialized: dict[tuple[Any, ...], tuple[Value, Any]] = {}

    def emit(self, op: str, *inputs: Tensor | float | None, **attributes: Any) -> Value:
        """Append a node."""
        values = [None if part is None else self.value(part) for part in inputs]
        name = f"{self.module_path}.{op}" if self.module_path else op
        return self.builder.node(op, values, attributes, name=name, module_path=self.module_path)

    def value(self, part: Tensor | float) -> Value:
        """The value of a tensor or number; a number becomes a constant of shape ()."""
        if isinstance(part, Value):
            return part
        if isinstance(part, Constant):
            if part.value is None:
                part.value = self._express(part) or self._materialize(part)
            return part.value
        # By its digits: as numbers, 0.0 and -0.0 are equal, and NaN is not equal to itself.
        digits = float(part).hex()
        if digits not in self._numbers:
            self._numbers[digits] = self.builder.constant("scalar", np.float32(part))
        return self._numbers[digits]

    def _express(self, constant: Constant) -> Value | None:
        """A constant as nodes; None where it is a tensor of its own, or the op set lacks the op."""
        try:
            return constant.express() if constant.express else None
        except ValueError:
            return None

    def _materialize(self, constant: Constant) -> Value:
        import torch

        tensor, kind = constant.tensor.detach(), constant.tensor.dtype
        # A scalar takes the type of what it is combined with; a wider tensor would decide it.
        if kind.is_complex or (kind == torch.float64 and tensor.ndim > 0):
            raise ValueError(
                f"constant {constant.name!r} is {kind}, expected torch.float32: use .float()"
            )
        # The same elements under two names, as tied weights, are one constant.
        memory = (tensor.data_ptr(), tensor.is_neg(), kind, tuple(tensor.shape), tensor.stride())
        if memory not in self._materialized:
            array = self.arrays.get(constant.name)
            if array is None:
                array = tensor.to(torch.float32).contiguous().resolve_neg().numpy()
            # The tensor stays, so that no other one comes to lie at its address.
            self._materialized[memory] = (self.builder.constant(constant.name, array), tensor)
        return self._materialized[memory][0]


def handles(
    *overloads: str, moves: bool = False, one_type: bool = False
) -> Callable[[_HandlerT], _HandlerT]:
    """Register a handler for ATen overloads, named as torch prints them, without `aten.`."""
    names = {f"aten.{overload}" for overload in overloads}

    def register(handler: _HandlerT) -> _HandlerT:
        HANDLERS.update(dict.fromkeys(names, handler))
        MOVING.update(names if moves else ())
        ONE_TYPE.update(names if one_type else ())
        return handler

    return register


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


# Arithmetic ---------------------------------------------------------------------------------------


def _arithmetic(op: str) -> Handler:
    def handler(context: Context, a: Tensor | float, b: Tensor | float, alpha: float = 1) -> Value:
        if alpha != 1:
            b = context.emit("mul", b, alpha)
        return context.emit(op, a, b)

    return handler


for _op in ("add", "sub", "mul", "div"):
    handles(f"{_op}.Tensor", f"{_op}.Scalar")(_arithmetic(_op))


@handles("rsub.Scalar", "rsub.Tensor")
def _rsub(context: Context, a: Tensor, b: Tensor | float, alpha: float = 1) -> Value:
    return context.emit("sub", b, context.emit("mul", a, alpha) if alpha != 1 else a)


@handles("neg.default")
def _neg(context: Context, x: Tensor) -> Value:
    return context.emit("mul", x, -1.0)


@handles("relu.default")
def _relu(context: Context, x: Tensor) -> Value:
    return context.emit("relu", x)


@handles("gelu.default")
def _gelu(context: Context, x: Tensor, approximate: str = "none") -> Value:
    return context.emit("gelu", x, approximate=approximate)


@handles("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def _where(context: Context, condition: Tensor, x: Any, y: Any) -> Value:
    return context.emit("where", condition, x, y)


@handles("masked_fill.Scalar", "masked_fill.Tensor")
def _masked_fill(context: Context, x: Tensor, mask: Tensor, value: Any) -> Value:
    return context.emit("where", mask, value, x)


@handles("softmax.int", "_softmax.default")
def _softmax(context: Context, x: Tensor, dim: int, dtype: Any = None) -> Value:
    rank = len(x.shape)
    axis = axis_of(dim, rank)
    if axis == rank - 1:
        return context.emit("softmax", x)
    swap = [*range(axis), rank - 1, *range(axis + 1, rank - 1), axis]
    return permuted(context, context.emit("softmax", permuted(context, x, swap)), swap)


def check_eps(eps: float) -> None:
    """ValueError for an eps that the kernels of norms do not have."""
    if not eps >= 0.0:
        raise ValueError(f"eps is {eps}, expected a number of at least 0")


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
    check_eps(eps)
    size = math.prod(normalized)
    rows = (*x.shape[: len(x.shape) - len(normalized)], size)
    builder = context.builder
    scale = builder.constant("ones", np.ones(size)) if weight is None else weight
    shift = builder.constant("zeros", np.zeros(size)) if bias is None else bias
    flat = [reshaped(context, part, shape) for part, shape in ((scale, (size,)), (shift, (size,)))]
    out = context.emit("layer_norm", reshaped(context, x, rows), *flat, eps=float(eps))
    return reshaped(context, out, x.shape)


# Products -----------------------------------------------------------------------------------------


@handles("matmul.default", "mm.default", "bmm.default", one_type=True)
@handles("mv.default", "dot.default", one_type=True)
def product(context: Context, a: Tensor, b: Tensor) -> Value:
    """a @ b as torch has it: vectors, batches, and one matrix for all of them."""
    if len(b.shape) == 1:
        rows = reshaped(context, a, (1, *a.shape)) if len(a.shape) == 1 else a
        column = product(context, rows, reshaped(context, b, (*b.shape, 1)))
        return reshaped(context, column, a.shape[:-1])
    if len(a.shape) == 1:  # a @ b = b^T @ a, for each b of a batch
        last = len(b.shape) - 1
        if last > 1:
            return product(context, permuted(context, b, [*range(last - 1), last, last - 1]), a)
        row = product(context, reshaped(context, a, (1, *a.shape)), b)
        return reshaped(context, row, b.shape[1:])
    if len(b.shape) > 2 and a.shape[:-2] != b.shape[:-2] and math.prod(b.shape[:-2]) == 1:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        out = product(context, a, reshaped(context, b, b.shape[-2:]))
        return reshaped(context, out, (*batch, *out.shape[-2:]))
    return context.emit("matmul", a, b)


@handles("linear.default", one_type=True)
def _linear(context: Context, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Value:
    out = product(context, x, context.emit("permute", weight, perm=(1, 0)))
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


# Attention ----------------------------------------------------------------------------------------


@handles("scaled_dot_product_attention.default", one_type=True)
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
    attention op is emitted directly.

    As in torch, is_causal replaces scores and a mask is added, a boolean one as 0 and -infinity: a
    NaN in a key that it hides reaches the output. A row whose scores all overflow to -infinity is
    NaN here and 0 in torch.
    """
    if q.shape[:-2] != k.shape[:-2] or k.shape[:-2] != v.shape[:-2]:
        raise ValueError(
            f"q is {list(q.shape)}, k {list(k.shape)} and v {list(v.shape)}: their batch and head"
            " axes have to be the same"
        )
    factor = float(scale) if scale is not None else 1.0 / math.sqrt(q.shape[-1])
    if mask is not None and (is_causal or _may_mask_whole_rows(mask)):
        return _attention_op(context, q, k, v, mask, scale=factor, causal=is_causal)
    last = len(k.shape) - 1
    transposed = permuted(context, k, [*range(last - 1), last, last - 1])
    scores = context.emit("mul", context.emit("matmul", q, transposed), factor)
    if is_causal:
        keep = np.tri(q.shape[-2], k.shape[-2], dtype=np.float32)
        causal = context.builder.constant("causal", keep)
        scores = context.emit("where", causal, scores, -math.inf)
    if isinstance(mask, Constant) and str(mask.tensor.dtype) == "torch.bool":
        mask = context.builder.constant("mask", np.where(mask.tensor.numpy(), 0.0, -math.inf))
    if mask is not None:
        scores = context.emit("add", scores, mask)
    return context.emit("matmul", context.emit("softmax", scores), v)


def _may_mask_whole_rows(mask: Tensor) -> bool:
    if isinstance(mask, Value):
        return True
    array = mask.tensor.detach().numpy()
    hidden = ~array if array.dtype == bool else np.isneginf(array)
    return bool(hidden.all(axis=-1).any())


def _attention_op(
    context: Context, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, **attributes: Any
) -> Value:
    if isinstance(mask, Constant) and str(mask.tensor.dtype) == "torch.bool":
        additive = np.where(mask.tensor.numpy(), 0.0, -math.inf)
        mask = context.builder.constant("mask", additive)
    if len(q.shape) != 4:
        raise ValueError(
            f"a mask that may hide whole rows needs q of (B, H, S, D), it is {list(q.shape)}"
        )
    return context.emit("attention", q, k, v, mask, **attributes)
