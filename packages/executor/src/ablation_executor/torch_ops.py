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
CPU does; the backward converts to float32, and its gradients are rounded once.

The output has a first derivative; one of the second order raises RuntimeError when it is asked for,
and the log-sum-exp counts as a constant. Source of the algorithm: Dao, FlashAttention-2 (2023).
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
    """softmax(scale * q @ k^T) @ v for each batch and head, differentiable in q, k and v.

    q is (batch, heads, Sq, head_dim), k and v are (batch, heads, Sk, head_dim): all float32 or all
    bfloat16, on the CPU, no axis of size 0; what is not contiguous is copied. causal hides key j
    from query i where j > i, counted from the top left as in torch's is_causal. scale None is
    1 / sqrt(head_dim). Returns a contiguous tensor of the shape and type of q. Raises TypeError for
    another dtype or device and ValueError for shapes that do not fit.
    """
    _check(q, k, v)
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    output: torch.Tensor = torch.ops.ablation.flash_attention(q, k, v, causal, factor)[0]
    return output


def _check(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        given = f"flash_attention: argument '{name}' "
        if tensor.dtype not in DTYPES:
            accepted = ", ".join(map(str, DTYPES))
            raise TypeError(f"{given}has dtype {tensor.dtype}; accepted: {accepted}")
        if tensor.dtype != q.dtype:
            raise TypeError(f"{given}has dtype {tensor.dtype}; accepted: that of q, {q.dtype}")
        if tensor.device.type != "cpu":
            raise TypeError(f"{given}is on device {tensor.device}; accepted: cpu")
        if tensor.ndim != 4:
            raise ValueError(
                f"{given}has shape {tuple(tensor.shape)}; accepted: 4 axes (batch, heads,"
                " seq_len, head_dim)"
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
    if q.dtype == torch.bfloat16:
        rounded = torch.empty_like(q, memory_format=torch.contiguous_format)
        tensors = (x.detach().contiguous() for x in (q, k, v))
        _, lse = ablation_kernels.attention_bf16_lse(
            *tensors, causal=causal, scale=scale, out=rounded
        )
        return rounded, torch.from_numpy(lse)
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


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    q, k, v, ctx.causal, ctx.scale = inputs
    ctx.save_for_backward(q, k, v, *output)
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx: Any, grad_output: torch.Tensor, _: Any) -> tuple[Any, ...]:
    gradients = torch.ops.ablation.flash_attention_backward(
        *ctx.saved_tensors, grad_output, ctx.causal, ctx.scale
    )
    return (*gradients, None, None)


_operator = torch.library.custom_op(
    "ablation::flash_attention", _forward, mutates_args=(), device_types="cpu"
)
_operator.register_fake(_fake_forward)
_operator.register_autograd(_differentiate, setup_context=_save)
_backward_operator = torch.library.custom_op(
    "ablation::flash_attention_backward", _backward, mutates_args=(), device_types="cpu"
)
_backward_operator.register_fake(_fake_backward)
