"""Attention as a PyTorch operator with a gradient, over the kernels of this project.

`flash_attention` takes the place of `torch.nn.functional.scaled_dot_product_attention` in a model
that trains on a CPU:

    from ablation_executor.torch_ops import flash_attention

    y = flash_attention(q, k, v, causal=True)
    y.sum().backward()

Under it are two custom operators, `torch.ops.ablation.flash_attention`, which returns the output
and the log-sum-exp of each row of scores, and `torch.ops.ablation.flash_attention_backward`. Both
have shape rules for fake tensors, so that `torch.compile(fullgraph=True)` keeps them whole. Neither
forms a matrix of scores: what is saved for the backward pass is q, k, v, the output and the
log-sum-exp. Gradients are the same, bit by bit, for any number of threads, which
`ablation_kernels.set_num_threads` sets.

In bfloat16 the forward is `ablation_kernels.attention_bf16`, which multiplies bfloat16 where the
CPU does; the backward converts to float32, and its gradients are rounded once. Under
`torch.autocast("cpu")` q, k and v are cast as PyTorch's attention casts them: all but float64 to
the type of the autocast, which has to be bfloat16.

The output has a first derivative in reverse mode, also by `torch.func.grad` and `torch.vmap`. One
of the second order and one in forward mode raise NotImplementedError, and the log-sum-exp counts as
a constant. `torch.func` transforms inside a function that `torch.compile` compiles raise it too.
Source of the algorithm: Dao, FlashAttention-2 (2023).
"""

from __future__ import annotations

import math
from typing import Any

import torch

import ablation_kernels

DTYPES = (torch.float32, torch.bfloat16)


def flash_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Return softmax(scale * q @ k^T) @ v for each batch and head, differentiable in q, k and v.

    q is (batch, heads, Sq, head_dim), k and v are (batch, heads, Sk, head_dim): all float32 or all
    bfloat16, on the CPU, no axis of size 0; what is not contiguous is copied. causal hides key j
    from query i where j > i, counted from the top left as in torch's is_causal. scale None is
    1 / sqrt(head_dim). Returns a contiguous tensor of the shape and type of q; under autocast of
    the type of that. Raises TypeError for another type or device and ValueError for shapes that do
    not fit.
    """
    if isinstance(scale, torch.Tensor):
        raise TypeError("flash_attention: argument 'scale' is a tensor; accepted: a number or None")
    q, k, v = _autocast(q, k, v)
    _check(q, k, v)
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    # PyTorch's compiler takes no torch.autograd.Function with a rule for forward mode.
    compiling = torch.compiler.is_compiling()
    attend = torch.ops.ablation.flash_attention if compiling else _Attention.apply
    output: torch.Tensor = attend(q, k, v, causal, factor)[0]
    return output


def _autocast(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What PyTorch's attention gets of its tensors where autocast is on: all but float64 cast."""
    if not torch.is_autocast_enabled("cpu"):
        return tensors
    lower = torch.get_autocast_dtype("cpu")
    kept = (torch.float64, lower)
    return tuple(x if not _is_float_on_cpu(x) or x.dtype in kept else x.to(lower) for x in tensors)


def _is_float_on_cpu(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.is_floating_point() and x.device.type == "cpu"


def _check(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        given = f"flash_attention: argument '{name}' "
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
            raise TypeError(f"{given}is no dense torch.Tensor; it is a {type(tensor).__name__}")
        if tensor.dtype not in DTYPES:
            accepted = ", ".join(map(str, DTYPES))
            hint = (
                ", which torch.autocast takes as dtype" if torch.is_autocast_enabled("cpu") else ""
            )
            raise TypeError(f"{given}has dtype {tensor.dtype}; accepted: {accepted}{hint}")
        if tensor.dtype != q.dtype:
            raise TypeError(f"{given}has dtype {tensor.dtype}; accepted: that of q, {q.dtype}")
        if tensor.device.type != "cpu":
            raise TypeError(f"{given}is on device {tensor.device}; accepted: cpu")
        if tensor.ndim != 4 or 0 in tensor.shape:
            raise ValueError(
                f"{given}has shape {tuple(tensor.shape)}; accepted: 4 axes (batch, heads,"
                " seq_len, head_dim), none of size 0"
            )
    if k.shape[:2] != q.shape[:2] or k.shape[3] != q.shape[3]:
        raise ValueError(
            f"flash_attention: argument 'k' has shape {tuple(k.shape)}; accepted: that of q,"
            f" {tuple(q.shape)}, but for seq_len"
        )
    if v.shape != k.shape:
        raise ValueError(
            f"flash_attention: argument 'v' has shape {tuple(v.shape)}; accepted: that of k,"
            f" {tuple(k.shape)}"
        )


def _array(tensor: torch.Tensor) -> Any:
    return tensor.detach().float().contiguous().numpy()


def _forward(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    _check(q, k, v)
    if q.dtype == torch.bfloat16:
        rounded = torch.empty_like(q, memory_format=torch.contiguous_format)
        tensors = (x.detach().contiguous() for x in (q, k, v))
        _, lse = ablation_kernels.attention_bf16_lse(
            *tensors, causal=causal, scale=scale, out=rounded
        )
        return rounded, lse
    arrays = (_array(x) for x in (q, k, v))
    output, lse = ablation_kernels.attention_lse(*arrays, causal=causal, scale=scale)
    return torch.from_numpy(output), torch.from_numpy(lse)


def _backward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    output: torch.Tensor,
    lse: torch.Tensor,
    grad_output: torch.Tensor,
    causal: bool,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    arrays = (_array(x) for x in (q, k, v, output, lse, grad_output))
    gradients = ablation_kernels.attention_backward(*arrays, causal=causal, scale=scale)
    grad_q, grad_k, grad_v = (torch.from_numpy(gradient).to(q.dtype) for gradient in gradients)
    return grad_q, grad_k, grad_v


def _fake_forward(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:-1], dtype=torch.float32)


def _fake_backward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    output: torch.Tensor,
    lse: torch.Tensor,
    grad_output: torch.Tensor,
    causal: bool,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


_operator = torch.library.custom_op(
    "ablation::flash_attention", _forward, mutates_args=(), device_types="cpu"
)
_operator.register_fake(_fake_forward)
_backward_operator = torch.library.custom_op(
    "ablation::flash_attention_backward", _backward, mutates_args=(), device_types="cpu"
)
_backward_operator.register_fake(_fake_backward)


# Derivatives --------------------------------------------------------------------------------------


def _below_autograd(operator: Any, *arguments: Any) -> Any:
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*arguments)


def _vmap(function: Any, info: Any, in_dims: tuple[Any, ...], arguments: tuple[Any, ...]) -> Any:
    """Results of a function of tensors (batch, ...), the mapped axis taken into the batch."""
    count = info.batch_size

    def merged(x: Any, axis: int | None) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        return (x.expand(count, *x.shape) if axis is None else x.movedim(axis, 0)).flatten(0, 1)

    results = function.apply(*map(merged, arguments, in_dims))
    return tuple(x.unflatten(0, (count, -1)) for x in results), (0,) * len(results)


class _Attention(torch.autograd.Function):
    """Output and log-sum-exp, with a derivative of the output."""

    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _below_autograd(torch.ops.ablation.flash_attention, *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        q, k, v, ctx.causal, ctx.scale = inputs
        ctx.save_for_backward(q, k, v, *output)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, grad_output: Any, _: Any) -> tuple[Any, ...]:
        arguments = (*ctx.saved_tensors, grad_output, ctx.causal, ctx.scale)
        return (*_Gradient.apply(*arguments), None, None)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError("flash_attention has no derivative in forward mode")

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> Any:
        return _vmap(_Attention, info, in_dims, arguments)


class _Gradient(torch.autograd.Function):
    """Gradients in q, k and v, without derivatives of their own."""

    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _below_autograd(torch.ops.ablation.flash_attention_backward, *arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise NotImplementedError("flash_attention_backward has no derivative: no second order")

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError("flash_attention_backward has no derivative in forward mode")

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> Any:
        return _vmap(_Gradient, info, in_dims, arguments)


def _differentiably(function: Any) -> Any:
    """The kernel of an operator for tensors that autograd records."""

    def kernel(*arguments: Any) -> Any:
        if torch._C._are_functorch_transforms_active():
            raise NotImplementedError(
                "torch.ops.ablation has no rules for torch.func transforms: call flash_attention,"
                " not compiled"
            )
        return function.apply(*arguments)

    return kernel


def _cast_and_attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *others: Any) -> Any:
    tensors = _autocast(q, k, v)
    with torch.autocast("cpu", enabled=False):
        return torch.ops.ablation.flash_attention(*tensors, *others)


_library = torch.library.Library("ablation", "IMPL")
_library.impl("flash_attention", _differentiably(_Attention), "AutogradCPU")
_library.impl("flash_attention", _cast_and_attend, "AutocastCPU")
_library.impl("flash_attention_backward", _differentiably(_Gradient), "AutogradCPU")
