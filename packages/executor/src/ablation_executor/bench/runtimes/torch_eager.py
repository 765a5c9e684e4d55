"""PyTorch eager, and an fx loop with a clock around each node for the breakdown."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from ..suite import Profile
from . import adapter, torch_parts
from .adapter import Model, Runner, as_arrays, as_tensors, clock_read_ns


@dataclass(frozen=True)
class _Step:
    """One traced node, ready to be called on the environment of results.

    `category` is None for one that gives no tensor, as the size of one: it is not timed.
    """

    name: str
    op: str
    category: str | None
    call: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    last_uses: tuple[str, ...]


def _method(name: str) -> Callable[..., Any]:
    return lambda value, *args, **kwargs: getattr(value, name)(*args, **kwargs)


def _steps(graph: fx.Graph, root: nn.Module) -> list[_Step] | None:
    """The nodes that compute something, in order, each with the results it is the last to use; None
    where the part of one of them cannot be decided."""
    found = torch_parts.categories(graph, root)
    if found is None:
        return None
    nodes = [node for node in graph.nodes if node.op not in ("placeholder", "output", "get_attr")]
    last: dict[str, str] = {}
    for node in nodes:
        for used in node.all_input_nodes:
            if used.op != "get_attr":
                last[used.name] = node.name
    steps = []
    for node in nodes:
        module = root.get_submodule(str(node.target)) if node.op == "call_module" else None
        op = torch_parts.op_name(node, module)
        call: Callable[..., Any]
        if module is not None:
            call = module
        else:
            call = _method(str(node.target)) if node.op == "call_method" else node.target
        used_last = tuple(name for name, user in last.items() if user == node.name)
        steps.append(_Step(node.name, op, found.get(node), call, node.args, node.kwargs, used_last))
    return steps


class _Tracer(fx.Tracer):
    """Trace a call with so many tensors by position, in which every other argument has its default:
    what a stand-in for a tensor does in the place of None would be another path."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """Return the function to trace, and the module with stand-ins for its inputs."""
        inputs = (f"input_{number}" for number in range(self._count))
        proxies = [self.create_proxy("placeholder", name, (), {}) for name in inputs]
        return root_fn, [self.root, *proxies]


class TorchRunner(Runner):
    """A module with its inputs."""

    is_traced = True

    def __init__(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        super().__init__(
            (lambda _: module(inputs[0])) if len(inputs) == 1 else (lambda _: module(*inputs)),
            as_arrays,
        )
        self._module = module
        self._inputs = inputs
        self._steps: list[_Step] | None = None
        self._is_traceable = True
        self._constants: dict[str, Any] = {}
        self._input_names: list[str] = []

    def _trace(self) -> list[_Step] | None:
        """Return the steps of the module; None where its path depends on the inputs' values, or the
        part of a step cannot be decided: a wrong breakdown is worse than none."""
        if self._steps is None and self._is_traceable:
            try:
                graph = _Tracer(len(self._inputs)).trace(self._module)
            except Exception:
                # Whatever forward does with a stand-in for a tensor: the module runs without a
                # breakdown
                self._is_traceable = False
                return None
            self._steps = _steps(graph, self._module)
            self._is_traceable = self._steps is not None
            for node in graph.nodes:
                if node.op == "placeholder":
                    self._input_names.append(node.name)
                elif node.op == "get_attr":
                    self._constants[node.name] = operator.attrgetter(str(node.target))(self._module)
        return self._steps

    def profile(self, repeat: int) -> Profile | None:
        """Make `repeat` calls of the traced module, node by node, each node between two clock
        reads; None where it cannot be traced."""
        steps = self._trace()
        if steps is None:
            return None
        timed = [step for step in steps if step.category is not None]
        times = np.zeros((repeat, len(timed)), dtype=np.int64)
        totals = []
        for row in times:
            start = perf_counter_ns()
            self._run(steps, row)
            totals.append(perf_counter_ns() - start)
        ops = [{"name": s.name, "op": s.op, "category": s.category, "kernel": None} for s in timed]
        return Profile(ops, times.tolist(), totals)

    def _run(self, steps: list[_Step], row: npt.NDArray[np.int64]) -> None:
        given = dict(zip(self._input_names, self._inputs, strict=True))
        values: dict[str, Any] = {**given, **self._constants}

        def find(node: fx.Node) -> Any:
            return values[node.name]

        taken = iter(range(len(row)))
        for step in steps:
            args = fx.map_arg(step.args, find)
            kwargs = fx.map_arg(step.kwargs, find)
            start = perf_counter_ns()
            result = step.call(*args, **kwargs)
            if step.category is not None:
                row[next(taken)] = perf_counter_ns() - start
            values[step.name] = result
            del args, kwargs, result
            for name in step.last_uses:
                del values[name]

    def facts(self) -> dict[str, Any]:
        """Return the calls of the breakdown and what their clock costs."""
        steps = self._trace()
        if steps is None:
            return {}
        n_calls = sum(step.category is not None for step in steps)
        return {"n_calls": n_calls, "timing_overhead_ns": n_calls * clock_read_ns() * 2}


class Adapter(adapter.Adapter):
    """PyTorch eager on the CPU, always in inference mode."""

    def __init__(self, name: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._inference_mode = torch.inference_mode()
        self._inference_mode.__enter__()

    def close(self) -> None:
        """Leave inference mode."""
        self._inference_mode.__exit__(None, None, None)

    def build(self, model: Model, options: Any = None) -> TorchRunner:
        """Wrap the module; torch shares the memory of the inputs."""
        return TorchRunner(model.make_module(), as_tensors(model.inputs))
