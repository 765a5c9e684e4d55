"""PyTorch's fused encoder layer and attention, written out in the ops that they are made of.

In eval mode and without gradients, `torch.nn.TransformerEncoderLayer` and `MultiheadAttention` call
one op for all that they do. The op hides what could run here. These functions compute the same, for
calls without a mask; with one, the fused ops have rules of their own for hidden rows, and stay.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    """Attention over (B, S, heads * D)."""
    parts = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    embed_dim: int,
    heads: int,
    qkv_weight: torch.Tensor,
    qkv_bias: torch.Tensor,
    out_weight: torch.Tensor,
    out_bias: torch.Tensor,
    *_: Any,
) -> tuple[torch.Tensor, None]:
    """torch._native_multi_head_attention without a mask and without the weights as a result."""
    if query is key and key is value:
        q, k, v = F.linear(query, qkv_weight, qkv_bias).chunk(3, dim=-1)
    else:
        q, k, v = (
            F.linear(x, weight, bias)
            for x, weight, bias in zip(
                (query, key, value), qkv_weight.chunk(3), qkv_bias.chunk(3), strict=True
            )
        )
    return F.linear(_attend(q, k, v, heads), out_weight, out_bias), None


def encoder_layer(
    x: torch.Tensor,
    embed_dim: int,
    heads: int,
    qkv_weight: torch.Tensor,
    qkv_bias: torch.Tensor,
    out_weight: torch.Tensor,
    out_bias: torch.Tensor,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: torch.Tensor,
    norm_bias_1: torch.Tensor,
    norm_weight_2: torch.Tensor,
    norm_bias_2: torch.Tensor,
    weight_1: torch.Tensor,
    bias_1: torch.Tensor,
    weight_2: torch.Tensor,
    bias_2: torch.Tensor,
    *_: Any,
) -> torch.Tensor:
    """torch._transformer_encoder_layer_fwd without a mask."""

    def first_norm(y: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(y, (embed_dim,), norm_weight_1, norm_bias_1, eps)

    def second_norm(y: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(y, (embed_dim,), norm_weight_2, norm_bias_2, eps)

    def attended(y: torch.Tensor) -> torch.Tensor:
        weights = (qkv_weight, qkv_bias, out_weight, out_bias)
        return attention(y, y, y, embed_dim, heads, *weights)[0]

    def fed_forward(y: torch.Tensor) -> torch.Tensor:
        inner = F.linear(y, weight_1, bias_1)
        return F.linear(F.gelu(inner) if use_gelu else F.relu(inner), weight_2, bias_2)

    if norm_first:
        x = x + attended(first_norm(x))
        return x + fed_forward(second_norm(x))
    x = first_norm(x + attended(x))
    return second_norm(x + fed_forward(x))


# Where the mask of each op is in its arguments.
_MASK = {torch._transformer_encoder_layer_fwd: 18, torch._native_multi_head_attention: 9}
# Where the flag that asks for the weights of attention is.
_NEEDS_WEIGHTS = 10


def write_out(node: Any) -> None:
    """Let an FX node of a fused op call its function here, if that computes the same."""
    place = _MASK.get(node.target) if callable(node.target) else None
    if place is None or node.kwargs or (len(node.args) > place and node.args[place] is not None):
        return
    if node.target is torch._transformer_encoder_layer_fwd:
        node.target = encoder_layer
        return
    reads_weights = any(user.args[1] != 0 for user in node.users)
    if not (node.args[_NEEDS_WEIGHTS : _NEEDS_WEIGHTS + 1] in ((), (True,)) and reads_weights):
        node.target = attention
