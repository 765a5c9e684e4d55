"""`ablation_executor.compare`: figures, what is left of the caller's state, and what is refused."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._inductor.config
from torch import Tensor, nn

import ablation_kernels
from ablation_executor import compare, optimize
from ablation_executor.bench import in_process
from ablation_executor.bench.compared import Compared

SHORT_S = 0.01


def encoder() -> nn.Module:
    torch.manual_seed(0)
    return nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True).eval()


X = torch.ones(1, 4, 16)


class WithWeights(nn.Module):
    """Attention whose weights are a result, too, and a bias that is given by name."""

    def forward(self, q: Tensor, bias: Tensor) -> dict[str, Tensor]:
        weights = torch.softmax(q @ q.transpose(-1, -2) + bias, dim=-1)
        return {"output": weights @ q, "weights": weights}


class Largest(nn.Module):
    """A call outside the op set."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.topk(x, 2).values


def text_of(result: Compared) -> str:
    text = str(result)
    assert "```" in result._repr_markdown_() and text
    return text


def test_times_ratios_errors_and_parts() -> None:
    result = compare(encoder(), X, threads=1, time_s=SHORT_S)
    assert list(result.variants) == ["torch-eager", "default"]
    assert (result.threads, result.rounds) == (1, 6) and result.floor is not None
    eager, ours = result.variants.values()
    for variant in (eager, ours):
        assert variant.status == "ok" and variant.time_ns is not None
        assert variant.time_ns.low <= variant.time_ns.value <= variant.time_ns.high
        assert variant.error is not None and variant.limit is not None
        assert 0 < variant.error <= variant.limit
    assert ours.parts_ns["linear"] > 0 and ours.parts_ns["total"] > 0
    assert not eager.parts_ns
    assert eager.ratio is None and ours.ratio is not None
    assert ours.ratio.low <= ours.ratio.value <= ours.ratio.high
    text = text_of(result)
    told = "PyTorch eager: no parts, since torch.fx cannot trace the module"
    for word in ("Ours", "1 thread", "layer norm", "dispatch", "No rewrite was refused", told):
        assert word in text


def test_the_parts_of_a_module_that_can_be_traced() -> None:
    layers = nn.Sequential(nn.Linear(8, 8), nn.ReLU()).eval()
    eager = compare(layers, torch.ones(2, 8), threads=1, time_s=SHORT_S).variants["torch-eager"]
    assert eager.parts_ns["linear"] > 0 and eager.parts_ns["element_wise"] > 0


def test_the_state_of_the_caller_is_kept() -> None:
    module, before = encoder(), ablation_kernels.get_num_threads()
    weights = {name: part.clone() for name, part in module.state_dict().items()}
    torch.set_num_threads(2)
    compare(module, (X,), threads=1, time_s=SHORT_S)
    assert torch.get_num_threads() == 2 and ablation_kernels.get_num_threads() == before
    assert gc.isenabled() and torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert all(part.requires_grad and part.dtype == torch.float32 for part in module.parameters())
    assert all(torch.equal(part, weights[name]) for name, part in module.state_dict().items())


def test_rewrites_that_are_refused_are_named() -> None:
    inputs = {"q": torch.ones(1, 2, 4, 8), "bias": torch.zeros(4)}
    result = compare(WithWeights().eval(), inputs, threads=1, time_s=SHORT_S)
    assert [place.kind for place in result.missed] == ["attention"]
    assert "softmax is also read by the graph's output" in text_of(result)


def test_calls_that_are_not_covered_are_listed() -> None:
    result = compare(Largest().eval(), torch.rand(3, 5), threads=1, time_s=SHORT_S)
    assert result.variants["default"].status == "unsupported" and result.log is None
    assert result.variants["torch-eager"].status == "ok"
    assert [part.op for part in result.refused] == ["aten.topk.default"]
    assert "aten.topk.default (1): it is not supported" in text_of(result)


def test_a_wrong_result_has_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    right = optimize

    def wrong(graph: Any, passes: Any) -> Any:
        for value, array in graph.constants.items():
            graph.constants[value] = array * 1.01
        return right(graph, passes=passes)

    monkeypatch.setattr(in_process, "optimize", wrong)
    ours = compare(encoder(), X, threads=1, time_s=SHORT_S).variants["default"]
    assert (ours.status, ours.time_ns, ours.ratio) == ("incorrect", None, None)
    assert "allowed" in ours.reason


@pytest.mark.parametrize("fails", [False, True])
def test_torch_compile(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """The compiler itself takes half a minute."""

    def compiled(module: nn.Module, **options: Any) -> nn.Module:
        if fails:
            raise RuntimeError("no C++ compiler\nhere")
        return module

    monkeypatch.setattr(torch, "compile", compiled)
    settings = torch._inductor.config
    before = settings.force_disable_caches, settings.compile_threads
    result = compare(encoder(), X, torch_compile=True, threads=1, time_s=SHORT_S)
    assert (settings.force_disable_caches, settings.compile_threads) == before
    found = result.variants["torch-compile"]
    assert found.status == ("unsupported" if fails else "ok")
    assert found.reason == ("RuntimeError: no C++ compiler" if fails else "")


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "module": (lambda: compare(3, X), TypeError, "'module' is int; accepted: a torch.nn.Module"),
    "training": (lambda: compare(encoder().train(), X), ValueError, "training mode"),
    "inputs": (lambda: compare(encoder(), [X]), TypeError, "'inputs' is list; accepted: a tensor"),
    "no tensor": (lambda: compare(encoder(), (3,)), ValueError, "no tensor"),
    "dtype": (lambda: compare(encoder(), X.double()), ValueError, r"input \[0\] is torch.float64"),
    "named dtype": (
        lambda: compare(encoder(), {"src": X.half()}),
        ValueError,
        r"input \['src'\] is torch.float16; accepted: torch.float32",
    ),
    "device": (lambda: compare(encoder(), X.to("meta")), ValueError, r"input \[0\] is on meta"),
    "parameter": (lambda: compare(encoder().double(), X), ValueError, "is torch.float64; accepted"),
    "shape": (
        lambda: compare(encoder(), torch.ones(1, 4, 15)),
        ValueError,
        r"does not take inputs of float32\[1, 4, 15\]: ",
    ),
    "threads": (
        lambda: compare(encoder(), X, threads=0),
        ValueError,
        "'threads' is 0; accepted: 1",
    ),
    "time": (lambda: compare(encoder(), X, time_s=-1), ValueError, "'time_s' is -1; accepted"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_argument_is_named(name: str) -> None:
    call, kind, words = REFUSED[name]
    with pytest.raises(kind, match=words):
        call()


def test_without_the_bench_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ablation_executor.bench.in_process", None)
    with pytest.raises(ImportError, match=r"pip install 'ablation-executor\[bench\]'"):
        compare(encoder(), X)
