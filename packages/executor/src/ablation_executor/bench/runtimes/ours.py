"""Our own runtimes: the exported graph in a Python loop (numpy or kernels), or compiled."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

import torch

import ablation_kernels

from ... import ops
from ...compiler import CompiledProgram, compile
from ...constants import frozen
from ...exporter import export
from ...ir import Graph, Node, Value
from ...memory import storage_roots
from ...passes import DEFAULT_PASSES, optimize
from ...per_op import PerOp
from ...workspace import Workspace
from ..suite import Needs, Profile
from . import adapter
from .adapter import Array, Model, Runner, clock_read_ns


@dataclass(frozen=True)
class Options:
    """How a graph is optimized and run: `executor` is per_op or compiled; `kernels` has a kernel
    for every op, or is empty where they are chosen; the others are as in `compile`."""

    executor: str = "compiled"
    passes: tuple[str, ...] = DEFAULT_PASSES
    kernels: Mapping[str, str] = field(default_factory=dict)
    share_rows: bool = True
    other_arithmetic: bool = False


def live_peak_bytes(graph: Graph, backend: str) -> int:
    """Most bytes of computed values alive at once when each is freed after its last use.

    NumPy's attention holds its scores besides.
    """
    roots = storage_roots(graph)
    calls = [node for node in graph.nodes if not ops.OPS[node.op].is_alias]
    last: dict[Value, int] = {}
    for index, node in enumerate(calls):
        last.update({roots[value]: index for value in node.inputs if value is not None})
    last.update({roots[value]: len(calls) for value in graph.outputs})
    live = peak = 0
    for index, node in enumerate(calls):
        live += node.output.nbytes
        is_numpy_attention = backend == "numpy" and node.op == "attention"
        peak = max(peak, live + (attention_bytes(node) if is_numpy_attention else 0))
        computed = {roots[value] for value in node.inputs if value is not None}
        computed -= {*graph.constants, *graph.inputs}
        live -= sum(value.nbytes for value in computed if last[value] == index)
    return peak


def attention_bytes(node: Node) -> int:
    """Bytes of scores that the NumPy attention holds at once: three arrays of (B, H, Sq, Sk)."""
    return 3 * 4 * math.prod(ops.scores_shape(node))


def kernel_of(
    graph: Graph, kernels: Mapping[str, str], wanted: Callable[[Node], bool]
) -> str | None:
    """The kernels that run the wanted nodes, joined when there are several; None without one."""
    names = {kernels[node.name] for node in graph.nodes if wanted(node) and node.name in kernels}
    return "+".join(sorted(names)) or None


class GraphRunner(Runner):
    """A graph that is optimized and ready to run."""

    def __init__(
        self,
        exported: Exported,
        graph: Graph,
        options: Options,
        backend: str,
        threads: int,
        start_ns: int,
        workspace: Workspace | None = None,
    ) -> None:
        program: Any
        if options.executor == "per_op":
            kernels = dict(options.kernels) or None
            program = PerOp(graph, backend=backend, kernels=kernels, threads=threads)
        else:
            program = compile(
                graph,
                kernels=options.kernels,
                threads=threads,
                share_rows=options.share_rows,
                other_arithmetic=options.other_arithmetic,
                workspace=workspace,
            )
        self._build_ns = exported.export_ns + perf_counter_ns() - start_ns
        self._graph, self._program, self._inputs = graph, program, exported.inputs
        self._backend = backend
        shared = {id(array) for array in exported.graph.constants.values()}
        self._own_bytes = sum(
            array.nbytes
            for array in graph.constants.values()
            if not {id(array), id(array.base)} & shared
        )
        self._weights_bytes = sum(array.nbytes for array in graph.constants.values())
        inputs = exported.inputs
        one = inputs[0]
        super().__init__(
            (lambda _: program(one)) if len(inputs) == 1 else (lambda _: program(*inputs))
        )

    def profile(self, repeat: int) -> Profile:
        """Make `repeat` calls with a clock around each operation."""
        found = self._program.profile(*self._inputs, repeat=repeat)
        ops_told = [
            {"name": op.name, "op": op.op, "category": op.category, "kernel": op.kernel}
            for op in found.ops
        ]
        return Profile(ops_told, found.times_ns.tolist(), [int(t) for t in found.total_ns])

    def needs(self) -> Needs:
        """Return bytes besides the weights: a plan knows them, a loop is followed."""
        program = self._program
        if isinstance(program, CompiledProgram):
            packed = program.packed_weights_bytes or 0
            own = self._own_bytes + (program.arena_bytes or 0) + packed
            return Needs(own, self.passing_bytes)
        live = live_peak_bytes(self._graph, self._backend)
        return Needs(self._own_bytes, self.passing_bytes + live)

    @property
    def passing_bytes(self) -> int:
        """Bytes of the inputs and results of a call."""
        return sum(value.nbytes for value in (*self._graph.inputs, *self._graph.outputs))

    def digest(self) -> str:
        """Return the hash of the graph, its kernels and stages, of a loop as well."""
        program = self._program
        return program_hash(program.graph, program.kernels, getattr(program, "stages", ()))

    def module_paths(self) -> dict[str, str]:
        """Return the path of the module that made each call of the program, by its name."""
        nodes = self._program.graph.nodes
        return {node.name: node.module_path for node in nodes if not ops.OPS[node.op].is_alias}

    def facts(self) -> dict[str, Any]:
        """Return columns of the row that are known once it is built."""
        graph, program = self._graph, self._program
        kernels: dict[str, str] = dict(getattr(program, "kernels", {}) or {})
        calls = sum(not ops.OPS[node.op].is_alias for node in graph.nodes)
        memory: dict[str, int | None] = {"weights": self._weights_bytes}
        overhead, digest = 2 * calls * clock_read_ns(), None
        if isinstance(program, CompiledProgram):
            overhead = (calls + 1) * ablation_kernels.clock_overhead_ns()
            memory["arena"] = program.arena_bytes
            memory["scratch"] = program.attention_scratch_bytes
            memory["packed"] = program.packed_weights_bytes
            digest = self.digest()
        return {
            "memory": memory,
            "n_calls": calls,
            "timing_overhead_ns": overhead,
            "kernels": kernels_of(graph, kernels) or None,
            "providers": providers() if self._backend == "kernels" else {},
            "program_hash": digest,
            "build_ns": self._build_ns,
        }


def kernels_of(graph: Graph, kernels: Mapping[str, str]) -> dict[str, str]:
    """Return the kernels of attention, LayerNorm, softmax and the linear products, where there are
    any; an attention of several calls is unfused."""
    categories = ops.categories(graph)
    wanted: dict[str, Callable[[Node], bool]] = {
        "attention": lambda node: node.op == "attention",
        "layer_norm": lambda node: node.op == "layer_norm",
        "softmax": lambda node: node.op == "softmax",
        "matmul": lambda node: node.op == "matmul" and categories[node] == "linear",
    }
    found = {name: kernel_of(graph, kernels, is_wanted) for name, is_wanted in wanted.items()}
    if kernels and found["attention"] is None:
        found["attention"] = "unfused"
    return {name: kernel for name, kernel in found.items() if kernel}


def program_hash(
    graph: Graph, kernels: Mapping[str, str], stages: Sequence[Sequence[str]] = ()
) -> str:
    """Return a hash of what a program computes and how: graph, kernel of each node, and stages.

    Values are numbered and constants that are read known by their shape, so that equal programs of
    two names have equal hashes, in every process.
    """
    numbers: dict[Value, int] = {}
    read = {value for node in graph.nodes for value in node.inputs}
    for value in (*graph.inputs, *(value for value in graph.constants if value in read)):
        numbers.setdefault(value, len(numbers))
    lines = [repr([value.shape for value in numbers])]
    position: dict[str, int] = {}
    for node in graph.nodes:
        position[node.name] = len(position)
        inputs = [None if value is None else numbers.get(value, -1) for value in node.inputs]
        attributes = sorted((key, repr(value)) for key, value in node.attributes.items())
        kernel = kernels.get(node.name)
        lines.append(repr((node.op, kernel, inputs, attributes, node.output.shape)))
        numbers[node.output] = len(numbers)
    lines.append(repr([numbers.get(value, -1) for value in graph.outputs]))
    lines.append(repr([[position[name] for name in stage] for stage in stages]))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def providers() -> dict[str, str]:
    """Return who does the primitive work under the kernels on this machine."""
    info = ablation_kernels.build_info()
    return {key: str(info[key]) for key in ("simd", "parallel", "blas", "blas_core", "clock")}


@dataclass(frozen=True)
class Exported:
    """A model's graph, from which every variant starts, and what it took to export."""

    graph: Graph
    inputs: tuple[Array, ...]
    export_ns: int


class Adapter(adapter.Adapter):
    """Our runtimes; `name` is numpy or kernels."""

    def __init__(self, name: str, threads: int) -> None:
        # torch only exports here: without threads of its own it starts none that could spin.
        torch.set_num_threads(1)
        ablation_kernels.set_num_threads(threads)
        self._name = name
        self._threads = threads

    def export(self, model: Model) -> Exported:
        """Export a model, once."""
        if model.exported is None:
            start = perf_counter_ns()
            for array in (model.arrays or {}).values():
                frozen(array)
            given = adapter.as_tensors(model.inputs)
            graph = export(model.make_module(), given, arrays=model.arrays)
            model.exported = Exported(graph, model.inputs, perf_counter_ns() - start)
        exported: Exported = model.exported
        return exported

    def build(self, model: Model, options: Any = None) -> GraphRunner:
        """Rewrite, plan and compile as `Options` say."""
        exported, given = self.export(model), options or Options()
        start = perf_counter_ns()
        graph, _ = optimize(exported.graph.copy(), passes=given.passes)
        return GraphRunner(exported, graph, given, self._name, self._threads, start)
