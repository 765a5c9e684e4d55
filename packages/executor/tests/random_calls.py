"""Modules of random calls and constants of every type."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

DTYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.uint8, torch.bool),
)

Rule = Callable[["Draw", Tensor], Tensor]


class Draw(nn.Module):
    """A forward of `length` rules drawn by a seed, the same ones at each call."""

    def __init__(self, seed: int, length: int) -> None:
        super().__init__()
        self.seed, self.length = seed, length
        self.weight = nn.Parameter(torch.randn(4, 4, generator=torch.Generator().manual_seed(seed)))
        self.vector = nn.Parameter(torch.randn(4, generator=torch.Generator().manual_seed(seed)))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        self.__dict__["draw"] = random.Random(self.seed)
        self.__dict__["y"] = y
        value = x
        for _ in range(self.length):
            value = self.pick(RULES)(self, value)
        del self.__dict__["draw"], self.__dict__["y"]
        return value

    def pick(self, choices: Any) -> Any:
        return self.__dict__["draw"].choice(choices)

    def constant(self, shape: tuple[int, ...]) -> Tensor:
        """A constant of any type, made in forward or of a parameter, and worked on by torch."""
        kind = self.pick(DTYPES)
        size = int(np.prod(shape))
        value = (torch.arange(size) % 5 - 1).reshape(shape).to(kind)
        if kind == torch.float32 and shape[-1] == 4 and self.pick((True, False)):
            value = self.pick((self.vector, self.weight[1], self.weight.sum(0))).expand(shape)
        if not kind.is_floating_point:
            return self.pick((value, value.flip(0), value.roll(1)))
        return self.pick((value, value.flip(0), value.cos(), value.pow(3), value[...] * 0.5))

    def mask(self, shape: tuple[int, ...]) -> Tensor:
        last = torch.arange(shape[-1]) > self.pick((0, 1, 5))
        return self.pick((last, torch.ones(shape, dtype=torch.bool).tril(), last.expand(shape)))

    def broadcastable(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape itself, or one that broadcasts to it."""
        kept = tuple(self.pick((size, size, 1)) for size in shape)
        return kept[self.pick(range(len(shape))) :]


def arithmetic(draw: Draw, x: Tensor) -> Tensor:
    other = draw.pick((draw.constant(draw.broadcastable(tuple(x.shape))), 1.5, -2, x, True))
    op = draw.pick((torch.add, torch.sub, torch.mul, torch.rsub, torch.div))
    if op is torch.div and isinstance(other, Tensor):
        other = torch.where(other == 0, 1, other)
    return (
        op(x, other)
        if draw.pick((True, False)) or op in (torch.mul, torch.div)
        else op(x, other, alpha=2)
    )


def product(draw: Draw, x: Tensor) -> Tensor:
    size = x.shape[-1]
    weight = draw.pick((draw.weight[:size], draw.weight.t()[:size].abs(), draw.vector[:size]))
    return x @ draw.pick((weight, weight[::2].repeat_interleave(2, 0)[:size], weight.contiguous()))


def movement(draw: Draw, x: Tensor) -> Tensor:
    axis = draw.pick(range(-x.dim(), x.dim()))
    return draw.pick(
        (
            lambda: x.transpose(axis, 0),
            lambda: x.flatten(0, -1).reshape(x.shape[::-1]),
            lambda: x.unsqueeze(axis).expand(*x.unsqueeze(axis).shape),
            lambda: x.select(axis, -1) if x.dim() > 1 else x,
            lambda: x.narrow(axis, 0, max(1, x.shape[axis] - 1)),
            lambda: torch.stack(x.split(1, axis), axis).squeeze(),
            lambda: x[None].expand(2, *x.shape) if x.dim() < 4 else x,
            lambda: x.permute(*reversed(range(x.dim()))),
            lambda: x.flip(0),
        )
    )()


def masking(draw: Draw, x: Tensor) -> Tensor:
    mask, fill = draw.mask(tuple(x.shape)), draw.pick((0, -1e4, draw.constant((x.shape[-1],)), x))
    if isinstance(fill, Tensor) or draw.pick((True, False)):
        return torch.where(mask, x, fill)
    return x.masked_fill(mask, fill)


def network(draw: Draw, x: Tensor) -> Tensor:
    size = x.shape[-1]
    axis = draw.pick(range(x.dim()))
    return draw.pick(
        (
            lambda: functional.layer_norm(x, (size,), draw.vector[:1].expand(size)),
            lambda: functional.rms_norm(x, (size,), eps=0.1),
            lambda: x.softmax(axis),
            lambda: functional.gelu(x),
            lambda: functional.silu(x),
            lambda: x.relu() + draw.y.mean(),
            lambda: x.mean(axis, keepdim=True),
            lambda: functional.dropout(x, 0.5, draw.pick((False, False, True))),
            lambda: x + torch.rand(size) * draw.pick((0, 1)),
            lambda: x + torch.zeros_like(torch.rand(size)),
            lambda: functional.scaled_dot_product_attention(
                x, x, x, draw.pick((None, draw.mask((x.shape[-2], x.shape[-2]))))
            ),
        )
    )()


RULES: tuple[Rule, ...] = (arithmetic, arithmetic, product, movement, masking, network)
