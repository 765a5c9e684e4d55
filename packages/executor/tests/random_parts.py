"""Norms, feed-forward layers, rotations and views in the spellings of models."""

from __future__ import annotations

import math

import torch
from random_choices import Choices
from torch import Tensor, nn
from torch.nn import functional

NORMS = (
    *("layer", "layer_no_bias", "layer_plain", "layer_written", "layer_deviation"),
    *("rms", "rms_plain", "llama", "gemma", "rms_squares", "rms_sqrt", "rms_vector", "none"),
)


class Norm(nn.Module):
    """A norm of the last axis, of `size` numbers."""

    def __init__(self, kind: str, size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.kind, self.size, self.eps = kind, size, eps
        self.weight, self.bias = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))
        if kind.startswith("layer_no"):
            self.module: nn.Module = nn.LayerNorm(size, eps, bias=False)
        elif kind in ("layer", "layer_plain"):
            self.module = nn.LayerNorm(size, eps, elementwise_affine=kind == "layer")
        else:
            self.module = nn.RMSNorm(size, eps, elementwise_affine=kind != "rms_plain")

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "none":
            return x
        if self.kind in ("layer", "layer_no_bias", "layer_plain", "rms", "rms_plain"):
            normed: Tensor = self.module(x)
            return normed
        if self.kind in ("layer_written", "layer_deviation"):
            centered = x - x.mean(-1, keepdim=True)
            if self.kind == "layer_written":
                variance = x.var(-1, keepdim=True, unbiased=False)
                return self.weight * centered / torch.sqrt(variance + self.eps) + self.bias
            return self.weight * centered / (x.std(-1, keepdim=True) + self.eps) + self.bias
        return self.by_squares(x)

    def by_squares(self, x: Tensor) -> Tensor:
        if self.kind == "rms_vector":
            length = torch.linalg.vector_norm(x, dim=-1, keepdim=True) / math.sqrt(self.size)
            return x / (length + self.eps) * self.weight
        if self.kind == "rms_sqrt":
            return x / torch.sqrt((x * x).mean(-1, keepdim=True) + self.eps) * self.weight
        wide = x.to(torch.float32)
        squares = wide * wide if self.kind == "rms_squares" else wide.pow(2)
        wide = wide * torch.rsqrt(squares.mean(-1, keepdim=True) + self.eps)
        if self.kind == "gemma":
            return (wide * (1.0 + self.weight.float())).type_as(x)
        return self.weight * wide.to(x.dtype)


PLAIN = (
    *("relu", "gelu", "gelu_tanh", "silu", "gelu_erf", "gelu_new", "quick", "squared", "tanh"),
    *("mish", "hardswish", "leaky", "elu", "relu6", "swish"),
)
GATED = ("silu", "gelu", "gelu_tanh", "sigmoid", "relu", "none")


def activated(kind: str, x: Tensor) -> Tensor:
    """An activation by its name or written out."""
    if kind == "gelu_erf":
        return x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0)))
    if kind == "gelu_new":
        inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))
        return 0.5 * x * (1.0 + torch.tanh(inner))
    if kind == "quick":
        return x * torch.sigmoid(1.702 * x)
    if kind == "swish":
        return x * torch.sigmoid(x)
    if kind == "squared":
        return torch.square(functional.relu(x))
    if kind == "gelu_tanh":
        return functional.gelu(x, approximate="tanh")
    named = {
        "relu": torch.relu,
        "gelu": functional.gelu,
        "silu": functional.silu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "mish": functional.mish,
        "hardswish": functional.hardswish,
        "leaky": functional.leaky_relu,
        "elu": functional.elu,
        "relu6": functional.relu6,
    }
    result: Tensor = named[kind](x) if kind != "none" else x
    return result


class FeedForward(nn.Module):
    """Two products and an activation, or three with a gate."""

    def __init__(self, choices: Choices, width: int) -> None:
        super().__init__()
        self.form = choices.pick("feed_forward", "plain", "gate", "reversed", "merged", "glu")
        options = PLAIN if self.form == "plain" else GATED
        self.kind = choices.pick("activation", *options)
        bias = choices.pick("feed_forward_bias", True, False)
        hidden = choices.pick("hidden", 4, 1, 3) * width
        parts = 2 if self.form in ("merged", "glu") else 1
        self.up, self.down = nn.Linear(width, parts * hidden, bias), nn.Linear(hidden, width, bias)
        self.gate = nn.Linear(width, hidden, bias) if self.form in ("gate", "reversed") else None

    def forward(self, x: Tensor) -> Tensor:
        up = self.up(x)
        if self.form == "glu":
            return self.down(functional.glu(up, dim=-1))
        if self.form == "merged":
            gate, up = up.chunk(2, dim=-1)
            return self.down(activated(self.kind, gate) * up)
        if self.gate is None:
            return self.down(activated(self.kind, up))
        gate = activated(self.kind, self.gate(x))
        return self.down(gate * up if self.form == "gate" else up * gate)


def turned(form: str, x: Tensor, angles: Tensor) -> Tensor:
    """A rotation of x (..., S, H, D) by angles (..., S, 1, D / 2), in one of its spellings."""
    if form == "complex":
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        turns = torch.polar(torch.ones_like(angles), angles)
        return torch.view_as_real(pairs * turns).flatten(-2).type_as(x)
    cos, sin = angles.cos(), angles.sin()
    if form in ("half", "split"):
        first, second = x.chunk(2, dim=-1)
        if form == "split":
            return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
        cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((sin, sin), dim=-1)
        return x * cos + torch.cat((-second, first), dim=-1) * sin
    even, odd = x[..., ::2], x[..., 1::2]
    if form == "pairs":
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)
    across = torch.stack((-odd, even), dim=-1).flatten(-2)
    return x * cos.repeat_interleave(2, -1) + across * sin.repeat_interleave(2, -1)


VIEWS = (
    *("none", "transposes", "flat", "unsqueezed", "halves", "unstacked", "flips", "rolls"),
    *("selects", "permuted", "clone", "narrowed", "padded", "indexed", "expanded", "movedim"),
)


def viewed(kind: str, x: Tensor) -> Tensor:
    """x (B, S, W) itself, by way of other shapes."""
    batch, length, width = x.shape
    return {
        "none": lambda: x,
        "transposes": lambda: x.transpose(0, 1).contiguous().transpose(0, 1),
        "flat": lambda: x.reshape(-1, width).view(batch, length, width),
        "unsqueezed": lambda: x[:, None].squeeze(1)[..., None].squeeze(-1),
        "halves": lambda: torch.cat(x.tensor_split(2, dim=-1), dim=-1),
        "unstacked": lambda: torch.stack(x.unbind(1), dim=1),
        "flips": lambda: x.flip(1).flip(1),
        "rolls": lambda: torch.roll(torch.roll(x, 1, dims=1), -1, dims=1),
        "selects": lambda: torch.cat([x[:, i : i + 1] for i in range(length)], dim=1),
        "permuted": lambda: x.permute(2, 0, 1).reshape(width, -1).t().reshape(x.shape),
        "clone": lambda: x.clone(memory_format=torch.contiguous_format).detach(),
        "narrowed": lambda: torch.cat((x.narrow(2, 0, 1), x[..., 1:]), dim=2),
        "padded": lambda: functional.pad(x, (1, 2))[..., 1:-2],
        "indexed": lambda: x[:, torch.arange(length)],
        "expanded": lambda: x.expand(2, batch, length, width)[1],
        "movedim": lambda: x.movedim(0, 2).movedim(-1, 0),
    }[kind]()
