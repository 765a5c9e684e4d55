"""Every handler, called with arguments other than the defaults: what torch computes, or refused."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest
import torch
from aten_calls import ACCEPTED
from aten_inputs import RANGES, Function, make_inputs, ops
from aten_other_calls import DIRECT, REFUSED, TAKEN_APART
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ablation_executor import ExportError, aten, export, optimize
from ablation_executor.compiler import compile
from ablation_executor.interpreter import interpret
from ablation_executor.ir import GraphBuilder


class All(nn.Module):
    """All functions of a list in one module, each with the inputs that it names."""

    def __init__(self, functions: list[Function]) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, **inputs: Tensor) -> tuple[Any, ...]:
        results: list[Any] = []
        for function in self.functions:
            names = inspect.signature(function).parameters
            results.append(tuple(pytree.tree_leaves(function(*(inputs[name] for name in names)))))
        return tuple(results)


def in_float64(module: All, inputs: dict[str, Tensor]) -> Any:
    """The module's results, its float inputs and the constants that it makes in float64."""
    torch.set_default_dtype(torch.float64)
    try:
        return module(
            **{name: x.double() if x.is_floating_point() else x for name, x in inputs.items()}
        )
    finally:
        torch.set_default_dtype(torch.float32)


def test_every_overload_of_the_table_computes_what_torch_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called = {f"aten.{name}" for name, _ in DIRECT}

    def spy(name: str, handler: Any) -> Any:
        def spied(*args: Any, **keywords: Any) -> Any:
            called.add(name)
            return handler(*args, **keywords)

        return spied

    for name, handler in aten.HANDLERS.items():
        monkeypatch.setitem(aten.HANDLERS, name, spy(name, handler))
    listed = [
        (name, function)
        for name, functions in {**ACCEPTED, **TAKEN_APART}.items()
        for function in functions
    ]
    module, inputs = All([function for _, function in listed]).eval(), make_inputs()
    graph = export(module, (), inputs, ranges=RANGES)
    assert called == set(aten.HANDLERS) == called | {f"aten.{name}" for name in ACCEPTED}
    given = [inputs[value.name].numpy() for value in graph.inputs]
    results = zip(
        interpret(graph, given, np.float64), compile(optimize(graph)[0])(*given), strict=True
    )
    for (name, function), expected in zip(listed, in_float64(module, inputs), strict=True):
        for part in expected:
            for result in next(results):
                np.testing.assert_allclose(
                    result,
                    part.numpy(),
                    rtol=1e-5,
                    atol=1e-5,
                    err_msg=f"{name}: {inspect.getsource(function)}",
                )


@pytest.mark.parametrize(("name", "arguments"), DIRECT)
def test_overloads_that_export_takes_apart(name: str, arguments: tuple[Any, ...]) -> None:
    x = make_inputs()["image" if "pool" in name else "x"]
    op, overload = name.split(".")
    want = getattr(getattr(ops, op), overload)(x, *arguments)
    context = aten.Context(GraphBuilder())
    value = context.builder.input("x", x.shape)
    result = aten.HANDLERS[f"aten.{name}"](context, value, *arguments)
    parts = list(result) if isinstance(result, tuple) else [result]
    got = interpret(context.builder.finish(*parts), (x,))
    for mine, theirs in zip(got, want if isinstance(want, (list, tuple)) else [want], strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-6)


def test_other_arguments_are_refused_with_the_reason() -> None:
    with pytest.raises(ExportError) as caught:
        export(All([function for function, _ in REFUSED]).eval(), (), make_inputs(), ranges=RANGES)
    reasons = [refusal.reason for refusal in caught.value.refusals]
    assert len(reasons) == len(REFUSED)
    for reason, (_, wanted) in zip(reasons, REFUSED, strict=True):
        assert re.search(wanted, reason), (reason, wanted)
    assert f"{len(REFUSED)} calls are refused" in str(caught.value)
