"""The benchmark's block as torch modules: manual softmax attention, and SDPA; one or several."""

from __future__ import annotations

import math

import torch
from torch import nn

from ...runtimes.parameters import load_weights
from .configs import Config
from .weights import Array


class _Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm(x)), then x + feed_forward(norm(x)).

    Every shape is a constant taken from the config, so that both torch.export and
    torch.fx.symbolic_trace record the same few calls.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        d = config.d_model
        self.batch, self.seq_len, self.d_model = config.batch, config.seq_len, d
        self.n_heads, self.head_dim = config.n_heads, config.head_dim
        self.causal = config.causal
        self.norm_attention = nn.LayerNorm(d)
        self.query = nn.Linear(d, d)
        self.key = nn.Linear(d, d)
        self.value = nn.Linear(d, d)
        self.out = nn.Linear(d, d)
        self.norm_feed_forward = nn.LayerNorm(d)
        self.up = nn.Linear(d, 4 * d)
        self.down = nn.Linear(4 * d, d)

    def split_heads(self, x: torch.Tensor) -> torch.Tensor:
        """(B, S, d) -> (B, H, S, head_dim)."""
        x = x.view(self.batch, self.seq_len, self.n_heads, self.head_dim)
        return x.transpose(1, 2)

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Attention of (B, H, S, head_dim) tensors; each kind of block has its own."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, S, d) -> (B, S, d), float32."""
        h = self.norm_attention(x)
        q = self.split_heads(self.query(h))
        k = self.split_heads(self.key(h))
        v = self.split_heads(self.value(h))
        context = self.attend(q, k, v).transpose(1, 2)
        context = context.reshape(self.batch, self.seq_len, self.d_model)
        x = x + self.out(context)
        h = self.norm_feed_forward(x)
        return x + self.down(torch.relu(self.up(h)))


class BlockManual(_Block):
    """The block with attention written out: matmul, division, softmax, matmul."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        mask: torch.Tensor | None = None
        if config.causal:
            full = torch.full((config.seq_len, config.seq_len), -math.inf, device="cpu")
            mask = torch.triu(full, diagonal=1)
        self.register_buffer("mask", mask, persistent=False)

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """softmax(q @ k^T / sqrt(head_dim) + mask) @ v."""
        scores = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(self.head_dim)
        if self.causal:
            scores = scores + self.mask
        return torch.matmul(torch.softmax(scores, dim=-1), v)


class BlockSDPA(_Block):
    """The block with torch's own fused attention."""

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """torch.nn.functional.scaled_dot_product_attention."""
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)


def empty_module(config: Config, kind: str) -> nn.Module:
    """The same without weights: its parameters have shapes alone."""
    block = BlockManual if kind == "manual" else BlockSDPA
    with torch.device("meta"):
        blocks = [block(config) for _ in range(config.layers)]
    return blocks[0] if config.layers == 1 else nn.Sequential(*blocks)


def make_module(config: Config, weights: dict[str, Array], kind: str) -> nn.Module:
    """The block of this config in eval mode, or its layers one after another; `kind` is "manual" or
    "sdpa"."""
    module = empty_module(config, kind)
    load_weights(module, weights)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module.eval()
