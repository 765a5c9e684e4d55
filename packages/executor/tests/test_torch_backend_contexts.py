"""torch.compile(backend="ablation") and what surrounds a call: modes, threads, changed weights."""

from __future__ import annotations

import copy
import gc
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from compiled_models import (
    SEQUENCE,
    WIDTH,
    Function,
    Layer,
    check_same,
    compiled,
    counted,
    layers,
    mixed,
    small_parts_run_here,
    x_of,
)
from torch import Tensor, nn
from torch.nn import functional

from ablation_executor import torch_backend
from ablation_executor.torch_backend import part as parts

LOGGER = "ablation_executor.torch_backend"

__all__ = ["small_parts_run_here"]


def test_pytorch_finds_the_backend() -> None:
    assert "ablation" in torch._dynamo.list_backends()


# What surrounds a call ----------------------------------------------------------------------------


def test_gradients_are_pytorchs_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    module, x = layers(), x_of()
    call = compiled(module)
    weights = [*module.a.parameters(), *module.b.parameters()]
    with counted() as change:
        for _ in range(2):
            got = torch.autograd.grad(call(x).square().sum(), weights)
            want = torch.autograd.grad(module(x).square().sum(), weights)
            assert all(map(torch.equal, got, want))
        y = x.clone().requires_grad_()
        module.requires_grad_(False)
        call(y).sum().backward()
        assert y.grad is not None
        check_same(call(x), module(x))
        with torch.no_grad():
            check_same(call(y), module(y))
    assert change.calls_eager == {"gradients are needed": 3} and change.calls_here == 2
    assert len([r for r in caplog.records if "gradients are needed" in r.getMessage()]) <= 1


def test_gradients_that_are_turned_on_inside() -> None:
    def function(self: Any, x: Tensor) -> Any:
        with torch.enable_grad():
            return self.a(x)

    module = Function(function).eval()
    with torch.no_grad():
        got, want = compiled(module)(x_of()), module(x_of())
    check_same(got, want)
    assert want.requires_grad


def test_gradients_that_are_turned_off_inside() -> None:
    def function(self: Any, x: Tensor) -> Any:
        with torch.no_grad():
            return self.b(self.a(x))

    module = Function(function).eval()
    with torch.no_grad(), counted() as change:
        check_same(compiled(module)(x_of()), module(x_of()))
    assert change.calls_here == 1


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_modes_without_gradients(context: Any) -> None:
    module = mixed()
    call = compiled(module)
    with counted() as change:
        for _ in range(2):
            with context():
                x = x_of()
                check_same(call(x), module(x))
        with torch.inference_mode(), torch.no_grad():
            check_same(call(x), module(x))
    assert change.calls_here == 3 and not change.parts_eager


def test_inputs_of_inference_mode_outside_of_it() -> None:
    module = layers()
    with torch.inference_mode():
        x = x_of()
    with torch.no_grad(), counted() as change:
        check_same(compiled(module)(x), module(x))
    assert change.calls_here == 1


def test_weights_of_inference_mode_are_left_to_pytorch() -> None:
    """Nothing counts what is written to them."""
    with torch.inference_mode():
        module = layers()
        call = compiled(module)
        with counted() as change:
            for _ in range(2):
                check_same(call(x_of()), module(x_of()))
                module.a.up.weight.mul_(2)
    assert change.parts_eager == {parts.UNCOUNTED: 2}


@pytest.mark.parametrize("inside", [False, True])
def test_autocast(inside: bool) -> None:
    def function(self: Any, x: Tensor) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            return self.a(x)

    module = Function(function).eval()
    call = compiled(module)
    with torch.no_grad(), counted() as change:
        with torch.autocast("cpu", torch.bfloat16, enabled=not inside):
            got, want = call(x_of()), module(x_of())
        check_same(got, want)
    assert change.calls_here == 0 and sum(change.calls_eager.values()) == 1


def test_autocast_around_a_call() -> None:
    module = layers()
    call = compiled(module)
    with torch.no_grad(), counted() as change:
        with torch.autocast("cpu", torch.bfloat16):
            got, want = call(x_of()), module(x_of())
        assert torch.equal(got, want) and want.dtype == torch.float32
        check_same(call(x_of()), module(x_of()))
    assert change.calls_eager == {"autocast is on": 1} and change.calls_here == 1


def test_autocast_that_is_off_inside() -> None:
    """As rotary embeddings of language models write it."""

    def function(self: Any, x: Tensor) -> Any:
        with torch.autocast("cpu", enabled=False):
            return self.b(self.a(x))

    module = Function(function).eval()
    with torch.no_grad(), counted() as change:
        check_same(compiled(module)(x_of()), module(x_of()))
    assert change.calls_here == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_pytorchs(dtype: torch.dtype) -> None:
    module, x = layers().to(dtype), x_of().to(dtype)
    with torch.no_grad(), counted() as change:
        assert torch.equal(compiled(module)(x), module(x))
    assert change.calls_here == 0


# Shapes, graph breaks -----------------------------------------------------------------------------


def test_other_shapes() -> None:
    """The second length makes the graph symbolic; each length is then divided the second time."""
    module = layers()
    call = compiled(module)
    with torch.no_grad(), counted() as change:
        for _ in range(3):
            for length in (16, 24, 32):
                x = x_of(1, length, WIDTH)
                check_same(call(x), module(x))
    assert change.calls_here == 6
    assert change.calls_eager == {"shapes that come for the first time": 3}
    assert change.programs == 4 and not change.rebuilds


def test_shapes_that_never_come_again_are_pytorchs() -> None:
    module = layers()
    call = compiled(module, dynamic=True)
    with torch.no_grad(), counted() as change:
        for length in range(8, 20):
            x = x_of(1, length, WIDTH)
            check_same(call(x), module(x))
    assert change.programs == 0 and change.calls_here == 0


def test_programs_of_shapes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_backend.compiled, "MAX_SHAPES", 2)
    monkeypatch.setattr(torch_backend.compiled, "MAX_PLANS", 4)
    module = Function(lambda self, x: self.a(x)).eval()
    call = compiled(module, dynamic=True)
    with torch.no_grad(), counted() as change:
        for length in (32, 40, 48, 56, 64):
            for _ in range(3):
                x = x_of(1, length, WIDTH)
                check_same(call(x), module(x))
    assert change.programs == 4 and change.calls_here == 8
    assert change.calls_eager["more than 4 sets of shapes"] == 2


def test_numbers_that_change_the_graph() -> None:
    module = Function(lambda self, x, n, scale: self.b(self.a(x)[:, :n] * scale)).eval()
    call = compiled(module)
    with torch.no_grad():
        for n, scale in ((8, 0.5), (8, 0.5), (9, 2.0), (9, 3.0), (10, 3.0), (10, 3.0)):
            check_same(call(x_of(), n, scale), module(x_of(), n, scale))


def broken(self: Any, x: Tensor) -> Any:
    y = self.a(x)
    torch._dynamo.graph_break()
    z = self.b(y.mT.contiguous().mT)
    print(end="")
    return z.transpose(0, 1).view(SEQUENCE, 1, -1)


def test_graph_breaks() -> None:
    module = Function(broken).eval()
    with torch.no_grad(), counted() as change:
        check_same(compiled(module)(x_of()), module(x_of()))
        torch._dynamo.reset()
        with pytest.raises(torch._dynamo.exc.Unsupported):
            compiled(module, fullgraph=True)(x_of())
        check_same(compiled(layers(), fullgraph=True)(x_of()).shape, x_of().shape)
    assert change.calls_here == 3


def test_layers_that_share_a_graph_keep_their_weights_apart() -> None:
    """Each layer is a graph of its own code: one graph, a program for each layer's weights."""

    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(Layer() for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x)
            return x

    module = Layers().eval()
    for layer in module.layers:
        layer.compile(backend="ablation")
    with torch.no_grad(), counted() as change:
        for _ in range(2):
            want = x_of(2, 64, WIDTH)
            for layer in module.layers:
                want = layer.forward(want)
            check_same(module(x_of(2, 64, WIDTH)), want)
    assert change.programs == 4 and change.calls_here == 8 and not change.rebuilds


# Weights ------------------------------------------------------------------------------------------


def optimizer_step(module: Any) -> None:
    with torch.enable_grad():
        module(x_of()).square().sum().backward()
    torch.optim.SGD(module.parameters(), lr=0.1).step()


def rebind(module: Any) -> None:
    module.a.up.weight.data = module.a.up.weight.data * 2


def replace(module: Any) -> None:
    module.a.up = nn.Linear(WIDTH, 4 * WIDTH)


CHANGES: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda module: None,
    "a write": lambda module: module.a.up.weight[3].mul_(2),
    "a write through a view": lambda module: module.a.up.weight.view(-1)[7:9].fill_(1),
    "a write to .data": lambda module: module.a.up.weight.data.mul_(2),
    "a write through NumPy": lambda module: module.a.up.bias.detach().numpy().fill(1),
    "other data": rebind,
    "another parameter": replace,
    "load_state_dict": lambda module: module.load_state_dict(layers().state_dict()),
    "a step of an optimizer": optimizer_step,
    "a buffer": lambda module: module.shift.add_(1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_weights_are_noticed(name: str) -> None:
    def function(self: Any, x: Tensor) -> Any:
        return self.b(self.a(x)) + self.shift

    module = Function(function, shift=torch.zeros(WIDTH)).eval()
    call = compiled(module)
    if name == "load_state_dict":
        module.register_buffer("shift", torch.zeros(WIDTH), persistent=False)
    with torch.no_grad(), counted() as change:
        before = call(x_of())
        CHANGES[name](module)
        got = call(x_of())
        check_same(got, module(x_of()))
        check_same(call(x_of()), module(x_of()))
    assert torch.equal(before, got) == (name == "nothing")
    assert change.programs + change.rebuilds >= 1 + (name != "nothing")
    assert change.programs <= 2 and change.calls_here >= 2


def test_weights_that_change_with_each_call_are_left_to_pytorch() -> None:
    module = layers()
    call = compiled(module)
    with torch.no_grad(), counted() as change:
        for _ in range(2 * parts.MAX_REBUILDS):
            check_same(call(x_of()), module(x_of()))
            module.a.up.weight.mul_(1.01)
    assert change.rebuilds == parts.MAX_REBUILDS + 1
    assert change.parts_eager == {parts.CHANGING: parts.MAX_REBUILDS - 1}


def counting(self: Any, x: Tensor) -> Any:
    self.count.add_(1)
    return self.b(self.a(x)) * self.count


def caching(self: Any, x: Tensor) -> Any:
    self.cache[:, :4] = x[:, :4]
    return self.a(x) + self.cache.clone()


def assigning(self: Any, x: Tensor) -> Any:
    self.last = self.a(x)
    return self.last + 1


FORWARDS: dict[str, tuple[Callable[..., Any], Callable[[], dict[str, Any]]]] = {
    "a counter": (counting, lambda: {"count": torch.zeros(())}),
    "a cache": (caching, lambda: {"cache": torch.zeros(1, SEQUENCE, WIDTH)}),
    "an attribute": (assigning, lambda: {"last": torch.zeros(1)}),
    "running statistics": (
        lambda self, x: self.norm(self.a(x).mT).mT,
        lambda: {"norm": nn.BatchNorm1d(WIDTH).train()},
    ),
}


@pytest.mark.parametrize("name", FORWARDS)
def test_buffers_that_forward_changes(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """PyTorch runs graphs that write to buffers, and the log says so."""
    caplog.set_level(logging.INFO, LOGGER)
    function, made = FORWARDS[name]
    module = Function(function, **made())
    other = copy.deepcopy(module)
    call = compiled(module)
    with torch.no_grad(), counted() as change:
        for seed in range(3):
            x = x_of(seed=seed)
            check_same(call(x), other(x))
            check_same(list(module.state_dict().values()), list(other.state_dict().values()))
    assert not change.parts_eager
    told = [record.getMessage() for record in caplog.records]
    is_written = name in ("a counter", "a cache", "running statistics")
    assert any("it writes to buffers of the model (" in line for line in told) == is_written


def test_tied_weights_stay_tied() -> None:
    module = Function(lambda self, x: functional.linear(self.a(x), self.w) @ self.b.up.weight)
    module.register_parameter("w", module.b.up.weight)
    call = compiled(module.eval())
    with torch.no_grad(), counted() as change:
        check_same(call(x_of()), module(x_of()))
        module.w.mul_(2)
        check_same(call(x_of()), module(x_of()))
    assert change.rebuilds == 1


def test_programs_end_with_their_weights() -> None:
    module = layers()
    with torch.no_grad():
        call = compiled(lambda model, x: model(x))
        check_same(call(module, x_of()), module(x_of()))
        (part,) = (p for p in gc.get_objects() if type(p) is parts.Part and p._entries)
        del module, call
        gc.collect()
    assert not part._entries


# Copies -------------------------------------------------------------------------------------------


def test_deepcopy_of_a_compiled_module() -> None:
    module = layers()
    call = compiled(module)
    with torch.no_grad(), counted() as change:
        want = call(x_of())
        twin = copy.deepcopy(call)
        check_same(twin(x_of()), want)
        for parameter in twin.parameters():
            parameter.mul_(1.5)
        check_same(twin(x_of()), copy.deepcopy(twin._orig_mod)(x_of()))
        assert torch.equal(call(x_of()), want)
    assert not change.parts_eager


def test_transforms_of_functions_see_pytorchs_ops() -> None:
    module, x = layers(), x_of(3, SEQUENCE, WIDTH)
    call = compiled(module)
    with torch.no_grad():
        check_same(call(x[0][None]), module(x[0][None]))
        got = torch.func.vmap(lambda part: call(part[None]))(x)
        check_same(got, torch.func.vmap(lambda part: module(part[None]))(x))
        _, mine = torch.func.jvp(call, (x,), (x,))
        _, theirs = torch.func.jvp(module, (x,), (x,))
        check_same(mine, theirs)


def test_the_log_has_a_line_for_each_graph(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    module = Function(lambda self, x: x.mul_(2) + self.a(x)).eval()
    with torch.no_grad():
        compiled(module)(x_of())
        compiled(module)(x_of())
    (record,) = caplog.records
    assert re.search(
        r"0 of \d+ ops run here: it writes to its inputs \(l_args_0_\)", record.getMessage()
    )
