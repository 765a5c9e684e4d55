"""Our own runtimes: the exported graph in a Python loop (numpy or kernels), or compiled."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

import ablation_kernels

from .. import ops
from ..compile import CompiledProgram, compile
from ..constants import frozen
from ..export import export
from ..ir import Graph, Node, Value
from ..memory import storage_roots
from ..passes import optimize
from ..per_op import PerOp
from ..variants import BY_NAME, Variant
from .configs import Config
from .models import make_module
from .weights import Array
from .worker import clock_read_ns


class Program(Protocol):
    """What CompiledProgram and PerOp have in common."""

    def __call__(self, *inputs: Any) -> Any:
        """Run."""

    def profile(self, *inputs: Any, repeat: int) -> Any:
        """Run with a clock around each operation."""


class GraphProfile:
    """A program's profile in the worker's terms."""

    def __init__(self, profile: Any) -> None:
        self.ops = [
            {"name": op.name, "op": op.op, "category": op.category, "kernel": op.kernel}
            for op in profile.ops
        ]
        self.times_ns: npt.NDArray[np.int64] = np.asarray(profile.times_ns)
        self.total_ns = [int(total) for total in profile.total_ns]


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
    return 3 * 4 * math.prod(ops.scores_shape(node.shapes, node.attribute("layout")))


def kernel_of(graph: Graph, kernels: dict[str, str], wanted: Callable[[Node], bool]) -> str | None:
    """The kernels that run the wanted nodes, joined when there are several; None without one."""
    names = {kernels[node.name] for node in graph.nodes if wanted(node) and node.name in kernels}
    return "+".join(sorted(names)) or None


class GraphRunner:
    """One of our variants with its input."""

    def __init__(
        self,
        graph: Graph,
        variant: Variant,
        config: Config,
        x: Array,
        threads: int,
        shared: set[int],
    ) -> None:
        """`shared` has the id of every array that the variants have in common, the weights."""
        self._graph = graph
        self._shared = shared
        self._variant = variant
        self._config = config
        self._x = x
        self._program: Any
        if variant.executor == "per_op":
            self._program = PerOp(
                graph, backend=variant.runtime, kernels=variant.kernels or None, threads=threads
            )
        else:
            self._program = compile(
                graph, kernels=variant.kernels, threads=threads, share_rows=variant.share_rows
            )

    def __call__(self) -> Any:
        """One call, its result freshly allocated as for any caller."""
        return self._program(self._x)

    def output(self, result: Any) -> npt.NDArray[Any]:
        """The result; it is numpy's already."""
        return np.asarray(result)

    def profile(self, repeat: int) -> GraphProfile:
        """`repeat` calls with a clock around each operation."""
        return GraphProfile(self._program.profile(self._x, repeat=repeat))

    def facts(self) -> dict[str, Any]:
        """Build facts of the row."""
        graph, program = self._graph, self._program
        kernels: dict[str, str] = dict(getattr(program, "kernels", {}) or {})
        weights_bytes = sum(array.nbytes for array in graph.constants.values())
        extra = sum(
            array.nbytes
            for array in graph.constants.values()
            if not {id(array), id(array.base)} & self._shared
        )
        block = 4 * self._config.batch * self._config.seq_len * self._config.d_model
        is_compiled = isinstance(program, CompiledProgram)
        arena = program.arena_bytes if is_compiled else None
        packed = program.packed_weights_bytes if is_compiled else None
        calls = sum(not ops.OPS[node.op].is_alias for node in graph.nodes)
        if is_compiled:
            overhead = (calls + 1) * ablation_kernels.clock_overhead_ns()
            scratch: int | None = program.attention_scratch_bytes
        else:
            overhead, scratch = 2 * calls * clock_read_ns(), None
        categories = ops.categories(graph)
        return {
            "resident_bytes": extra + (arena or 0) + (packed or 0),
            "transient_bytes": 2 * block
            + (0 if is_compiled else live_peak_bytes(graph, self._variant.runtime)),
            "weights_bytes": weights_bytes,
            "packed_weights_bytes": packed,
            "arena_bytes": arena,
            "attention_scratch_bytes": scratch,
            "n_calls": calls,
            "timing_overhead_ns": overhead,
            "attention_kernel": kernel_of(graph, kernels, lambda node: node.op == "attention")
            or ("unfused" if kernels else None),
            "layer_norm_kernel": kernel_of(graph, kernels, lambda node: node.op == "layer_norm"),
            "softmax_kernel": kernel_of(graph, kernels, lambda node: node.op == "softmax"),
            "linear_kernel": kernel_of(
                graph,
                kernels,
                lambda node: node.op == "matmul" and categories[node] == "linear",
            ),
            "providers": providers() if self._variant.runtime == "kernels" else {},
        }


def providers() -> dict[str, str]:
    """Who does the primitive work under the kernels on this machine."""
    info = ablation_kernels.build_info()
    return {key: str(info[key]) for key in ("simd", "parallel", "blas", "blas_core", "clock")}


class GraphPrepared:
    """A config's exported graph; every variant starts from it."""

    def __init__(self, config: Config, weights: dict[str, Array], x: Array, threads: int) -> None:
        self._config = config
        self._x = x
        self._threads = threads
        module = make_module(config, weights, "manual")
        for array in weights.values():
            frozen(array)
        self._graph = export(module, (torch.from_numpy(x),), arrays=weights)

    def build(self, variant: str) -> GraphRunner:
        """Rewrite, plan and compile one variant."""
        found = BY_NAME[variant]
        graph, _ = optimize(self._graph.copy(), passes=found.passes)
        shared = {id(array) for array in self._graph.constants.values()}
        return GraphRunner(graph, found, self._config, self._x, self._threads, shared)


class GraphRuntime:
    """Our runtimes; `name` is numpy or kernels."""

    def __init__(self, name: str, threads: int) -> None:
        # torch only exports here: without threads of its own it starts none that could spin.
        torch.set_num_threads(1)
        ablation_kernels.set_num_threads(threads)
        self.name = name
        self._threads = threads

    def prepare(self, config: Config, weights: dict[str, Array], x: Array) -> GraphPrepared:
        """Export the manual block."""
        return GraphPrepared(config, weights, x, self._threads)
