"""Transformers of random parts: attention, norms, gates, rotations, stacks, ties, views, masks."""

from __future__ import annotations

from typing import Any

import torch
from random_attention import PADDED, Attention
from random_choices import Choices
from random_parts import NORMS, VIEWS, FeedForward, Norm, viewed
from torch import Tensor, nn
from torch.nn import functional

from ablation_executor.bench.suites.model.architectures.build import draw_weights

WORDS, PLACES = 23, 64


class Builtin(nn.Module):
    """torch.nn.MultiheadAttention as its users call it."""

    def __init__(self, choices: Choices, sizes: dict[str, int]) -> None:
        super().__init__()
        self.first = choices.pick("batch_first", True, False)
        self.weights = choices.pick("need_weights", False, True)
        bias = choices.pick("qkv_bias", True, False)
        self.inner = nn.MultiheadAttention(
            sizes["width"], sizes["heads"], bias=bias, batch_first=self.first,
            add_bias_kv=choices.often("bias_kv", False, True),
            add_zero_attn=choices.often("zero_attn", False, True),
        )  # fmt: skip
        self.mask = choices.pick("mask", "none", "causal", "added", "padding")
        seen = torch.ones(sizes["length"], sizes["keys"], dtype=torch.bool).tril()
        self.register_buffer("hidden", ~seen)

    def forward(self, x: Tensor, memory: Tensor, given: dict[str, Any]) -> Tensor:
        mask: Tensor | None = None
        if self.mask == "causal":
            mask = self.hidden
        elif self.mask == "added":
            mask = torch.zeros_like(self.hidden, dtype=x.dtype).masked_fill(self.hidden, -1e4)
        padding = ~given["mask"].bool() if self.mask == "padding" else None
        if not self.first:
            x, memory = x.transpose(0, 1), memory.transpose(0, 1)
        y: Tensor = self.inner(
            x, memory, memory, padding, need_weights=self.weights, attn_mask=mask
        )[0]
        return y if self.first else y.transpose(0, 1)


class Layer(nn.Module):
    """Attention, perhaps to a memory too, and a feed-forward layer, with norms around them."""

    def __init__(self, choices: Choices, sizes: dict[str, int]) -> None:
        super().__init__()
        width = sizes["width"]
        self.order = choices.pick("order", "pre", "post", "sandwich", "parallel", "bare")
        kind, eps = choices.pick("norm", *NORMS), choices.pick("eps", 1e-5, 1e-6, 0.1)
        self.norms = nn.ModuleList(Norm(kind, width, eps) for _ in range(5))
        own = {**sizes, "keys": sizes["length"]}
        may_be_builtin = sizes["heads"] * sizes["size"] == width
        is_builtin = may_be_builtin and choices.pick("builtin", False, False, False, True)
        kind_of = Builtin if is_builtin else Attention
        self.attention: nn.Module = kind_of(choices, own)
        self.cross: nn.Module | None = None
        if sizes["memory"]:
            other = {**sizes, "keys": sizes["memory"]}
            self.cross = Attention(choices.within("cross "), other, True)
        self.feed_forward = FeedForward(choices, width)
        self.residual = choices.pick("residual", "plain", "reversed", "scaled", "gamma", "none")
        self.gamma = nn.Parameter(torch.ones(width))
        self.view = choices.often("view", "none", *VIEWS[1:])

    def added(self, x: Tensor, y: Tensor) -> Tensor:
        if self.residual == "none":
            return y
        if self.residual == "scaled":
            return torch.add(x, y, alpha=0.3)
        if self.residual == "gamma":
            return x + self.gamma * y
        return x + y if self.residual == "plain" else y + x

    def step(self, x: Tensor, norm: int, function: Any) -> Tensor:
        if self.order == "bare":
            return self.added(x, function(x))
        if self.order == "post":
            normed: Tensor = self.norms[norm](self.added(x, function(x)))
            return normed
        y = function(self.norms[norm](x))
        return self.added(x, self.norms[norm + 1](y) if self.order == "sandwich" else y)

    def forward(self, x: Tensor, given: dict[str, Any]) -> Tensor:
        if self.order == "parallel":
            h = self.norms[0](x)
            return self.added(x, self.attention(h, h, given) + self.feed_forward(h))
        x = self.step(x, 0, lambda h: self.attention(viewed(self.view, h), h, given))
        memory = given.get("memory")
        if self.cross is not None and memory is not None:
            cross = self.cross
            x = self.step(x, 3, lambda h: cross(h, memory, {}))
        x = viewed(self.view, x)
        return self.step(x, 2, self.feed_forward)


class Transformer(nn.Module):
    """A model of random parts; `inputs(seed)` are arguments of a call, `names` those of forward."""

    def __init__(self, choices: Choices) -> None:
        super().__init__()
        self.choices = choices
        torch.manual_seed(choices.seed)
        pick = choices.pick
        heads, size = pick("heads", 2, 1, 3, 4), pick("size", 8, 2, 4, 16)
        shared = pick("shared_heads", *(n for n in range(heads, 0, -1) if heads % n == 0))
        value = choices.often("value_size", size, 2 * size)
        self.sizes = {
            "batch": pick("batch", 1, 2, 3),
            "length": pick("length", 6, 1, 2, 5, 9, 17),
            "heads": heads,
            "shared": shared,
            "size": size,
            "value": value,
            "width": heads * size + choices.often("wider", 0, 4),
            "memory": choices.often("memory", 0, 0, 0, 7),
        }
        width = self.sizes["width"]
        self.is_language = pick("input", "numbers", "ids") == "ids"
        self.words = nn.Embedding(WORDS, width)
        self.places = nn.Parameter(torch.randn(PLACES, width))
        self.positions = pick("positions", "none", "parameter", "embedding")
        layers = [Layer(choices, self.sizes) for _ in range(pick("layers", 1, 1, 1, 2))]
        times = pick("times", 1, 1, 1, 1, 2)
        self.layers = nn.ModuleList(layers * times)
        self.norm = Norm(choices.made["norm"], width)
        self.head = nn.Linear(width, WORDS, bias=pick("head_bias", True, False))
        if choices.often("tied_words", False, True):
            self.head.weight = self.words.weight
        heads_of = ("none", "words", "last", "mean", "first", "cap", "log_softmax", "several")
        self.end = pick("end", *heads_of)
        self.is_strided = choices.often("strides", False, True)
        draw_weights(self)
        self.eval()

    @property
    def mask(self) -> str:
        """The mask that is an input, or what no input is needed for."""
        return self.choices.made["mask"]

    def inputs(self, seed: int) -> dict[str, Tensor]:
        """Arguments by name; equal seeds give equal numbers."""
        generator = torch.Generator().manual_seed(seed)
        batch, length, width = (self.sizes[name] for name in ("batch", "length", "width"))

        def normal(*shape: int) -> Tensor:
            if not self.is_strided or len(shape) < 3:
                return torch.randn(shape, generator=generator)
            return torch.randn(*shape[:-2], shape[-1], shape[-2], generator=generator).mT

        inputs: dict[str, Tensor] = {"x": normal(batch, length, width)}
        if self.is_language:
            inputs["x"] = torch.randint(WORDS, (batch, length), generator=generator)
        if self.sizes["memory"]:
            inputs["memory"] = normal(batch, self.sizes["memory"], width)
        if self.mask in PADDED:
            padding = torch.rand(batch, length, generator=generator) < 0.7
            padding[:, 0] = True
            inputs["mask"] = (
                padding if self.choices.made.get("mask_rank") == "2" else padding.long()
            )
        elif self.mask == "given":
            seen = torch.rand(batch, 1, length, length, generator=generator) < 0.6
            seen[..., 0] = True
            inputs["mask"] = seen
        elif self.mask == "given_added":
            inputs["mask"] = normal(batch, 1, length, length)
        if self.choices.made.get("tables") == "indexed":
            inputs["places"] = torch.randint(PLACES, (batch, length), generator=generator)
        return inputs

    @property
    def ranges(self) -> dict[str, tuple[int, int]]:
        """The ranges of integer inputs that no embedding looks up."""
        ranges = {"mask": (0, 1), "places": (0, PLACES - 1)}
        inputs = self.inputs(0)
        return {k: v for k, v in ranges.items() if k in inputs and inputs[k].dtype == torch.int64}

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        mask: Tensor | None = None,
        places: Tensor | None = None,
    ) -> Any:
        x = self.words(x) if self.is_language else x
        length = x.shape[1]
        if self.positions == "parameter":
            x = x + self.places[:length]
        elif self.positions == "embedding":
            x = x + functional.embedding(torch.arange(length), self.places)[None]
        for layer in self.layers:
            x = layer(x, {"memory": memory, "mask": mask, "places": places})
        return self.ended(x)

    def ended(self, x: Tensor) -> Any:
        if self.end == "none":
            return x
        if self.end == "last":
            return self.head(self.norm(x)[:, -1])
        if self.end == "mean":
            return torch.tanh(self.norm(x).mean(1))
        if self.end == "first":
            return self.head(self.norm(x[:, 0]))
        if self.end == "several":
            return {"hidden": x, "words": self.head(self.norm(x)), "none": None}
        logits = self.head(self.norm(x))
        if self.end == "cap":
            return 30.0 * torch.tanh(logits / 30.0)
        return logits.log_softmax(-1) if self.end == "log_softmax" else logits
