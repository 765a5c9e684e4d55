"""The graph as a Python loop over its nodes, each op one call: NumPy's or a kernel's.

This is what a compiled program is measured against: same graph, same kernels, but every op pays for
Python, and every result is allocated anew and dropped after its last reader.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter_ns
from typing import Any

import numpy as np

import ablation_kernels

from . import arguments
from .compiler import op_times
from .ir import Array, Graph, Node, Value, check_graph
from .ops import OPS
from .profile import Profile
from .selection import call_attributes, select_kernels


@dataclass(frozen=True)
class _Step:
    """One node: slots are numbers of values, `release` those that nobody reads afterwards."""

    run: Callable[..., Any]
    slots: tuple[int, ...]
    output: int
    release: tuple[int, ...]
    is_alias: bool


class PerOp:
    """Runs a graph node by node from Python; `backend` is numpy or kernels.

    `kernels` and `threads` are as in `compile`. Has CompiledProgram's call and profile.
    """

    def __init__(
        self,
        graph: Graph,
        backend: str = "numpy",
        kernels: Mapping[str, str] | None = None,
        threads: int | None = None,
    ) -> None:
        check_graph("PerOp", graph)
        if backend not in ("numpy", "kernels"):
            raise ValueError(f"backend is {backend!r}, expected 'numpy' or 'kernels'")
        if backend == "numpy" and kernels:
            raise ValueError("kernels cannot be chosen with the numpy backend")
        if threads is not None:
            ablation_kernels.set_num_threads(threads)
        self.graph = graph
        self.backend = backend
        if backend == "kernels":
            self.kernels = select_kernels(graph, kernels)
        else:
            calls = (node for node in graph.nodes if not OPS[node.op].is_alias)
            self.kernels = {node.name: "numpy" for node in calls}
        self.calls = op_times(graph, self.kernels)
        self._numbers = {value: number for number, value in enumerate(graph.values())}
        self._constants = [
            (self._numbers[value], array) for value, array in graph.constants.items()
        ]
        self._steps = self._make_steps()

    def _make_steps(self) -> list[_Step]:
        last_reader: dict[Value, Node] = {}
        for node in self.graph.nodes:
            last_reader |= dict.fromkeys((value for value in node.inputs if value), node)
        kept = {*self.graph.outputs, *self.graph.constants}
        steps = []
        for node in self.graph.nodes:
            reads = [value for value in dict.fromkeys(node.inputs) if value is not None]
            release = [v for v in reads if last_reader[v] is node and v not in kept]
            if self.backend == "numpy":
                run = _numpy_call(node)
            else:
                run = _kernel_call(node, self.kernels.get(node.name, ""))
            steps.append(
                _Step(
                    run,
                    tuple(self._numbers[value] for value in node.inputs if value is not None),
                    self._numbers[node.output],
                    tuple(self._numbers[value] for value in release),
                    OPS[node.op].is_alias,
                )
            )
        return steps

    @property
    def input_names(self) -> list[str]:
        """The names of the inputs, in the order of a call."""
        return self.graph.input_names

    @property
    def output_names(self) -> list[str]:
        """The names of the outputs, in the order in which a call gives them."""
        return self.graph.output_names

    def _bind(self, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> list[Any]:
        inputs = arguments.bound(self.graph.input_names, inputs, named)
        if len(inputs) != len(self.graph.inputs):
            raise ValueError(f"{len(inputs)} inputs given, the graph has {len(self.graph.inputs)}")
        known: list[Any] = [None] * len(self._numbers)
        for number, (value, given) in enumerate(zip(self.graph.inputs, inputs, strict=True)):
            array = np.asarray(arguments.prepared(value, given))
            if array.shape != value.shape or array.dtype != np.float32:
                raise ValueError(
                    f"input {number} is {array.dtype}{list(array.shape)}, expected {value!r}"
                )
            known[number] = array
        for number, array in self._constants:
            known[number] = array
        return known

    def _results(self, known: list[Any], out: Any) -> Any:
        made: list[Array] = [known[self._numbers[value]] for value in self.graph.outputs]
        results = arguments.given_back(self.graph.results, made)
        if out is not None:
            results = arguments.written(results, [out] if len(results) == 1 else out)
        return results[0] if len(results) == 1 else results

    def __call__(self, *inputs: Any, out: Any = None, **named: Any) -> Any:
        """Run once: one NumPy array, or a list of them where the graph has several outputs.

        Inputs, outputs and errors are those of CompiledProgram.
        """
        known = self._bind(inputs, named)
        for step in self._steps:
            known[step.output] = step.run(*[known[slot] for slot in step.slots])
            for number in step.release:
                known[number] = None
        return self._results(known, out)

    def named(self, *inputs: Any, **named: Any) -> dict[str, Array]:
        """Run once and return the outputs by their names; inputs as in a call."""
        results = self(*inputs, **named)
        is_one = len(self.graph.outputs) == 1
        return dict(zip(self.output_names, [results] if is_one else results, strict=True))

    def profile(self, *inputs: Any, repeat: int = 10, **named: Any) -> Profile:
        """Run `repeat` times with a clock read around each call of the same loop."""
        times = np.zeros((repeat, len(self.calls)), np.int64)
        totals = np.zeros(repeat, np.int64)
        for row in range(repeat):
            elapsed = []
            start = perf_counter_ns()
            known = self._bind(inputs, named)
            for step in self._steps:
                before = perf_counter_ns()
                known[step.output] = step.run(*[known[slot] for slot in step.slots])
                if not step.is_alias:
                    elapsed.append(perf_counter_ns() - before)
                for number in step.release:
                    known[number] = None
            self._results(known, None)
            totals[row] = perf_counter_ns() - start
            times[row] = elapsed
        return Profile(self.calls, times, totals)


def _filled_slots(node: Node) -> list[int]:
    return [position for position, value in enumerate(node.inputs) if value is not None]


def _numpy_call(node: Node) -> Callable[..., Any]:
    """The op's NumPy reference, taking the filled slots in order."""
    spec, filled = OPS[node.op], _filled_slots(node)
    attributes, count = spec.complete(node.attributes), len(node.inputs)

    def run(*given: Array) -> Any:
        slots: list[Array | None] = [None] * count
        for position, array in zip(filled, given, strict=True):
            slots[position] = array
        return spec.reference(slots, attributes)

    return run


def _kernel_call(node: Node, kernel: str) -> Callable[..., Any]:
    """The op's public kernel function, taking the filled slots in order."""
    spec = OPS[node.op]
    if spec.is_alias:
        return _numpy_call(node)
    function = getattr(ablation_kernels, node.op)
    attributes = call_attributes(node)
    optional = [
        spec.slots[position].name
        for position in _filled_slots(node)
        if spec.slots[position].optional
    ]
    if node.op in ("permute", "slice"):
        return _with_positional(function, tuple(attributes.values()), kernel)
    fixed = partial(function, **attributes, kernel=kernel)
    if not optional:
        return fixed
    required = sum(not slot.optional for slot in spec.slots)

    def run(*given: Array) -> Any:
        return fixed(*given[:required], **dict(zip(optional, given[required:], strict=True)))

    return run


def _with_positional(
    function: Callable[..., Any], settings: tuple[Any, ...], kernel: str
) -> Callable[..., Any]:
    """A kernel function whose attributes stand behind its tensor."""
    return lambda x: function(x, *settings, kernel=kernel)
