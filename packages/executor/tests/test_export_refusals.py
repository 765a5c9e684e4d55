"""export refuses what a graph cannot hold, by an ExportError with op, place and reason."""

from __future__ import annotations

import math
import pickle
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

import ablation_executor as ae
from ablation_executor import ExportError, UnsupportedOpError, export
from ablation_executor.compiler import compile


class Holds(nn.Module):
    """A function of the module and the arguments, with a parameter `weight` and more as given."""

    def __init__(self, function: Callable[..., Any], **held: Any) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.linspace(-1, 1, 8))
        for name, value in held.items():
            setattr(self, name, value)

    def forward(self, *args: Any) -> Any:
        return self.function(self, *args)


def x_of(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


def refusal(module: nn.Module, *args: Any) -> ExportError:
    with pytest.raises(ExportError) as caught:
        export(module, args)
    return caught.value


def check(module: nn.Module, *args: Tensor) -> None:
    """The compiled program computes what the module does."""
    module.eval()
    with torch.no_grad():
        want = module(*args).numpy()
    np.testing.assert_allclose(compile(export(module, args))(*args), want, rtol=1e-5, atol=1e-5)


# Random numbers and uninitialized memory

RANDOM: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "randn": lambda m, x: x + torch.randn(8),
    "rand_like": lambda m, x: x * torch.rand_like(m.weight),
    "rand_like of an input": lambda m, x: x * torch.rand_like(x),
    "dropout of a weight": lambda m, x: x + functional.dropout(m.weight, training=True),
    "dropout": lambda m, x: functional.dropout(x, training=True),
    "alpha_dropout": lambda m, x: x + functional.alpha_dropout(m.weight, training=True),
    "dropout of features": lambda m, x: x + functional.dropout1d(m.weight[None], training=True),
    "bernoulli": lambda m, x: x * torch.bernoulli(m.weight.sigmoid()),
    "multinomial": lambda m, x: x + torch.multinomial(m.weight.abs(), 8),
    "randperm": lambda m, x: x + m.weight[torch.randperm(8)],
    "normal": lambda m, x: x + torch.normal(m.weight, 1.0),
    "uniform_": lambda m, x: x + torch.zeros(8).uniform_(),
    "rrelu": lambda m, x: x + functional.rrelu(m.weight, training=True),
    "gumbel_softmax": lambda m, x: x + functional.gumbel_softmax(m.weight),
    "order of random numbers": lambda m, x: x[:, torch.rand(8).argsort()],
    "comparison": lambda m, x: torch.where(torch.rand(8) > 0.5, x, 0.0),
    "a Python number": lambda m, x: x * torch.randn(1).item(),
    "a generator": lambda m, x: x + torch.rand(8, generator=m.generator),
    "attention": lambda m, x: functional.scaled_dot_product_attention(
        x[None], x[None], x[None], dropout_p=0.5
    ),
    "uninitialized": lambda m, x: x + torch.empty(8),
    "uninitialized like an input": lambda m, x: x + torch.empty_like(x),
    "grown": lambda m, x: x + torch.zeros(1).resize_(8),
}


@pytest.mark.parametrize("name", RANDOM)
def test_contents_that_nobody_knows_are_refused(name: str) -> None:
    error = refusal(Holds(RANDOM[name], generator=torch.Generator()).eval(), x_of(4, 8))
    (found,) = error.refusals
    assert re.search("draws random numbers|uninitialized memory", found.reason)
    assert found.op.startswith("aten.") and "test_export_refusals.py:" in found.source


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: x * 2 + 0 * torch.zeros_like(torch.rand(8)),
        lambda m, x: (torch.rand(8), x * 2)[1],
        lambda m, x: x + torch.empty(8).fill_(2),
        lambda m, x: x + torch.empty(8).copy_(m.weight),
        lambda m, x: x + functional.dropout(m.weight, 0.5, training=False),
        lambda m, x: x + functional.dropout(m.weight, 0.0, training=True),
        lambda m, x: x + functional.rrelu(m.weight),
        lambda m, x: x + torch.bernoulli(m.weight, 0.0),
    ],
)
def test_what_reaches_no_result_or_draws_nothing_passes(function: Any) -> None:
    check(Holds(function), x_of(4, 8))


def test_random_numbers_of_a_submodule_are_told_with_its_path() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.ReLU(), nn.Dropout())).eval()
    module[1][1].train()
    (found,) = refusal(module, x_of(4, 8)).refusals
    assert (found.module_path, found.module_kind) == ("1.1", "Dropout")
    assert "call eval() on the module" in found.reason


@pytest.mark.parametrize(
    ("function", "generator"),
    [
        (lambda m, x: x * random.random(), "Python's random"),
        (lambda m, x: x * float(np.random.rand()), "NumPy's random"),
        (lambda m, x: (torch.manual_seed(3), x)[1], "PyTorch's generator"),
    ],
)
def test_draws_outside_of_the_graph_are_refused(function: Any, generator: str) -> None:
    assert f"forward draws from {generator}" in str(refusal(Holds(function).eval(), x_of(2)))


# State


def grow(module: Any, x: Tensor) -> Tensor:
    module.count += 1
    return x * module.count


def remember(module: Any, x: Tensor) -> Tensor:
    module.seen[0].append(x)
    module.cache["x"] = x
    module.last = x
    return x * 2


def test_attributes_that_forward_changes_are_refused_and_put_back() -> None:
    assert "forward changes self.count, " in str(refusal(Holds(grow, count=1).eval(), x_of(2)))
    module = Holds(remember, seen=[[]], cache={}).eval()
    seen = module.seen
    with pytest.warns(UserWarning, match="assigned during export"):
        error = refusal(module, x_of(2))
    assert "forward changes self.cache, self.last, self.seen, " in str(error)
    assert (
        module.seen is seen and (seen, module.cache) == ([[]], {}) and not hasattr(module, "last")
    )
    check(Holds(lambda m, x: x * 2, limit=math.nan, sizes=(1, [2]), table={"a": {3}}), x_of(2))
    inner = nn.Sequential(nn.Identity(), Holds(grow, count=1)).eval()
    assert "forward changes self.1.count, " in str(refusal(inner, x_of(2)))


GLOBAL = torch.zeros(8)


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: x + m.held.add_(1),
        lambda m, x: x + GLOBAL.add_(1),
        lambda m, x: x + m.buffer.add_(1),
        lambda m, x: x + m.weight.mul_(2),
        lambda m, x: x.add_(1),
        lambda m, x: (m.buffer.copy_(x[0]), x)[1],
    ],
)
def test_tensors_that_forward_writes_to_are_refused(function: Any) -> None:
    module = Holds(function, held=torch.zeros(8))
    module.register_buffer("buffer", torch.zeros(8))
    with torch.no_grad():
        error = refusal(module.eval(), x_of(4, 8))
    assert re.search(r"forward writes to '\w+' \(\w+_MUTATION\)|mutated", str(error))
    assert not module.buffer.any()


# Modules


@pytest.mark.parametrize(
    "make",
    [
        lambda: parametrizations.weight_norm(nn.Linear(8, 8)),
        lambda: parametrizations.spectral_norm(nn.Linear(8, 8)),
        lambda: nn.utils.spectral_norm(nn.Linear(8, 8)),
        lambda: prune.l1_unstructured(nn.Linear(8, 8), "weight", 3),
        lambda: nn.DataParallel(nn.Linear(8, 8)),
        lambda: nn.Sequential(torch.compile(nn.Linear(8, 8)), nn.ReLU()),
    ],
)
def test_modules_in_wrappings(make: Callable[[], nn.Module]) -> None:
    check(make(), x_of(4, 8))


def test_hooks_are_part_of_a_module() -> None:
    module = nn.Linear(8, 8)
    module.register_forward_pre_hook(lambda _, args: (args[0] + 1,))
    module.register_forward_hook(lambda _, args, result: result * 2)
    check(module, x_of(4, 8))
    assert len(module._forward_hooks) == len(module._forward_pre_hooks) == 1


def test_modules_that_cannot_be_captured() -> None:
    x = x_of(4, 8)
    scripted = torch.jit.trace(nn.Linear(8, 8).eval(), x)
    for module in (scripted, nn.Sequential(scripted).eval()):
        assert "compiled by torch.jit" in str(refusal(module, x))
    assert "lazy module has no shape yet" in str(refusal(nn.LazyLinear(8).eval(), x))
    assert "parameter 'weight' is on meta" in str(refusal(nn.Linear(8, 8, device="meta").eval(), x))
    exported = torch.export.export(nn.Linear(8, 8).eval(), (x,))
    assert "is a torch.export.ExportedProgram" in str(refusal(exported, x))
    buffered = nn.Identity().eval()
    buffered.register_buffer("table", torch.zeros(2, device="meta"))
    assert "buffer 'table' is on meta" in str(refusal(buffered, x))


# Arguments and results


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (({"a": (None, x_of(2).double())},), r"input 'input_a_1' is a torch.float64 tensor"),
        ((torch.ones(2, dtype=torch.complex64),), "is a torch.complex64 tensor, expected one of"),
        ((np.ones(2, np.float32),), r"'input' is a NumPy ndarray, expected a torch.Tensor"),
        ((x_of(2, 2).to_sparse(),), "is nested or torch.sparse_coo, expected a dense tensor"),
        ((x_of(0, 4),), r"'input' has shape \[0, 4\], expected no axis of size 0"),
        ((x_of(2).to("meta"),), r"'input' is on meta, expected cpu"),
        ((object(),), "'input' is a object, expected tensors, numbers, texts and None"),
        ((), "PyTorch cannot capture it: TypeError"),
    ],
)
def test_arguments_that_are_refused(args: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export(nn.Identity().eval(), args)


def test_arguments_in_containers_are_inputs_in_their_order() -> None:
    def function(m: Any, first: Any, second: Any, flag: bool, nothing: None, number: float) -> Any:
        assert flag and nothing is None
        return {"sum": first["a"] - first["b"][0], "others": [second * number, m.weight]}

    a, b, c = x_of(2, 3), x_of(2, 1), x_of(4)
    module = Holds(function).eval()
    graph = export(module, ({"a": a, "b": (b, None)}, c, True, None, 0.5))
    results = compile(graph)(a, b, c)
    for got, want in zip(results, (a - b, c * 0.5, module.weight), strict=True):
        np.testing.assert_array_equal(got, want.detach().numpy())


def test_one_tensor_given_twice_and_a_parameter_as_an_argument() -> None:
    module = Holds(lambda m, x, y: x - 2 * y + m.weight).eval()
    x, y = x_of(8), x_of(3, 8)[1]
    twice = compile(export(module, (x, x)))(x, y)
    np.testing.assert_allclose(twice, module(x, y).detach().numpy(), rtol=1e-6, atol=1e-6)
    graph = export(module, (module.weight, module.weight))
    np.testing.assert_allclose(
        compile(graph)(x, y), module(x, y).detach().numpy(), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda m, x: (x, x.shape[0]), "result '1' of forward is 2"),
        (lambda m, x: m.weight.double(), "result 'output' is a torch.float64 tensor"),
    ],
)
def test_results_must_be_tensors_of_a_known_type(result: Any, message: str) -> None:
    assert message in str(refusal(Holds(result).eval(), x_of(2)))


def test_marks_of_dynamic_axes_do_not_count() -> None:
    x = x_of(2, 8)
    torch._dynamo.mark_dynamic(x, 0)
    assert export(nn.ReLU().eval(), (x,)).inputs[0].shape == (2, 8)


# Errors


def test_all_refused_calls_of_a_module_are_in_one_error() -> None:
    floor, ceil = Holds(lambda m, x: x.floor()), Holds(lambda m, x: x.ceil())
    module = nn.Sequential(floor, nn.Linear(8, 8), floor, ceil, nn.Dropout())
    module.eval()[4].train()
    error = refusal(module, x_of(2, 8))
    assert isinstance(error, UnsupportedOpError)
    assert [(part.op, part.module_path, part.is_unsupported) for part in error.refusals] == [
        ("aten.floor.default", "0", True),
        ("aten.floor.default", "2", True),
        ("aten.ceil.default", "3", True),
        ("aten.native_dropout.default", "4", False),
    ]
    first, second, *_ = str(error).splitlines()
    assert first == "4 calls are refused:" and second.startswith(
        "- aten.floor.default (2 calls), first made by module '0' (Holds)"
    )
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.refusals == error.refusals


def test_what_only_follows_from_a_refused_call_is_not_refused_itself() -> None:
    module = Holds(lambda m, x: torch.where(x.floor() > 0, x, m.weight) * 2).eval()
    assert [part.op for part in refusal(module, x_of(2, 8)).refusals] == ["aten.floor.default"]


def test_failures_of_torch_are_told_with_the_place_that_raised() -> None:
    def branch(m: Any, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x

    def lookup(m: Any, x: Tensor) -> Tensor:
        raise KeyError("absent")

    for function, message in (
        (branch, "values of tensors, and a graph has one path"),
        (lookup, "KeyError: 'absent'"),
    ):
        error = refusal(nn.Sequential(Holds(function)).eval(), x_of(2))
        assert message in str(error) and error.__cause__ is not None
        (found,) = error.refusals
        assert (found.op, found.module_path) == ("torch.export", "0")
        assert "test_export_refusals.py:" in found.source


def test_weights_of_other_types_are_told() -> None:
    error = refusal(nn.Linear(8, 8).bfloat16().eval(), x_of(2, 8))
    assert "'weight' is torch.bfloat16, expected torch.float32: use .float()" in str(error)
    with torch.autocast("cpu", torch.bfloat16):
        assert "gives torch.bfloat16" in str(refusal(nn.Linear(8, 8).eval(), x_of(2, 8)))


def test_a_handlers_error_is_told_with_op_and_cause() -> None:
    function = Holds(lambda m, x: nn.functional.conv_transpose1d(x, x.view(4, 4, 1))).eval()
    error = refusal(function, x_of(4, 4))
    assert error.op == "aten.convolution.default" and isinstance(error.__cause__, ValueError)
    assert not isinstance(error, UnsupportedOpError) and isinstance(error, ae.ExportError)
