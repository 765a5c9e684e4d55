"""Small models in the manner of those that people use: what torch computes, whole, from ids on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ablation_executor import export, optimize
from ablation_executor.compiler import compile
from ablation_executor.interpreter import interpret

WIDTH, HEADS, SHARED, LENGTH, WORDS = 32, 4, 2, 6, 50


class Decoder(nn.Module):
    """Llama's layer: RMSNorm, rotate-half rotary, shared heads by expand, SwiGLU, tied weights."""

    def __init__(self) -> None:
        super().__init__()
        size = WIDTH // HEADS
        self.words = nn.Embedding(WORDS, WIDTH)
        self.norm1, self.norm2 = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.q, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
        self.k, self.v = (nn.Linear(WIDTH, SHARED * size, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(WIDTH, 2 * WIDTH, bias=False) for _ in range(2))
        self.down = nn.Linear(2 * WIDTH, WIDTH, bias=False)
        self.head = nn.Linear(WIDTH, WORDS, bias=False)
        self.head.weight = self.words.weight
        self.register_buffer("frequencies", 1.0 / 100 ** (torch.arange(0, size, 2) / size))

    def turned(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        return x * cos + torch.cat((-second, first), dim=-1) * sin

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.words(ids)
        batch, length, _ = x.shape
        h = self.norm1(x)
        q, k, v = (
            part(h).view(batch, length, -1, WIDTH // HEADS).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        angles = torch.arange(length)[:, None] * self.frequencies
        cos, sin = (torch.cat((f(angles), f(angles)), -1) for f in (torch.cos, torch.sin))
        q, k = self.turned(q, cos, sin), self.turned(k, cos, sin)
        k, v = (
            part[:, :, None].expand(-1, -1, HEADS // SHARED, -1, -1).flatten(1, 2)
            for part in (k, v)
        )
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        seen = causal & mask[:, None, None, :].bool()
        y = functional.scaled_dot_product_attention(q, k, v, seen)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, WIDTH))
        h = self.norm2(x)
        x = x + self.down(functional.silu(self.gate(h)) * self.up(h))
        return 30.0 * torch.tanh(self.head(x[:, -1:]) / 30.0)


class Encoder(nn.Module):
    """RoBERTa: position ids of the words that are no padding, added masks, a pooler."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, WIDTH, 1), nn.Embedding(LENGTH + 2, WIDTH, 1)
        self.kinds = nn.Embedding(2, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 64, batch_first=True)
        self.pooler = nn.Linear(WIDTH, WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        mask = ids.ne(1).int()
        places = torch.cumsum(mask, dim=1).type_as(mask) * mask + 1
        x = self.norm(self.words(ids) + self.places(places.long()) + self.kinds(ids * 0))
        x = self.layer(x, src_key_padding_mask=ids == 1)
        return torch.tanh(self.pooler(x[:, 0]))


class Vision(nn.Module):
    """ViT and Swin: patches by a convolution, a class token, a roll of windows, a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.places = nn.Parameter(torch.randn(1, 10, WIDTH) * 0.1)
        self.layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 64, batch_first=True)
        self.norm = nn.BatchNorm1d(WIDTH)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), dim=1) + self.places
        x = self.layer(x)
        windows = functional.pad(x[:, 1:].reshape(-1, 3, 3, WIDTH), (0, 0, 0, 1, 0, 1))
        windows = torch.roll(windows, shifts=(-1, -1), dims=(1, 2))
        return functional.normalize(self.norm(windows.mean((1, 2)) + x[:, 0]), dim=-1)


class Audio(nn.Module):
    """Whisper's front: convolutions of width 3, strides 1 and 2, then positions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(8, WIDTH, 3, padding=1), nn.Conv1d(WIDTH, 32, 3, 2, 1)
        self.register_buffer("places", torch.randn(LENGTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.gelu(self.second(functional.gelu(self.first(x))))
        return x.permute(0, 2, 1) + self.places


IDS = torch.tensor([[0, 5, 9, 44, 2, 7], [0, 8, 30, 2, 1, 1]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
IMAGE = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
SOUND = torch.randn(2, 8, 12, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("kind", "args", "ranges"),
    [
        (Decoder, (IDS, MASK), {"mask": (0, 1)}),
        (Encoder, (IDS,), {}),
        (Vision, (IMAGE,), {}),
        (Audio, (SOUND,), {}),
    ],
)
def test_a_model_computes_what_torch_does(
    kind: type[nn.Module], args: tuple[Tensor, ...], ranges: dict[str, tuple[int, int]]
) -> None:
    torch.manual_seed(4)
    module: Any = kind().eval()
    graph = export(module, args, ranges=ranges)
    program = compile(optimize(graph)[0])
    numbers = [part.numpy() for part in args]
    with torch.no_grad():
        wide = [part.double() if part.is_floating_point() else part for part in args]
        want = module.double()(*wide).numpy()
    scale = math.sqrt(float((want**2).mean()))
    np.testing.assert_allclose(interpret(graph, numbers, np.float64)[0], want, atol=1e-5 * scale)
    np.testing.assert_allclose(program(*numbers), want, rtol=1e-4, atol=2e-5 * scale)


def test_an_id_that_an_embedding_lacks_is_an_error() -> None:
    program = compile(export(Encoder().eval(), (IDS,)))
    with pytest.raises(ValueError, match=r"ids.*in \[0, 49\]"):
        program(IDS.numpy() * 2)
