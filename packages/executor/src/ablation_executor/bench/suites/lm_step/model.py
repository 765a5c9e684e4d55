"""A decoder-only language model of the usual kind: RMSNorm, rotary embeddings, SwiGLU, no biases.

B sequences of T tokens, d_model wide, H heads of head_dim. The attention is a function of its own,
(B, H, T, head_dim) -> the same, so that one model can be run with any of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .sizes import UNFUSED, ModelShape

# Causal attention of queries, keys and values, scores divided by sqrt(head_dim).
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]

NORM_EPS = 1e-5
ROPE_THETA = 10_000.0
# Where the normal distribution of the initial weights is cut off, in standard deviations.
CUT_OFF = 3.0
# Weights that are drawn at a time.
FILL_BLOCK = 1 << 18


def course_unfused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention written out, the softmax too: all (T, T) scores are in memory, several times."""
    length = q.shape[-2]
    visible = torch.ones((length, length), dtype=torch.bool, device=q.device).tril()
    scores = torch.einsum("...qd,...kd->...qk", q, k) / math.sqrt(q.shape[-1])
    scores = torch.where(visible, scores, float("-inf"))
    exponentials = torch.exp(scores - scores.amax(dim=-1, keepdim=True))
    probabilities = exponentials / exponentials.sum(dim=-1, keepdim=True)
    return torch.einsum("...qk,...kd->...qd", probabilities, v)


def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """PyTorch's scaled_dot_product_attention, with the backend that it chooses."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def ablation(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Flash attention of our kernels, forward and backward, in the type of q on the CPU."""
    from ....torch_ops import flash_attention

    return flash_attention(q, k, v, causal=True)


ATTENTIONS: Mapping[str, Attention] = {UNFUSED: course_unfused, "sdpa": sdpa, "ablation": ablation}


class Matrix(nn.Module):
    """A product with a matrix and no bias; the weights have no values before `initialize`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        return F.linear(x, self.weight)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis.

    Computed in float32 where x is shorter, and given back in the type of x: the sum of squares of
    a bfloat16 row would lose all but its first two digits. The weights have no values before
    `initialize`.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        inverse = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + NORM_EPS)
        return (wide * inverse * self.weight).to(x.dtype)


class RotaryEmbedding(nn.Module):
    """Turns each pair (x[2i], x[2i+1]) of position t by the angle t * theta^(-2i / head_dim).

    Su et al., RoFormer, 2021. A product of a query and a key then depends on the distance between
    their positions alone.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, head_dim: int, context: int) -> None:
        super().__init__()
        # float64 until the end: an angle of a thousand turns keeps no digits to spare in float32.
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
        positions = torch.arange(context, dtype=torch.float64)
        angles = torch.outer(positions, ROPE_THETA**-exponents)
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, T, head_dim) -> the same, for positions 0 to T - 1."""
        length = x.shape[-2]
        cos, sin = self.cos[:length], self.sin[:length]
        even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
        turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
        return turned.flatten(-2).to(x.dtype)


class CausalSelfAttention(nn.Module):
    """Projections to heads, rotation of queries and keys, attention, projection back."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.n_heads = shape.n_heads
        self.query = Matrix(shape.d_model, shape.d_model)
        self.key = Matrix(shape.d_model, shape.d_model)
        self.value = Matrix(shape.d_model, shape.d_model)
        self.out = Matrix(shape.d_model, shape.d_model)

    def forward(self, x: Tensor, rotary: RotaryEmbedding, attention: Attention) -> Tensor:
        """(B, T, d_model) -> (B, T, d_model)."""
        q, k, v = (self._split(project(x)) for project in (self.query, self.key, self.value))
        context = attention(rotary(q), rotary(k), v)
        return self.out(context.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, d_model) -> (B, H, T, head_dim)."""
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)


class SwiGLU(nn.Module):
    """w2(silu(w1 x) * w3 x): Shazeer, GLU variants improve transformer, 2020."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.w1 = Matrix(d_model, d_ff)
        self.w2 = Matrix(d_ff, d_model)
        self.w3 = Matrix(d_model, d_ff)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d_model) -> (B, T, d_model)."""
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.norm_attention = RMSNorm(shape.d_model)
        self.attention = CausalSelfAttention(shape)
        self.norm_feed_forward = RMSNorm(shape.d_model)
        self.feed_forward = SwiGLU(shape.d_model, shape.d_ff)

    def forward(self, x: Tensor, rotary: RotaryEmbedding, attention: Attention) -> Tensor:
        """(B, T, d_model) -> (B, T, d_model)."""
        x = x + self.attention(self.norm_attention(x), rotary, attention)
        return x + self.feed_forward(self.norm_feed_forward(x))


class LanguageModel(nn.Module):
    """Embedding, blocks, norm, and a head that shares nothing with the embedding."""

    def __init__(self, shape: ModelShape, attention: Attention) -> None:
        super().__init__()
        self.shape = shape
        self.attention = attention
        self.embedding = nn.Parameter(torch.empty(shape.vocab, shape.d_model))
        self.rotary = RotaryEmbedding(shape.head_dim, shape.context)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.n_layers))
        self.norm = RMSNorm(shape.d_model)
        self.head = Matrix(shape.d_model, shape.vocab)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T) -> logits (B, T, vocab)."""
        return self.decode(F.embedding(tokens, self.embedding))

    def decode(self, x: Tensor) -> Tensor:
        """Rows of the embedding (B, T, d_model) -> logits (B, T, vocab)."""
        for block in self.blocks:
            x = block(x, self.rotary, self.attention)
        return self.head(self.norm(x))

    def initialize(self, seed: int) -> None:
        """Fill the weights from a generator of this seed.

        Matrices are normal with variance 2 / (inputs + outputs) (Glorot and Bengio, 2010), the
        embedding with variance 1, both cut off at three standard deviations; norms are one.
        """
        generator = torch.Generator().manual_seed(seed)
        _fill(self.embedding, 1.0, generator)
        for module in self.modules():
            if isinstance(module, Matrix):
                _fill(module.weight, math.sqrt(2 / sum(module.weight.shape)), generator)
            elif isinstance(module, RMSNorm):
                nn.init.ones_(module.weight)


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats of logits (B, T, vocab) against targets (B, T), in float32 or, for
    a float64 model, in float64."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(wide.flatten(0, 1), targets.flatten())


def make_model(shape: ModelShape, attention: str, seed: int, device: str = "cpu") -> LanguageModel:
    """A model with its weights; the same on every device."""
    model = LanguageModel(shape, ATTENTIONS[attention])
    model.initialize(seed)
    model.to(device)
    return model


def make_batch(
    shape: ModelShape, batch: int, seed: int, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Tokens and targets, (batch, context) each: random tokens, and those one position later."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(shape.vocab, (batch, shape.context + 1), generator=generator)
    return drawn[:, :-1].to(device).contiguous(), drawn[:, 1:].to(device).contiguous()


def make_optimizer(model: nn.Module) -> Any:
    """AdamW as the suite times it; its state is made by the first step."""
    return torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)


def _fill(weight: Tensor, spread: float, generator: torch.Generator) -> None:
    """Normal numbers, those beyond the cut drawn again.

    On the CPU, so that they are the same on every device, and in blocks that stay in its cache.
    PyTorch's trunc_normal_ inverts the distribution's integral, which takes four times as long.
    """

    def draw(shape: Sequence[int]) -> Tensor:
        return torch.empty(shape).normal_(std=spread, generator=generator)

    with torch.no_grad():
        for block in weight.view(-1).split(FILL_BLOCK):
            drawn = draw(block.shape)
            while len(beyond := (drawn.abs() > CUT_OFF * spread).nonzero()):
                drawn[beyond] = draw(beyond.shape)
            block.copy_(drawn)
