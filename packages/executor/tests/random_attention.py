"""Attention in the spellings of models: projections, rotations, shared heads, masks, softmax."""

from __future__ import annotations

import math
from typing import Any

import torch
from random_choices import Choices
from random_parts import Norm, turned
from torch import Tensor, nn
from torch.nn import functional

#: Forms of one product for q, k and v whose heads are alike.
EQUAL = ("chunk", "split", "unbind", "select", "neox", "bloom", "addmm")
ANY = ("linears", "merged", "einsum", "falcon")
SEEN = ("causal", "window", "chunked", "prefix", "random")
PADDED = ("padding", "padding_causal")


FORMS = (
    *("matmul", "sdpa", "scaled_q", "both", "einsum", "bmm", "over_keys", "written"),
    *("sinks", "soft_cap"),
)


class Masks(nn.Module):
    """What each query sees: a condition that broadcasts to (B, H, S, T), or None."""

    def __init__(self, choices: Choices, queries: int, keys: int, is_cross: bool) -> None:
        super().__init__()
        inputs = () if is_cross else (*PADDED, "given", "given_added")
        self.kind = choices.often("mask", "none", *SEEN, *inputs)
        self.inline = choices.pick("mask_made", "buffer", "forward") == "forward"
        self.rank = choices.pick("mask_rank", 4, 2)
        self.queries, self.keys = queries, keys
        self.window = choices.pick("window", 3, 1, 8)
        self.register_buffer("seen", self.made(), persistent=False)

    def made(self) -> Tensor:
        """The constant part (S, T)."""
        q, k = torch.arange(self.queries)[:, None], torch.arange(self.keys)
        seen = {
            "causal": k <= q,
            "padding_causal": k <= q,
            "window": (k <= q) & (q - k < self.window),
            "chunked": (k <= q) & (q // self.window == k // self.window),
            "prefix": (k <= q) | (k < self.window),
            "random": (q * 7 + k * 5) % 3 != 1,
        }.get(self.kind, torch.ones(self.queries, self.keys, dtype=torch.bool) & (k >= 0))
        return seen | (k == 0)  # each query sees a key

    def forward(self, given: Tensor | None) -> Tensor | None:
        if self.kind == "none":
            return None
        if self.kind.startswith("given"):
            return given
        seen = self.made() if self.inline else self.seen
        if self.kind in PADDED:
            assert given is not None
            padding = given.bool()[:, None, None, :]
            return padding if self.kind == "padding" else padding & seen
        return seen[None, None] if self.rank == 4 else seen


class Projections(nn.Module):
    """q (B, S, H, D), k (B, T, G, D) and v (B, T, G, E) of one input or of two."""

    def __init__(self, choices: Choices, sizes: dict[str, int], is_cross: bool) -> None:
        super().__init__()
        self.heads, self.shared = sizes["heads"], sizes["shared"]
        self.size, self.value = sizes["size"], sizes["value"]
        width, bias = sizes["width"], choices.pick("qkv_bias", True, False)
        equal = self.heads == self.shared and self.size == self.value
        falcon = ("falcon",) if self.size == self.value else ()
        forms = ANY[:1] if is_cross else (*ANY[:3], *falcon, *(EQUAL if equal else ()))
        self.form = choices.pick("projections", *forms)
        self.widths = (
            self.heads * self.size,
            self.shared * self.size,
            self.shared * self.value,
        )
        if self.form == "linears":
            key_bias = bias and choices.pick("k_bias", True, False)
            biases = (bias, key_bias, bias)
            self.parts = nn.ModuleList(
                nn.Linear(width, own, bias=has)
                for own, has in zip(self.widths, biases, strict=True)
            )
            if equal and choices.often("tied_qk", False, True):
                self.parts[1] = self.parts[0]
        elif self.form == "einsum":
            self.weights = nn.ParameterList(
                nn.Parameter(torch.randn(width, heads, size) / math.sqrt(width))
                for heads, size in (
                    (self.heads, self.size),
                    (self.shared, self.size),
                    (self.shared, self.value),
                )
            )
        elif self.form == "addmm":
            self.weight = nn.Parameter(torch.randn(width, sum(self.widths)) / math.sqrt(width))
            self.bias = nn.Parameter(torch.randn(sum(self.widths)) * 0.1)
        else:
            self.all = nn.Linear(width, sum(self.widths), bias=bias)

    def forward(self, x: Tensor, memory: Tensor) -> list[Tensor]:
        if self.form == "linears":
            parts = [part(y) for part, y in zip(self.parts, (x, memory, memory), strict=True)]
        elif self.form == "einsum":
            return [torch.einsum("bsw,whd->bshd", x, weight) for weight in self.weights]
        else:
            parts = self.of_one(x)
        heads = (self.heads, self.shared, self.shared)
        return [part.unflatten(-1, (h, -1)) if part.dim() == 3 else part
                for part, h in zip(parts, heads, strict=True)]  # fmt: skip

    def of_one(self, x: Tensor) -> list[Tensor]:
        batch, length, width = x.shape
        if self.form == "addmm":
            flat = torch.addmm(self.bias, x.reshape(-1, width), self.weight)
            return list(flat.view(batch, length, -1).split(self.widths[0], dim=2))
        y = self.all(x)
        if self.form == "chunk":
            return list(y.chunk(3, dim=-1))
        if self.form == "split":
            return list(y.split(self.widths[0], dim=-1))
        if self.form == "merged":
            return list(y.split(self.widths, dim=-1))
        if self.form == "falcon":
            y = y.view(batch, length, self.shared, -1, self.size)
            q = y[..., :-2, :].reshape(batch, length, self.heads, self.size)
            return [q, y[..., -2, :], y[..., -1, :]]
        if self.form == "neox":
            return list(y.view(batch, length, self.heads, -1).chunk(3, dim=-1))
        if self.form == "bloom":
            y = y.view(batch, length, self.heads, 3, self.size)
            return [y[..., 0, :], y[..., 1, :], y[..., 2, :]]
        y = y.reshape(batch, length, 3, self.heads, self.size)
        if self.form == "select":
            return [y[:, :, 0], y[:, :, 1], y[:, :, 2]]
        return [part.transpose(1, 2) for part in y.permute(2, 0, 3, 1, 4).unbind(0)]


class Attention(nn.Module):
    """Attention of x (B, S, W) to itself or to a memory (B, T, W)."""

    def __init__(self, choices: Choices, sizes: dict[str, int], is_cross: bool = False) -> None:
        super().__init__()
        self.sizes = sizes
        heads, shared, size = sizes["heads"], sizes["shared"], sizes["size"]
        self.projections = Projections(choices, sizes, is_cross)
        self.qk_norm = choices.often("qk_norm", "none", "rms", "gemma", "layer", "normalize")
        if self.qk_norm not in ("none", "normalize"):
            self.q_norm, self.k_norm = (Norm(self.qk_norm, size) for _ in "qk")
        rotations = ("half", "split", "pairs", "every_two", "partial") * 2 + ("complex",)
        self.rotary = "none" if is_cross else choices.often("rotary", "none", *rotations)
        self.tables = choices.pick("tables", "buffer", "computed", "indexed")
        self.turned = 2 * math.ceil(size / 4) if self.rotary == "partial" else size
        frequencies = 100.0 ** (-torch.arange(0, self.turned, 2) / self.turned)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.register_buffer("angles", torch.arange(64)[:, None] * frequencies, persistent=False)
        shared_forms = ("groups", "gqa") if heads != shared else ()
        self.form = choices.pick("attention", *FORMS, *shared_forms)
        self.repeat = choices.pick("repeat", "expand", "repeat_interleave", "stack")
        self.masks = Masks(choices, sizes["length"], sizes["keys"], is_cross)
        self.apply_mask = choices.pick("masked", "added", "masked_fill", "where", "multiplied")
        self.fill = choices.pick("fill", -math.inf, "lowest", -1e4)
        self.bias = choices.often("bias", "none", "alibi", "relative")
        self.slopes = nn.Parameter(torch.rand(heads)) if self.bias == "alibi" else None
        self.relative = nn.Embedding(8, heads) if self.bias == "relative" else None
        self.divides = choices.pick("scale", "multiplied", "divided") == "divided"
        self.scale = choices.pick("factor", 1, 0.5, 2) / math.sqrt(size)
        self.casts = choices.often("softmax_type", "own", "float32") != "own"
        self.sink = nn.Parameter(torch.randn(heads)) if self.form == "sinks" else None
        self.join = choices.pick("join", "reshape", "contiguous", "flatten", "einsum")
        self.out = nn.Linear(heads * sizes["value"], sizes["width"], bias=choices.pick(
            "out_bias", True, False))  # fmt: skip

    def rotated(self, q: Tensor, k: Tensor, places: Tensor | None) -> tuple[Tensor, Tensor]:
        """q and k (B, S, H, D) turned by their positions."""
        length = q.shape[1]
        if self.tables == "computed":
            angles = torch.arange(length, device=q.device).to(q.dtype)[:, None] * self.frequencies
        else:
            angles = self.angles[:length] if places is None else self.angles[places]
        angles = angles.unsqueeze(-2)
        form = "half" if self.rotary == "partial" else self.rotary
        if self.turned == q.shape[-1]:
            return turned(form, q, angles), turned(form, k, angles)
        return tuple(
            torch.cat((turned(form, y[..., : self.turned], angles), y[..., self.turned :]), -1)
            for y in (q, k)
        )

    def repeated(self, x: Tensor) -> Tensor:
        """Shared heads (B, G, T, D) for all query heads."""
        batch, shared, length, size = x.shape
        times = self.sizes["heads"] // shared
        if times == 1:
            return x
        if self.repeat == "expand":
            x = x[:, :, None].expand(batch, shared, times, length, size)
            return x.reshape(batch, shared * times, length, size)
        if self.repeat == "stack":
            return torch.stack([x] * times, dim=2).flatten(1, 2)
        return x.repeat_interleave(times, dim=1)

    def added_bias(self, dtype: torch.dtype) -> Tensor | None:
        """(H, S, T), or (H, 1, T) that broadcasts to it."""
        queries, keys = self.sizes["length"], self.sizes["keys"]
        if self.slopes is not None:
            return self.slopes[:, None, None] * torch.arange(keys).to(dtype)
        if self.relative is None:
            return None
        apart = torch.arange(keys) - torch.arange(queries)[:, None]
        bias: Tensor = self.relative(apart.clamp(-4, 3) + 4).permute(2, 0, 1)
        return bias

    def lowest(self, dtype: torch.dtype) -> float:
        return torch.finfo(dtype).min if self.fill == "lowest" else float(self.fill)

    def mask_scores(self, scores: Tensor, seen: Tensor | None) -> Tensor:
        if seen is None:
            return scores
        if seen.is_floating_point():
            return scores + seen
        low = self.lowest(scores.dtype)
        if self.apply_mask == "masked_fill":
            return scores.masked_fill(~seen, low)
        if self.apply_mask == "where":
            return torch.where(seen, scores, torch.tensor(low, dtype=scores.dtype))
        if self.apply_mask == "multiplied" and math.isfinite(low):
            return scores + (1.0 - seen.to(scores.dtype)) * low
        return scores + torch.zeros_like(seen, dtype=scores.dtype).masked_fill(~seen, low)

    def softmax(self, scores: Tensor) -> Tensor:
        if self.form == "written":
            scores = (scores - scores.amax(-1, keepdim=True)).exp()
            return scores / scores.sum(-1, keepdim=True)
        if self.sink is not None:
            column = self.sink[:, None, None].expand(*scores.shape[:3], 1)
            return torch.cat((scores, column), -1).softmax(-1)[..., :-1]
        if self.casts:
            return functional.softmax(scores, dim=-1, dtype=torch.float32).to(scores.dtype)
        return functional.dropout(scores.softmax(-1), 0.1, self.training)

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        """(B, H, S, T), scaled."""
        if self.form == "scaled_q":
            return (q * self.scale) @ k.transpose(-1, -2)
        if self.form == "both":
            return (q * self.scale**0.5) @ (k * self.scale**0.5).mT
        if self.form == "einsum":
            scores = torch.einsum("bhqd,bhkd->bhqk", q, k)
        elif self.form == "over_keys":
            scores = (k @ q.transpose(2, 3)).transpose(2, 3)
        else:
            scores = torch.matmul(q, k.transpose(2, 3))
        scores = scores / (1 / self.scale) if self.divides else scores * self.scale
        return 5.0 * torch.tanh(scores / 5.0) if self.form == "soft_cap" else scores

    def flat(self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None) -> Tensor:
        """By products over (B H), as Bloom's."""
        shape = (*q.shape[:3], k.shape[2])
        bias = self.added_bias(q.dtype)
        start = q.new_zeros(()) if bias is None else bias.expand(shape).flatten(0, 1)
        start = start.expand(shape[0] * shape[1], *shape[2:])
        q, k, v = q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)
        scores = torch.baddbmm(start, q, k.transpose(1, 2), beta=1.0, alpha=self.scale)
        weights = self.softmax(self.mask_scores(scores.view(shape), seen))
        return torch.bmm(weights.flatten(0, 1), v).view(*shape[:3], -1)

    def fused(self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None) -> Tensor:
        """By scaled_dot_product_attention."""
        bias = self.added_bias(q.dtype)
        causal = self.masks.kind == "causal" and bias is None and self.apply_mask == "added"
        mask = None if causal else seen
        if bias is not None:
            mask = self.mask_scores(bias[None].expand(*q.shape[:3], k.shape[2]), seen)
        return functional.scaled_dot_product_attention(
            q, k, v, mask, is_causal=causal, scale=self.scale, enable_gqa=self.form == "gqa"
        )

    def grouped(self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None) -> Tensor:
        """Queries of a shared head as an axis of their own."""
        q5 = q.unflatten(1, (k.shape[1], -1))
        scores = (q5 @ k[:, :, None].transpose(-1, -2)).flatten(1, 2) * self.scale
        bias = self.added_bias(q.dtype)
        scores = scores if bias is None else scores + bias
        weights = self.softmax(self.mask_scores(scores, seen)).unflatten(1, (k.shape[1], -1))
        return (weights @ v[:, :, None]).flatten(1, 2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None) -> Tensor:
        """(B, H, S, D), (B, G, T, D), (B, G, T, E) -> (B, H, S, E)."""
        if self.form == "groups":
            return self.grouped(q, k, v, seen)
        if self.form != "gqa":
            k, v = self.repeated(k), self.repeated(v)
        if self.form in ("sdpa", "gqa"):
            return self.fused(q, k, v, seen)
        if self.form == "bmm":
            return self.flat(q, k, v, seen)
        scores = self.scores(q, k)
        bias = self.added_bias(q.dtype)
        scores = scores if bias is None else scores + bias
        weights = self.softmax(self.mask_scores(scores, seen))
        if self.form == "einsum":
            return torch.einsum("bhqk,bhkd->bhqd", weights, v)
        return weights @ v

    def forward(self, x: Tensor, memory: Tensor, given: dict[str, Any]) -> Tensor:
        q, k, v = self.projections(x, memory)
        if self.qk_norm == "normalize":
            q, k = (3.0 * functional.normalize(part, dim=-1) for part in (q, k))
        elif self.qk_norm != "none":
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rotary != "none":
            q, k = self.rotated(q, k, given.get("places"))
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        y = self.attend(q, k, v, self.masks(given.get("mask")))
        return self.out(self.joined(y))

    def joined(self, y: Tensor) -> Tensor:
        """(B, H, S, E) -> (B, S, H E)."""
        if self.join == "einsum":
            return torch.einsum("bhse->bshe", y).flatten(2)
        if self.join == "flatten":
            return y.permute(0, 2, 1, 3).flatten(-2)
        y = y.transpose(1, 2)
        if self.join == "reshape":
            return y.reshape(*y.shape[:2], -1)
        return y.contiguous().view(y.shape[0], y.shape[1], -1)
