"""Transformer modules written in the ways that people write them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class SelfAttention(nn.Module):
    """Multi-head self-attention; `mask` and `split` choose among the usual spellings."""

    def __init__(
        self, d_model: int, n_heads: int, seq_len: int, mask: str = "none", split: str = "linears"
    ) -> None:
        super().__init__()
        self.n_heads, self.head_dim, self.mask, self.split = (
            n_heads,
            d_model // n_heads,
            mask,
            split,
        )
        if split == "linears":
            self.q, self.k, self.v = (nn.Linear(d_model, d_model) for _ in range(3))
        else:
            self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)
        self.dropout = nn.Dropout(0.1)
        keep = torch.tril(torch.ones(seq_len, seq_len))
        self.register_buffer("keep", keep.view(1, 1, seq_len, seq_len))
        self.register_buffer("keep_bool", keep.bool(), persistent=False)
        self.register_buffer("added", torch.log(keep))

    def projections(self, x: Tensor) -> list[Tensor]:
        batch, seq_len, width = x.shape
        shape = (batch, seq_len, self.n_heads, self.head_dim)
        if self.split == "linears":
            return [part(x).view(shape).transpose(1, 2) for part in (self.q, self.k, self.v)]
        if self.split == "chunk":
            return [part.view(shape).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1)]
        if self.split == "split":
            return [part.view(shape).transpose(1, 2) for part in self.qkv(x).split(width, dim=2)]
        folded = self.qkv(x).reshape(batch, seq_len, 3, self.n_heads, self.head_dim)
        folded = folded.permute(2, 0, 3, 1, 4)
        if self.split == "select":
            return [folded[0], folded[1], folded[2]]
        return list(folded.unbind(0))

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        scores = q @ k.transpose(-2, -1) / math.sqrt(self.head_dim)
        size = q.shape[-2]
        if self.mask == "masked_fill":
            return scores.masked_fill(self.keep[:, :, :size, :size] == 0, float("-inf"))
        if self.mask == "where":
            low = torch.tensor(torch.finfo(torch.float32).min)
            return torch.where(self.keep_bool[:size, :size], scores, low)
        if self.mask == "added":
            return scores + self.added
        if self.mask == "inline":
            hidden = torch.triu(torch.ones(size, size, dtype=torch.bool), diagonal=1)
            return scores.masked_fill(hidden, -math.inf)
        return scores

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.mask == "sdpa":
            return functional.scaled_dot_product_attention(q, k, v)
        if self.mask == "sdpa_causal":
            return functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3)
        if self.mask == "sdpa_bool":
            return functional.scaled_dot_product_attention(q, k, v, self.keep_bool)
        if self.mask == "sdpa_added":
            return functional.scaled_dot_product_attention(q, k, v, self.added)
        if self.mask == "einsum":
            scores = torch.einsum("bhqd,bhkd->bhqk", q, k) * self.head_dim**-0.5
            return torch.einsum("bhqk,bhkd->bhqd", scores.softmax(dim=-1), v)
        weights = self.dropout(functional.softmax(self.scores(q, k), dim=-1))
        return weights @ v

    def forward(self, x: Tensor) -> Tensor:
        y = self.attend(*self.projections(x)).transpose(1, 2).contiguous().view(x.shape)
        return self.out(y)


class Block(nn.Module):
    """A pre-norm block around SelfAttention."""

    def __init__(
        self,
        d_model: int = 16,
        n_heads: int = 2,
        seq_len: int = 6,
        mask: str = "none",
        split: str = "linears",
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.attention = SelfAttention(d_model, n_heads, seq_len, mask, split)
        acts = {"relu": nn.ReLU(), "gelu": nn.GELU(), "gelu_tanh": nn.GELU(approximate="tanh")}
        self.feed_forward = nn.Sequential(
            nn.Linear(d_model, 4 * d_model),
            acts[activation],
            nn.Linear(4 * d_model, d_model),
            nn.Dropout(0.2),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class Conv1D(nn.Module):
    """GPT-2's linear layer: weight (in, out), by addmm."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(rows, columns) * 0.1)
        self.bias = nn.Parameter(torch.randn(columns) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        flat = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return flat.view(*x.shape[:-1], -1)


class Gpt2Block(nn.Module):
    """A block in GPT-2's manner: Conv1D, split QKV, causal buffer, tanh GELU."""

    def __init__(self, d_model: int = 16, n_heads: int = 2, seq_len: int = 6) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.ln_1, self.ln_2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.c_attn, self.c_proj = Conv1D(d_model, 3 * d_model), Conv1D(d_model, d_model)
        self.c_fc, self.c_out = Conv1D(d_model, 4 * d_model), Conv1D(4 * d_model, d_model)
        keep = torch.tril(torch.ones(2 * seq_len, 2 * seq_len, dtype=torch.bool))
        self.register_buffer("bias", keep[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, size, width = x.shape
        parts = self.c_attn(self.ln_1(x)).split(width, dim=2)
        q, k, v = (p.view(batch, size, self.n_heads, -1).permute(0, 2, 1, 3) for p in parts)
        scores = torch.matmul(q, k.transpose(-1, -2))
        scores = scores / torch.full([], v.size(-1) ** 0.5, dtype=scores.dtype)
        low = torch.full([], torch.finfo(scores.dtype).min, dtype=scores.dtype)
        scores = torch.where(self.bias[:, :, :size, :size], scores, low)
        y = torch.matmul(nn.functional.softmax(scores, dim=-1), v)
        x = x + self.c_proj(y.permute(0, 2, 1, 3).contiguous().view(batch, size, width))
        hidden = functional.gelu(self.c_fc(self.ln_2(x)), approximate="tanh")
        return x + self.c_out(hidden)
