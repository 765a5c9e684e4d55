"""Modules on NaN, infinity and huge numbers: what torch gives, with and without passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import ablation_kernels
from ablation_executor import ExportError, export, optimize
from ablation_executor.compiler import compile

NAN, INF, LOWEST = math.nan, math.inf, torch.finfo(torch.float32).min
ATTENTIONS = [info.name for info in ablation_kernels.op_table() if info.op == "attention"]
KEYS = 6


class Written(nn.Module):
    """A function of tensors as a module, with a weight of one number."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function
        self.number = nn.Parameter(torch.tensor(0.5))

    def forward(self, *args: Tensor) -> Tensor:
        return self.function(*args)


class Exported:
    """A function as exported and as rewritten, each run by every attention kernel it can take."""

    def __init__(self, function: Callable[..., Tensor], *args: Tensor, fires: str = "") -> None:
        self.module = Written(function).eval()
        graph = export(self.module, args)
        after, log = optimize(graph)
        assert not fires or log.fired(fires) >= 1, log
        self.programs = []
        for each in (graph, after):
            has_attention = any(node.op == "attention" for node in each.nodes)
            for kernel in ATTENTIONS if has_attention else [""]:
                kernels = {"attention": kernel} if kernel else {}
                self.programs.append((kernel, compile(each, kernels=kernels, threads=1)))

    def check(self, *args: Tensor) -> Any:
        """torch's output, which all programs give."""
        with torch.no_grad():
            want = self.module(*args).numpy()
        for kernel, program in self.programs:
            got, where = program(*args), f"{kernel}\n{program.graph}"
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5, err_msg=where)
        return want


@pytest.fixture(autouse=True)
def keep_thread_count() -> Iterator[None]:
    before = ablation_kernels.get_num_threads()
    yield
    ablation_kernels.set_num_threads(before)


def qkv(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 2, KEYS, 4, generator=generator) for _ in range(3)]


PADDING = torch.arange(KEYS) >= 4
CAUSAL = torch.ones(KEYS, KEYS).triu(1).bool()
#: The last query of a causal mask sees every key.
HIDDEN = pytest.mark.parametrize("hidden", [PADDING, CAUSAL])


def masked(hidden: Tensor, fill: float, *, added: bool = False) -> Callable[..., Tensor]:
    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = (q @ k.transpose(-2, -1)) * 0.5
        if added:
            scores = scores + torch.zeros(hidden.shape).masked_fill(hidden, fill)
        else:
            scores = scores.masked_fill(hidden, fill)
        return scores.softmax(-1) @ v

    return attention


@HIDDEN
def test_a_key_that_where_hides_may_hold_anything(hidden: Tensor) -> None:
    q, k, v = qkv()
    exported = Exported(masked(hidden, -INF), q, k, v, fires="fuse_attention")
    clean = exported.check(q, k, v)
    for garbage in (NAN, INF, -INF, 1e30):
        k[:, :, 4:] = garbage
        got = exported.check(q, k, v)
        np.testing.assert_array_equal(got[:, :, :4], clean[:, :, :4])


@pytest.mark.parametrize("fill", [-INF, LOWEST])
@HIDDEN
def test_a_key_that_addition_hides_is_seen_if_it_is_nan(hidden: Tensor, fill: float) -> None:
    q, k, v = qkv()
    exported = Exported(masked(hidden, fill, added=True), q, k, v, fires="fuse_attention")
    for garbage in (NAN, INF, -INF, 1e30):
        k[:, :, 5] = garbage
        assert np.isnan(exported.check(q, k, v)).all() == math.isnan(garbage)


@HIDDEN
def test_a_value_that_is_hidden_is_seen(hidden: Tensor) -> None:
    q, k, v = qkv()
    exported = Exported(masked(hidden, -INF), q, k, v, fires="fuse_attention")
    for garbage in (NAN, INF, -INF):
        v[:, :, 5, 2] = garbage
        got = exported.check(q, k, v)
        assert np.isnan(got[:, :, :5, 2]).all() and np.isfinite(got[..., 3]).all()


@pytest.mark.parametrize("fill", [NAN, LOWEST, -1e30, -1e4])
@pytest.mark.parametrize("added", [False, True])
@HIDDEN
def test_a_fill_is_the_number_that_it_is(hidden: Tensor, fill: float, added: bool) -> None:
    """Scores below the fill give way to the keys that it hides, and a row of it alone is even."""
    every_key = hidden.expand(KEYS, KEYS).clone()
    every_key[1] = True
    q, k, v = qkv(3)
    for mask in (hidden, every_key):
        exported = Exported(masked(mask, fill, added=added), q, k, v)
        for size in (1.0, 1e3, 1e15, 1e17):
            # Of one sign, so that no sum of scores depends on its order.
            signs = torch.tensor([-1.0, -1.0, -1.0, 1.0, 1.0, 1.0])[:, None]
            exported.check(signs * q.abs() * size, k.abs() * size, v)


def test_scores_that_all_overflow_are_no_key_to_see() -> None:
    q, k, v = qkv()
    exported = [
        Exported(masked(CAUSAL, fill), q, k, v, fires="fuse_attention") for fill in (-INF, LOWEST)
    ]
    q[:, :, 0], k[:] = -1e20, 1e20
    q[:, :, 1:] = 0.0
    assert np.isnan(exported[0].check(q, k, v)[:, :, 0]).all()
    assert np.isfinite(exported[1].check(q, k, v)[:, :, 0]).all()


@pytest.mark.parametrize("mask", ["causal", "bool", "float", "rows"])
def test_scaled_dot_product_attention_on_garbage(mask: str) -> None:
    q, k, v = qkv()
    keep = ~CAUSAL
    if mask == "rows":
        keep[2] = False
    masks = {"causal": None, "float": torch.zeros(KEYS, KEYS).masked_fill(~keep, -INF)}

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        given = masks.get(mask, keep)
        return functional.scaled_dot_product_attention(q, k, v, given, is_causal=given is None)

    exported = Exported(attention, q, k, v)
    for garbage in (NAN, INF):
        k[:, :, 5] = garbage
        got = exported.check(q, k, v)[:, :, 0]
        assert np.isfinite(got).all() if mask == "causal" else np.isnan(got).any()


SCALINGS: list[Callable[[Tensor, Tensor], Tensor]] = [
    lambda a, b: (a * 1e-3) @ b,
    lambda a, b: a @ (b / 1e3),
    lambda a, b: (a @ b) * 1e-3,
    lambda a, b: (a @ b) * 1e30,
    lambda a, b: (a @ b) * 1e-30,
    lambda a, b: (a @ b) / 1e-40,
    lambda a, b: (a @ b) / 1e38,
    lambda a, b: (a @ b) * 0.0,
    lambda a, b: (a @ b) / INF,
    lambda a, b: (a @ b) * 1e5 * 1e-5,
    lambda a, b: (a @ b) / 1e5 * 1e5,
    lambda a, b: (a @ b) * 1e20 * 1e20,
]


@pytest.mark.parametrize("scaling", range(len(SCALINGS)))
def test_a_factor_overflows_where_it_stands(scaling: int) -> None:
    a, b = torch.rand(3, 5) + 0.5, torch.rand(5, 4) + 0.5
    exported = Exported(SCALINGS[scaling], a, b)
    for size in (0.0, 1e-22, 1e-10, 1.0, 1e17, 1e19, 1e20, 1e22):
        exported.check(a * size, b * size)
    for special in (NAN, INF):
        exported.check(a * special, b)


class Norm(nn.Module):
    """An RMSNorm written out."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.rand(8))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


@pytest.mark.parametrize("eps", [-0.1, -1e30, NAN, 0.0, 1e-50, INF])
def test_a_written_norm_with_any_eps_runs(eps: float) -> None:
    module = Norm(eps).eval()
    x = torch.randn(4, 8) * torch.tensor([[1.0], [0.1], [1e-30], [1e30]])
    with torch.no_grad():
        want = module(x).numpy()
    graph = export(module, (x,))
    after, log = optimize(graph)
    assert log.fired("fuse_rms_norm") == (eps >= 0)
    for each in (graph, after):
        np.testing.assert_allclose(compile(each)(x), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("eps", [-1e-5, NAN])
def test_a_norm_whose_eps_no_kernel_has_is_refused(eps: float) -> None:
    for norm in (nn.LayerNorm(8, eps=eps), nn.RMSNorm(8, eps=eps)):
        with pytest.raises(ExportError, match=r"eps is (-1e-05|nan), expected a number"):
            export(nn.Sequential(norm).eval(), (torch.randn(2, 8),))


SPECIAL = torch.tensor([[NAN, INF, -INF, 1e30, -1e30, 1e-40, -0.0, 0.0, 1.0, -90.0]])
ELEMENTWISE: list[Callable[[Tensor], Tensor]] = [
    functional.relu,
    lambda x: functional.relu(x + torch.ones(10)),
    lambda x: functional.gelu(x, approximate="tanh"),
    functional.silu,
    lambda x: functional.silu(x) * x,
    lambda x: torch.where(torch.arange(10) < 3, torch.ones(10), x),
    lambda x: x.masked_fill(torch.arange(10) < 3, 2.0),
    lambda x: torch.stack((x, x * 2.0), dim=-1),
    lambda x: -x,
    lambda x: 1.0 - x * 3.0,
    lambda x: x.square(),
    lambda x: x[:, 3:].softmax(-1),
    lambda x: x[:, 5:].mean(-1),
]


@pytest.mark.parametrize("which", range(len(ELEMENTWISE)))
def test_elements_stay_with_themselves(which: int) -> None:
    Exported(ELEMENTWISE[which], SPECIAL).check(SPECIAL)


def test_constants_fold_to_what_their_kernels_give() -> None:
    """Infinity times 0 is NaN, and a step that overflows is not undone by the next."""
    rows = torch.tensor([[1e30, -1e30, 2e30, 0.0], [1.0, 2.0, INF, 4.0]])
    for function in (
        lambda x: x * functional.silu(rows) * (rows[1:] * 0.0),
        lambda x: x + functional.gelu(rows[:1]),
        lambda x: x + rows[:1] * 1e20 * 1e-20,
    ):
        Exported(function, torch.ones(2, 4)).check(torch.ones(2, 4))


# Norms --------------------------------------------------------------------------------------------

CHANNELS, BIAS = 6, torch.linspace(-1, 1, 6)
NORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "layer": lambda x, w: functional.layer_norm(x, (CHANNELS,), w, BIAS),
    "rms": lambda x, w: functional.rms_norm(x, (CHANNELS,), w, 1e-5),
    # Of memory in another order torch's kernel computes (x - mean) w.
    "batch": lambda x, w: functional.batch_norm(x.reshape(10, 6), BIAS, BIAS.abs() + 0.5, w, BIAS),
    "group": lambda x, w: functional.group_norm(x.mT, 2, w, BIAS).mT,
    "instance": lambda x, w: functional.instance_norm(x.mT, weight=w, bias=BIAS).mT,
}


@pytest.mark.parametrize("special", [NAN, INF, -INF, 0.0, -0.0, 1e-40, -1e30])
@pytest.mark.parametrize("norm", NORMS)
def test_a_weight_of_a_norm_may_be_special(norm: str, special: float) -> None:
    x = torch.randn(2, 5, CHANNELS, generator=torch.Generator().manual_seed(3))
    weight = torch.linspace(0.5, 1.5, CHANNELS)
    exported = Exported(NORMS[norm], x, weight)
    weight[2] = special
    if norm not in ("group", "instance") or not math.isinf(special):
        exported.check(x, weight)
        return
    # PyTorch adds x w and b - mean w, of which one may be inf and the other -inf; (x - mean) w is
    # infinite where x is not the mean.
    weight[2] = math.copysign(1.0, special)
    with torch.no_grad():
        want = exported.module(x, weight)
    want[..., 2] = (want[..., 2] - BIAS[2]) * INF
    weight[2] = special
    for _, program in exported.programs:
        np.testing.assert_allclose(program(x, weight), want, rtol=1e-4, atol=1e-5)
