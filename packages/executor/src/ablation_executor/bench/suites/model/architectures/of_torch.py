"""Models of torch.nn, and one of our own in the style of nanoGPT: they need PyTorch alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from .build import Built, draw_weights, token_ids

if TYPE_CHECKING:
    from . import Request


class Block(nn.Module):
    """Pre-norm decoder block: one product for queries, keys and values, causal attention, GELU.

    `attention` is sdpa, or eager with the softmax written out.
    """

    def __init__(self, d_model: int, n_heads: int, length: int, attention: str) -> None:
        super().__init__()
        self.n_heads, self.attention = n_heads, attention
        self.norm_attention = nn.LayerNorm(d_model)
        self.query_key_value = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)
        self.norm_feed_forward = nn.LayerNorm(d_model)
        self.up = nn.Linear(d_model, 4 * d_model)
        self.down = nn.Linear(4 * d_model, d_model)
        hidden = torch.full((length, length), -math.inf).triu(1)
        self.register_buffer("mask", hidden if attention == "eager" else None, persistent=False)

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        """(B, S, d) -> (B, S, d)."""
        batch, length, width = x.shape
        q, k, v = (
            part.view(batch, length, self.n_heads, -1).transpose(1, 2)
            for part in self.query_key_value(x).split(width, dim=2)
        )
        if self.attention == "sdpa":
            result = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) + self.mask
            result = torch.softmax(scores, dim=-1) @ v
        return self.out(result.transpose(1, 2).reshape(batch, length, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, S, d) -> (B, S, d), float32."""
        x = x + self.attend(self.norm_attention(x))
        h = nn.functional.gelu(self.up(self.norm_feed_forward(x)))
        return x + self.down(h)


class LanguageModel(nn.Module):
    """Token and position embeddings, some layers, a norm, and the embedding again as the head."""

    def __init__(self, layers: nn.Module, vocabulary: int, length: int, d_model: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, d_model)
        self.positions = nn.Embedding(length, d_model)
        self.layers = layers
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(B, S) int64 -> logits (B, S, vocabulary), float32."""
        places = torch.arange(ids.shape[1], device=ids.device)
        return self.head(self.norm(self.layers(self.tokens(ids) + self.positions(places))))


def build(request: Request) -> Built:
    """Make the whole model, or its layers."""
    d_model, n_heads = request.settings["d_model"], request.settings["n_heads"]
    parts: list[nn.Module]
    if request.family == "nanogpt":
        parts = [
            Block(d_model, n_heads, request.length, request.attention)
            for _ in range(request.layers)
        ]
    else:
        parts = [
            nn.TransformerEncoderLayer(
                d_model,
                n_heads,
                4 * d_model,
                activation="gelu",
                batch_first=True,
                norm_first=request.settings["norm_first"],
            )
            for _ in range(request.layers)
        ]
    stack = parts[0] if request.layers == 1 and not request.is_whole else nn.Sequential(*parts)
    if not request.is_whole:
        draw_weights(stack)
        return Built(stack.eval(), (torch.randn(request.batch, request.length, d_model),))
    vocabulary = request.settings["vocabulary"]
    model = LanguageModel(stack, vocabulary, request.length, d_model)
    draw_weights(model)
    return Built(model.eval(), (token_ids(vocabulary, request.batch, request.length),))
