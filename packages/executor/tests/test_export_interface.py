"""What an exported module takes and gives: names, keywords, containers, several results, caches."""

from __future__ import annotations

import threading
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_modules import Block

from ablation_executor import ExportError, Graph, GraphBuilder, PerOp, export, interpret, optimize
from ablation_executor.aten import HANDLERS
from ablation_executor.compiler import compile

X = torch.tensor([[0.5, -2.0, 1.25], [3.0, -0.5, -7.5]])
Y = torch.tensor([1.0, 2.0, 3.0])


class Model(nn.Module):
    """Forward with a keyword that is no tensor, an optional mask and a number."""

    def forward(
        self,
        input: Tensor,
        B: Tensor | None = None,
        *,
        scale: float = 1.0,
        use_cache: bool = True,
        states: Any = (),
    ) -> Tensor:
        assert not use_cache
        total = input * scale if B is None else input * scale + B
        for state in states:
            total = total - state["key"]
        return total


def test_inputs_have_the_names_of_parameters_and_are_given_by_them() -> None:
    kwargs = {"states": ({"key": Y * 2},), "use_cache": False, "scale": 0.5, "B": Y}
    graph = export(Model().eval(), (X,), kwargs)
    assert graph.input_names == ["input", "B", "states_0_key"]
    want = (X * 0.5 + Y - Y * 2).numpy()
    for run in (compile(graph), PerOp(graph), PerOp(graph, "kernels")):
        assert run.input_names == graph.input_names
        for got in (
            run(X, Y, Y * 2),
            run(X, states_0_key=Y * 2, B=Y),
            run(B=Y, states_0_key=Y * 2, input=X),
            run.named(X, B=Y, states_0_key=Y * 2)["output"],
        ):
            np.testing.assert_array_equal(got, want)
        assert run.profile(X, B=Y, states_0_key=Y * 2, repeat=2).times_ns.shape[0] == 2
    by_name = {"B": Y, "input": X, "states_0_key": Y * 2}
    np.testing.assert_array_equal(interpret(graph, by_name)[0], want)


@pytest.mark.parametrize(
    ("given", "named", "message"),
    [
        ((X,), {"b": Y}, "the graph has no input 'b'; its inputs: 'input', 'B'"),
        ((X, Y), {"B": Y}, "input 'B' is given twice, by position and by name"),
        ((), {"B": Y}, "input 'input' is missing; the inputs of the graph: 'input', 'B'"),
        ((X, Y, Y), {"B": Y}, "3 inputs given, the graph has 2"),
    ],
)
def test_wrong_names_are_refused(given: Any, named: Any, message: str) -> None:
    graph = export(Model().eval(), (X, Y), {"use_cache": False})
    for run in (compile(graph), PerOp(graph)):
        with pytest.raises(TypeError, match=message):
            run(*given, **named)


@dataclass
class Output:
    """A result as models of libraries have it."""

    logits: Tensor
    loss: Tensor | None = None
    hidden: tuple[Tensor, ...] | None = None


Pair = namedtuple("Pair", ["first", "second"])


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda x: x * 2, ["output"]),
        (lambda x: [x * 2], ["0"]),
        (lambda x: (x * 2, None, x + 1), ["0", "2"]),
        (lambda x: {"b": x * 2, "a": [x + 1, x + 2]}, ["b", "a.0", "a.1"]),
        (lambda x: Pair(x * 2, (x,)), ["first", "second.0"]),
        (lambda x: Output(x * 2), ["logits"]),
        (lambda x: Output(x * 2, hidden=(x, x - 1)), ["logits", "hidden.0", "hidden.1"]),
        (lambda x: {"a": {"b": x * 2}, "a.b": x}, ["a.b", "a.b_2"]),
    ],
)
def test_results_have_names(function: Callable[[Tensor], Any], names: list[str]) -> None:
    graph, _ = optimize(export(Function(function).eval(), (X,)))
    assert graph.output_names == names
    for run in (compile(graph), PerOp(graph)):
        found = run.named(X)
        assert list(found) == run.output_names == names
        np.testing.assert_array_equal(found[names[0]], X * 2)
        results = run(X)
        assert isinstance(results, np.ndarray if len(names) == 1 else list)


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, *others: Any, **named: Any) -> Any:
        return self.function(x, *others, **named)


class DynamicCache:
    """Stands for the object of this name in transformers."""


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: (x, x.shape[0]), "result '1' of forward is 2, expected tensors and None: wrap"),
        (
            lambda x: {"a": x, "cache": DynamicCache()},
            "'cache' of forward is a DynamicCache.*: pass",
        ),
        (lambda x: None, "forward gives no tensor"),
        (lambda x: x.double(), "gives torch.float64"),
    ],
)
def test_results_that_are_refused(function: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export(Function(function).eval(), (X,))


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"cache": DynamicCache()}, ExportError, "'cache' is a DynamicCache.*: pass use_cache=Fal"),
        ({"y": [np.ones(2)]}, ExportError, "'y_0' is a NumPy ndarray, expected a torch.Tensor"),
        ({"y": X.double()}, ExportError, "input 'y' is a torch.float64 tensor, expected one of"),
        ([X], TypeError, "kwargs is a list, expected a dict"),
    ],
)
def test_keyword_arguments_that_are_refused(kwargs: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        export(Function(lambda x, **named: x + named["y"]).eval(), (X,), kwargs)


def test_an_input_that_nothing_reads_stays_an_input() -> None:
    ids = torch.arange(3)
    graph = export(Function(lambda x, ids: ((ids + 1).cumsum(0), x * 2)[1]).eval(), (X, ids))
    assert graph.input_names == ["x", "others_0"]
    np.testing.assert_array_equal(compile(optimize(graph)[0])(X, ids), X * 2)


def test_inputs_that_are_not_contiguous_are_copied() -> None:
    builder = GraphBuilder()
    graph = builder.finish(builder.node("relu", [builder.input("x", (3, 2))]))
    want = X.t().relu().numpy()
    for run in (compile(graph), PerOp(graph, "kernels")):
        for given in (X.t(), X.t().numpy(), np.asfortranarray(X.t()), X.t().requires_grad_()):
            np.testing.assert_array_equal(run(given), want)
        with pytest.raises(ValueError, match="3, 2"):
            run(X.numpy()[:, ::2])


def test_tied_weights_are_one_constant() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x).relu())

    module = Tied().eval()
    graph = export(module, (X,))
    assert len(graph.constants) == 1
    want = module(X).detach().numpy()
    np.testing.assert_allclose(compile(optimize(graph)[0])(X), want, rtol=1e-5, atol=1e-6)


def test_all_that_stands_against_a_module_is_in_one_table() -> None:
    def function(x: Tensor, y: Tensor) -> Any:
        return torch.special.erfcx(x), torch.special.erfcx(x) + torch.lgamma(x), 3, y * 2

    with pytest.raises(ExportError) as caught:
        export(Function(function).eval(), (X, X.double()))
    table = [(group.op, group.count, len(group.near)) for group in caught.value.groups]
    assert table == [
        ("", 1, 0),
        ("", 1, 0),
        ("aten.special_erfcx.default", 2, 3),
        ("aten.lgamma.default", 1, 3),
    ]
    text = str(caught.value)
    assert text.startswith("5 calls, inputs or results are refused:\n- result '2' of forward is 3")
    assert "(2 calls), first made by the root module (Function) at " in text
    assert "What works: ops of supported_ops(), or torch.compile" in text


def graph_of(*names: str) -> Graph:
    builder = GraphBuilder()
    values = [builder.input(name, (2,)) for name in names]
    return builder.finish(*values)


def test_outputs_without_names_are_numbered() -> None:
    graph = graph_of("a", "b")
    assert graph.output_names == ["0", "1"]
    assert list(compile(graph).named(Y[:2], Y[1:])) == ["0", "1"]


def test_what_comes_of_refused_integers_is_not_refused_itself() -> None:
    module = Function(lambda x: (x.sort(-1)[1].add(1) * 2**30).float() * x).eval()
    with pytest.raises(ExportError) as caught:
        export(module, (X,))
    assert [part.op for part in caught.value.refusals] == ["aten.sort.default"]
    assert "What works: compute it behind the program" in str(caught.value)


def test_a_failure_of_a_handler_is_told_with_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HANDLERS, "aten.relu.default", lambda context, x: [][0])
    with pytest.raises(
        ExportError, match=r"aten.relu.default, .*: IndexError: list index"
    ) as caught:
        export(Function(lambda x: x.relu()).eval(), (X,))
    assert isinstance(caught.value.__cause__, IndexError)


def test_exports_of_several_threads_take_turns() -> None:
    """torch.export replaces methods of torch.nn.Module for all threads."""
    modules = [Block(mask=mask).eval() for mask in ("none", "inline", "sdpa")]
    x = torch.randn(1, 6, 16)
    wanted = [str(export(module, (x,))) for module in modules]
    methods = nn.Module.__call__, nn.Module.__getattr__
    found: dict[int, str] = {}
    start = threading.Barrier(len(modules))

    def work(number: int) -> None:
        start.wait()
        for _ in range(3):
            found[number] = str(export(modules[number], (x,)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(modules))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found.get(number) for number in range(len(modules))] == wanted
    assert (nn.Module.__call__, nn.Module.__getattr__) == methods


def test_an_older_pytorch_without_compile_sessions_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.compiler, "_compile_session_context", raising=False)
    graph = export(nn.Linear(4, 4).eval(), (torch.randn(2, 4),))
    assert [node.op for node in graph.nodes][-1] in ("matmul", "add")
