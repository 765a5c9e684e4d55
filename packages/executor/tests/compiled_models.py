"""Models and comparisons for the tests of torch.compile(backend="ablation")."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ablation_executor import torch_backend
from ablation_executor.torch_backend import entry
from ablation_executor.torch_backend.cost import Costs

WIDTH, HEADS, SEQUENCE = 64, 4, 24


class Block(nn.Module):
    """A transformer block: attention and a feed-forward layer, each behind its norm."""

    def __init__(self, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(self.norm_1(x)).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in parts)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.down(functional.gelu(self.up(self.norm_2(x))))


class Layer(nn.Module):
    """A feed-forward layer behind its norm, added to what it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(functional.gelu(self.up(self.norm(x))))


class Function(nn.Module):
    """A function of a model of two layers and its inputs."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        self.a, self.b, self.qkv = Layer(), Layer(), nn.Linear(WIDTH, 3 * WIDTH)
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *args: Any) -> Any:
        return self.function(self, *args)


def blocks() -> nn.Module:
    """Two transformer blocks, all of whose ops run here."""
    return nn.Sequential(Block(), Block(causal=True)).eval()


def layers() -> nn.Module:
    """Two layers, all of whose ops run here."""
    return Function(lambda self, x: self.b(self.a(x))).eval()


def mixed() -> nn.Module:
    """Two layers with an op between them that PyTorch runs."""
    return Function(lambda self, x: self.b(self.a(x).sort(-1).values) + x).eval()


def x_of(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers; without a shape, those of one sequence."""
    return torch.randn(shape or (1, SEQUENCE, WIDTH), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def small_parts_run_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The models of tests are too small to gain; nothing of another test is left."""
    monkeypatch.setattr(entry, "costs", lambda: Costs(0.0, 3000.0))
    torch.manual_seed(0)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(module: nn.Module, **settings: Any) -> Any:
    """A module under the backend."""
    return torch.compile(module, backend="ablation", **settings)


def flat(result: Any) -> list[Any]:
    """The leaves of nested tuples, lists and dicts."""
    leaves: list[Any] = torch.utils._pytree.tree_leaves(result)
    return leaves


def check_same(got: Any, want: Any) -> None:
    """Same structure, types, strides and, up to the rounding of float32, values."""
    one, other = flat(got), flat(want)
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        if not isinstance(theirs, Tensor):
            assert mine == theirs
            continue
        assert mine.stride() == theirs.stride()
        assert mine.requires_grad == theirs.requires_grad
        assert mine.is_inference() == theirs.is_inference()
        largest = float(theirs.abs().max()) if theirs.is_floating_point() else 1.0
        atol = 1e-5 * max(1.0, largest)
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=atol, equal_nan=True)


def shared_memory(tensors: list[Tensor]) -> list[tuple[int, int]]:
    """The pairs of tensors that share memory."""
    memory = [tensor.untyped_storage().data_ptr() for tensor in tensors]
    return [(i, j) for i in range(len(memory)) for j in range(i) if memory[i] == memory[j]]


@dataclass
class Change:
    """What `torch_backend.report()` counted within a block."""

    calls_here: int = 0
    ops: int = 0
    ops_here: int = 0
    parts: int = 0
    programs: int = 0
    rebuilds: int = 0
    ops_eager: dict[str, int] = field(default_factory=dict)
    calls_eager: dict[str, int] = field(default_factory=dict)
    parts_eager: dict[str, int] = field(default_factory=dict)


@contextmanager
def counted() -> Iterator[Change]:
    """Count what the backend does within the block."""
    before, change = torch_backend.report(), Change()
    yield change
    after = torch_backend.report()
    for name in ("calls_here", "ops", "ops_here", "parts", "programs", "rebuilds"):
        setattr(change, name, getattr(after, name) - getattr(before, name))
    for name in ("ops_eager", "calls_eager", "parts_eager"):
        then, now = getattr(before, name), getattr(after, name)
        new = {reason: count - then.get(reason, 0) for reason, count in now.items()}
        setattr(change, name, {reason: count for reason, count in new.items() if count})
