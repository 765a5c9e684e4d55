"""The language model in float64, in other operations than the model's: what checks and tests
compare with.

Rotation is a product of complex numbers, attention the softmax of a masked matrix, the loss a
logarithm of a sum of exponentials. Autograd through it gives the reference gradients.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .model import NORM_EPS, ROPE_THETA
from .sizes import ModelShape


def float64_weights(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the model's parameters on the CPU, by name, that ask for gradients."""
    return {
        name: parameter.detach().to("cpu", torch.float64).requires_grad_()
        for name, parameter in model.named_parameters()
    }


def reference_logits(weights: Mapping[str, Tensor], shape: ModelShape, tokens: Tensor) -> Tensor:
    """Tokens (B, T) -> logits (B, T, vocab), float64 from float64 weights."""
    x = weights["embedding"][tokens]
    for index in range(shape.n_layers):
        block = f"blocks.{index}."
        h = rms_norm(x, weights[block + "norm_attention.weight"])
        x = x + self_attention(h, weights, block + "attention.", shape)
        h = rms_norm(x, weights[block + "norm_feed_forward.weight"])
        gate = h @ weights[block + "feed_forward.w1.weight"].T
        up = h @ weights[block + "feed_forward.w3.weight"].T
        x = x + (gate * torch.sigmoid(gate) * up) @ weights[block + "feed_forward.w2.weight"].T
    return rms_norm(x, weights["norm.weight"]) @ weights["head.weight"].T


def reference_loss(
    weights: Mapping[str, Tensor], shape: ModelShape, tokens: Tensor, targets: Tensor
) -> Tensor:
    """Mean of log(sum(exp(logits))) - logit of the target."""
    logits = reference_logits(weights, shape, tokens)
    wanted = torch.take_along_dim(logits, targets[..., None], dim=-1)[..., 0]
    return (torch.logsumexp(logits, dim=-1) - wanted).mean()


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """x over the square root of the mean of its squares."""
    return weight * x / torch.sqrt((x * x).sum(dim=-1, keepdim=True) / x.shape[-1] + NORM_EPS)


def self_attention(
    h: Tensor, weights: Mapping[str, Tensor], prefix: str, shape: ModelShape
) -> Tensor:
    """(B, T, d_model) -> (B, T, d_model), causal."""
    batch, length, _ = h.shape

    def heads(name: str) -> Tensor:
        projected = h @ weights[f"{prefix}{name}.weight"].T
        return projected.reshape(batch, length, shape.n_heads, shape.head_dim).permute(0, 2, 1, 3)

    q, k = rotate(heads("query")), rotate(heads("key"))
    scores = q @ k.mT / shape.head_dim**0.5
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    probabilities = torch.softmax(scores.masked_fill(future, -torch.inf), dim=-1)
    mixed = (probabilities @ heads("value")).permute(0, 2, 1, 3).reshape(h.shape)
    return mixed @ weights[f"{prefix}out.weight"].T


def rotate(x: Tensor) -> Tensor:
    """(B, H, T, head_dim), its pairs as complex numbers, times exp(i t theta^(-2j / head_dim))."""
    length, head_dim = x.shape[-2:]
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], head_dim // 2, 2).contiguous())
    speeds = ROPE_THETA ** (-2 * torch.arange(head_dim // 2, dtype=torch.float64) / head_dim)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * speeds
    turned = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(turned).reshape(x.shape)
