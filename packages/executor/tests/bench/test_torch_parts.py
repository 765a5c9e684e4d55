"""The part of the breakdown that each op of a traced PyTorch module belongs to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ablation_executor.bench.runtimes.torch_eager import TorchRunner
from ablation_executor.bench.suites.block.configs import Config
from ablation_executor.bench.suites.block.models import make_module
from ablation_executor.bench.suites.block.weights import make_weights
from ablation_executor.bench.timing import profile_parts

WIDTH, HEADS, SEQUENCE = 8, 2, 5


def parts(module: nn.Module, *inputs: Tensor) -> list[tuple[str, str]] | None:
    """Op and category of each timed call; None where there is no breakdown."""
    with torch.inference_mode():
        runner = TorchRunner(module.eval(), inputs or (torch.randn(1, SEQUENCE, WIDTH),))
        profile = runner.profile(2)
    if profile is None:
        assert runner.facts() == {}
        return None
    assert runner.facts()["n_calls"] == len(profile.ops) == len(profile.times_ns[0])
    sums = profile_parts(profile)
    assert np.min(sums["dispatch"]) > 0
    return [(op["op"], op["category"]) for op in profile.ops]


def block(kind: str) -> list[tuple[str, str]]:
    """What the breakdown of the benchmark's block is."""
    movement = [("view", "movement"), ("transpose", "movement")]
    attention = {
        "manual": [
            ("transpose", "movement"),
            *((op, "attention") for op in ("matmul", "truediv", "add", "softmax", "matmul")),
        ],
        "sdpa": [("scaled_dot_product_attention", "attention")],
    }[kind]
    return [
        ("LayerNorm", "layer_norm"),
        *[("Linear", "linear"), *movement] * 3,
        *attention,
        *[("transpose", "movement"), ("reshape", "movement"), ("Linear", "linear")],
        *[("add", "element_wise"), ("LayerNorm", "layer_norm"), ("Linear", "linear")],
        *[("relu", "element_wise"), ("Linear", "linear"), ("add", "element_wise")],
    ]


@pytest.mark.parametrize("kind", ["manual", "sdpa"])
def test_the_block(kind: str) -> None:
    config = Config("block", WIDTH, HEADS, SEQUENCE, causal=True)
    module = make_module(config, make_weights(config, 0), kind)
    assert parts(module, torch.randn(1, SEQUENCE, WIDTH)) == block(kind)


class RootMeanSquare(nn.Module):
    """A norm that is written out, by no name of a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class LlamaRMSNorm(RootMeanSquare):
    """The same under a name that says what it is."""


class LayerNorm(nn.LayerNorm):
    """A norm by its function, as timm's."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class Block(nn.Module):
    """timm's block: one product for q, k and v, and functions where the benchmark's has modules."""

    def __init__(self, norm: type[nn.Module], is_fused: bool, activation: Any) -> None:
        super().__init__()
        sizes = () if issubclass(norm, RootMeanSquare) else (WIDTH,)
        self.norm_1, self.norm_2 = norm(*sizes), norm(*sizes)
        self.is_fused, self.activation = is_fused, activation
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.dropout = nn.Dropout(0.1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.is_fused:
            return functional.scaled_dot_product_attention(q, k, v)
        scores = (q * 0.5) @ k.transpose(-2, -1)
        return self.dropout(scores.softmax(dim=-1)) @ v

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        y = self.qkv(self.norm_1(x)).reshape(batch, length, 3, HEADS, width // HEADS)
        q, k, v = y.permute(2, 0, 3, 1, 4).unbind(0)
        y = self.attend(q, k, v).transpose(1, 2).reshape(batch, length, width)
        x = x + functional.linear(y, self.out.weight, self.out.bias)
        y = self.activation(functional.linear(self.norm_2(x), self.up.weight, self.up.bias))
        return x + self.down(y)


NORMS: dict[type[nn.Module], list[str]] = {
    LayerNorm: ["layer_norm"],
    nn.LayerNorm: ["LayerNorm"],
    nn.RMSNorm: ["RMSNorm"],
    LlamaRMSNorm: ["pow", "mean", "add", "rsqrt", "mul", "mul"],
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", [functional.gelu, nn.GELU(), torch.tanh, functional.silu])
def test_functions_have_the_part_of_their_modules(norm: Any, activation: Any) -> None:
    names = NORMS[norm]
    found = parts(Block(norm, True, activation))
    assert found is not None
    assert [op for op, category in found if category == "layer_norm"] == names * 2
    assert [op for op, category in found if category == "linear"] == [
        *("Linear", "linear", "linear", "Linear")
    ]
    attention = [op for op, category in found if category == "attention"]
    assert attention == ["scaled_dot_product_attention"]
    assert [op for op, category in found if category == "element_wise"][::2] == ["add", "add"]
    assert "shape" not in [op for op, _ in found] and "getattr" not in [op for op, _ in found]


def test_attention_is_what_stands_between_its_products() -> None:
    found = parts(Block(LayerNorm, False, functional.gelu))
    assert found is not None
    attention = [op for op, category in found if category == "attention"]
    assert attention == ["matmul", "softmax", "Dropout", "matmul"]
    element_wise = [op for op, category in found if category == "element_wise"]
    assert element_wise == ["mul", "add", "gelu", "add"]


class Masked(nn.Module):
    """A module with an argument that is usually left out, and one with any number of them."""

    def forward(self, x: Tensor, mask: Tensor | None = None, *others: Tensor) -> Tensor:
        x = x.relu() if mask is None else x + mask
        return sum(others, start=x)


@pytest.mark.parametrize(("count", "ops"), [(1, ["relu"]), (2, ["add"]), (4, ["add"] * 3)])
def test_arguments_that_are_left_out_have_their_defaults(count: int, ops: list[str]) -> None:
    found = parts(Masked(), *[torch.randn(2, 3)] * count)
    assert found == [(op, "element_wise") for op in ops]


class Function(nn.Module):
    """A function of the input and a parameter."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.randn(WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight)


ADDMM = ("addmm", "linear")


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x, w: x @ w.t(), [("t", "movement"), ("matmul", "linear")]),
        (lambda x, w: torch.addmm(x[0], x[0], w), [*[("getitem", "movement")] * 2, ADDMM]),
        (lambda x, w: torch.einsum("bsw,vw->bsv", x, w), [("einsum", "linear")]),
        (lambda x, w: x * w[0], [("getitem", "movement"), ("mul", "element_wise")]),
        (lambda x, w: functional.softmax(x, -1), [("softmax", "element_wise")]),
        (lambda x, w: x.add_(1).relu(), [("add_", "element_wise"), ("relu", "element_wise")]),
        (lambda x, w: functional.rms_norm(x, (WIDTH,)), [("rms_norm", "layer_norm")]),
        (
            lambda x, w: functional.conv1d(x.mT, w[..., None]),
            [("getattr", "movement"), ("getitem", "movement"), ("conv1d", "linear")],
        ),
        (
            lambda x, w: torch.bmm(torch.bmm(x, x.mT).softmax(-1), x),
            [("getattr", "movement"), *((n, "attention") for n in ("bmm", "softmax", "bmm"))],
        ),
    ],
)
def test_ops_by_their_operands(function: Any, expected: list[tuple[str, str]]) -> None:
    found = parts(Function(function))
    assert found is not None
    assert sorted(found) == sorted(expected)


def of_the_user(x: Tensor) -> Tensor:
    """A function that no one but its author knows."""
    return x * 2


torch.fx.wrap("of_the_user")


UNKNOWN: dict[str, Callable[[], nn.Module]] = {
    "an encoder layer": lambda: nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True),
    "a module of several parts": lambda: nn.Sequential(
        nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True)
    ),
    "a function of the user": lambda: Function(lambda x, w: of_the_user(x)),
    "a norm without a name": lambda: Block(RootMeanSquare, True, functional.gelu),
    "a product of activations": lambda: Function(lambda x, w: x @ x.mT @ x),
    "a branch": lambda: Function(lambda x, w: x if x.sum() > 0 else -x),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_cannot_be_told_has_no_breakdown(name: str) -> None:
    """No time is written as 0 that is not known."""
    assert parts(UNKNOWN[name]()) is None
