"""Graph + kernels + plan -> a native program that runs without torch."""

from __future__ import annotations

import difflib
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import numpy as np

import ablation_kernels

from . import arguments
from .constants import Constants
from .ir import Array, Graph, GraphBuilder, Value, check_graph
from .memory import Plan, plan_greedy, plan_naive, storage_roots
from .ops import OPS, categories
from .profile import OpTime, Profile
from .program_file import Options, Released, arrays_of, write_program
from .selection import call_attributes, resolve_kernels, scratch_requirements, select_kernels
from .stages import Stage, row_stages
from .workspace import Workspace

PLANS: dict[str, Callable[[Graph, Mapping[str, int], Sequence[Stage]], Plan]] = {
    "greedy": plan_greedy,
    "naive": plan_naive,
}


@dataclass(frozen=True)
class ProgramPlan:
    """What a program will run: graph, kernel of each node by name, memory, stages."""

    graph: Graph
    kernels: dict[str, str]
    memory: Plan
    threads: int
    stages: tuple[Stage, ...] = ()


class CompiledProgram:
    """A graph as one native loop over planned memory; call it with the graph's inputs.

    `graph` is what runs, `kernels` the kernel of each node by name, `memory` the plan, `calls` what
    is run, in order, `stages` the names of those that share a fork-join, `options` what `compile`
    was asked for; sizes are in bytes, `packed_weights_bytes` that of the constants that kernels
    laid out anew, each counted once. `graph` has let go of the arrays of these constants: to read
    one, or to compile, interpret or rewrite `graph`, raises ReleasedConstantError. The program is
    the model as it was exported, whatever is done to the module afterwards. It lives in this
    process: pickle raises TypeError, `save` writes a file. Two threads that call one program take
    turns.

    A program that was compiled with a workspace shares the memory that its sizes count with others.
    It keeps the arrays of packed constants, so that `graph` has all of them. Programs of one
    workspace take turns.
    """

    def __init__(
        self,
        graph: Graph,
        kernels: dict[str, str],
        memory: Plan,
        threads: int,
        stages: Sequence[Stage] = (),
        workspace: Workspace | None = None,
        options: Options | None = None,
    ) -> None:
        self.graph = graph
        self.options = options or Options()
        self.kernels = kernels
        self.memory = memory
        self.threads = threads
        self.stages = tuple(stages)
        self.calls = op_times(graph, kernels)
        self.arena_bytes = memory.arena_bytes
        self.attention_scratch_bytes = memory.attention_scratch_bytes
        self.constant_bytes = sum(value.nbytes for value in _read_constants(graph))
        self._program = ablation_kernels.Program(
            *_program_arguments(graph, kernels, memory),
            memory.arena_bytes,
            _stage_arguments(self.calls, stages),
            workspace=None if workspace is None else workspace.native,
        )
        self.packed_weights_bytes: int = self._program.packed_bytes
        self._released = _release_constants(graph, self._program.released_constants)
        self._run = self._program.run
        self._has_one_output = len(graph.outputs) == 1
        self._takes_integers = any(value.integers is not None for value in graph.inputs)
        self._gives_integers = any(result.integers is not None for result in graph.results)

    @property
    def input_names(self) -> list[str]:
        """The names of the inputs, in the order of a call."""
        return self.graph.input_names

    @property
    def output_names(self) -> list[str]:
        """The names of the outputs, in the order in which a call gives them."""
        return self.graph.output_names

    def __call__(self, *inputs: Any, out: Any = None, **named: Any) -> Any:
        """Run once: one NumPy array, or a list of them where the graph has several outputs.

        Inputs are given by position or by name, one named `out` by position. Those of float32 are
        arrays or CPU tensors of the graph's input shapes; one that is not C-contiguous is copied.
        Those of whole numbers are of any integer type or bool and are checked against the range
        that the graph declares. Outputs of whole numbers have the type of the module's. `out` is
        the array (or list of arrays) to write. TypeError or ValueError names the input that does
        not fit.
        """
        is_ready = not (named or self._takes_integers)
        for given in inputs:
            is_ready = is_ready and type(given) is np.ndarray and given.flags.c_contiguous
        if not is_ready:
            inputs = self._bound(inputs, named)
        targets = out if out is None or not self._has_one_output else [out]
        if self._gives_integers:
            results = arguments.given_back(self.graph.results, self._run(inputs))
            results = results if targets is None else arguments.written(results, targets)
        else:
            results = self._run(inputs) if targets is None else self._run(inputs, targets)
        return results[0] if self._has_one_output else results

    def named(self, *inputs: Any, **named: Any) -> dict[str, Array]:
        """Run once and return the outputs by their names; inputs as in a call."""
        results = self(*inputs, **named)
        return dict(
            zip(self.output_names, [results] if self._has_one_output else results, strict=True)
        )

    def _bound(self, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
        """The inputs as the native program takes them."""
        if named:
            inputs = arguments.bound(self.input_names, inputs, named)
        if len(inputs) != len(self.graph.inputs):  # the native program refuses it
            return inputs
        return tuple(map(arguments.prepared, self.graph.inputs, inputs))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the program to a file, which `load` makes a program of without torch.

        The file has the graph, the constants and the options of `compile`, and is a safetensors
        file; the package safetensors is needed. Where the graph that was given to `compile` is
        gone, packed constants are unpacked for it, which takes the memory of all of them meanwhile.
        ReleasedConstantError: there is no such graph, and `other_arithmetic` has packed sums.
        """
        program = self._program
        arrays = arrays_of(self.graph, self._released, lambda number: program.unpacked(number))
        write_program(self.graph, self.options, arrays, path)

    def __reduce__(self) -> Any:
        raise TypeError(
            "a CompiledProgram cannot be copied or pickled: it is native code over memory of this"
            " process; accepted: program.save(path) and ablation_executor.load(path), or the graph"
            " that was given to compile(), compiled again"
        )

    def profile(self, *inputs: Any, repeat: int = 10, **named: Any) -> Profile:
        """Run `repeat` times with a clock read around each call of the same loop."""
        times = np.zeros((repeat, len(self.calls)), np.int64)
        totals = np.zeros(repeat, np.int64)
        run_timed = self._program.run_timed
        inputs = self._bound(inputs, named)
        for row in range(repeat):
            start = perf_counter_ns()
            _, per_call, _ = run_timed(inputs)
            totals[row] = perf_counter_ns() - start
            times[row] = per_call
        return Profile(self.calls, times, totals)


def compile(
    graph: Graph,
    *,
    kernels: Mapping[str, str] | None = None,
    threads: int | None = None,
    plan: str = "greedy",
    share_rows: bool = True,
    other_arithmetic: bool = False,
    workspace: Workspace | None = None,
) -> CompiledProgram:
    """Compile a graph as it is given; `optimize` rewrites it first, for the fastest program.

    `kernels` names a kernel for an op ({"attention": "flash_simd_parallel"}); other ops take the
    best for their shapes. `threads` sets the kernels' thread count, which is the process's; None
    keeps it. A program runs on no more threads than it was compiled for: with fewer set since then
    it runs on those, with more a call raises ValueError. `plan` is greedy or naive. `share_rows`
    lets short calls whose rows are independent share one fork-join (see `stages`). `workspace` is
    memory to share with other programs; None gives the program its own. `graph` stays as it is and
    can be compiled again, with other kernels or another workspace. `other_arithmetic` lets products
    with a constant matrix be computed by Strassen's scheme where that is expected to be faster:
    with a larger error, bounded by the largest elements of both matrices (see
    `ablation_kernels.strassen`). ValueError for an unknown op, kernel or plan.
    """
    check_graph("compile", graph)
    if workspace is not None and not isinstance(workspace, Workspace):
        raise TypeError(
            f"compile: argument 'workspace' is {type(workspace).__name__}; accepted: a Workspace or"
            " None"
        )
    if threads is not None:
        ablation_kernels.set_num_threads(threads)
    threads = ablation_kernels.get_num_threads()
    planned = plan_program(
        graph,
        kernels=kernels,
        threads=threads,
        plan=plan,
        share_rows=share_rows,
        other_arithmetic=other_arithmetic,
    )
    if workspace is not None:
        workspace.share_constants(planned.graph)
    return CompiledProgram(
        planned.graph,
        planned.kernels,
        planned.memory,
        threads,
        planned.stages,
        workspace,
        Options(resolve_kernels(kernels), plan, share_rows, other_arithmetic),
    )


def plan_program(
    graph: Graph,
    *,
    kernels: Mapping[str, str] | None = None,
    threads: int,
    plan: str = "greedy",
    share_rows: bool = True,
    other_arithmetic: bool = False,
) -> ProgramPlan:
    """Plan what `compile` makes a program of, without reading a constant; arguments and errors are
    those of `compile`."""
    if plan not in PLANS:
        near = difflib.get_close_matches(plan, PLANS, n=1, cutoff=0.0)[0]
        raise ValueError(f"unknown plan {plan!r}; did you mean {near!r}? Plans: {', '.join(PLANS)}")
    graph = own_outputs(graph)
    # What passes have left unread would live as long as the program.
    graph.constants = Constants({value: graph.constants[value] for value in _read_constants(graph)})
    selected = select_kernels(graph, kernels, other_arithmetic)
    stages = row_stages(graph, selected) if share_rows and threads > 1 else []
    needs = scratch_requirements(graph, selected, threads, stages)
    memory = PLANS[plan](graph, needs, stages)
    return ProgramPlan(graph, selected, memory, threads, tuple(stages))


def op_times(graph: Graph, kernels: Mapping[str, str]) -> list[OpTime]:
    """Return the entry of each call in a profile, in running order."""
    category = categories(graph)
    return [
        OpTime(node.name, node.op, category[node], kernels[node.name])
        for node in graph.nodes
        if node.name in kernels
    ]


def own_outputs(graph: Graph) -> Graph:
    """A copy in which a call writes each output to memory of its own.

    An output that is an input, a constant, a reshape of one, or memory of another output is copied.
    """
    graph = graph.copy()
    roots = storage_roots(graph)
    taken: set[Value] = {*graph.inputs, *graph.constants}
    for position, value in enumerate(graph.outputs):
        if roots[value] in taken:
            graph.outputs[position] = _append_copy(graph, value)
        else:
            taken.add(roots[value])
    return graph


def _append_copy(graph: Graph, value: Value) -> Value:
    """Copy a value at the end of the graph: a permutation that changes nothing, of one axis."""
    builder = GraphBuilder(graph)
    flat = builder.node("reshape", [value], {"shape": (value.size,)})
    copy = builder.node("permute", [flat], {"perm": (0,)}, name=f"{value.name}.copy")
    return builder.node("reshape", [copy], {"shape": value.shape})


def _read_constants(graph: Graph) -> list[Value]:
    read = {value for node in graph.nodes for value in node.inputs}
    return [value for value in graph.constants if value in read]


def _release_constants(graph: Graph, numbers: Sequence[int]) -> dict[Value, Released]:
    """Let go of constants by their numbers in `_program_arguments`; where they may still be."""
    constants = _read_constants(graph)
    released = {}
    for number in numbers:
        value = constants[number - len(graph.inputs)]
        released[value] = Released(number, weakref.ref(graph.constants[value]))
        graph.constants.release(value)
    return released


def _program_arguments(
    graph: Graph, kernels: Mapping[str, str], memory: Plan
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """The values and calls of a native program, values numbered in the order of the list."""
    roots = storage_roots(graph)
    values: list[tuple[Any, ...]] = []
    numbers: dict[Value, int] = {}

    def define(value: Value, entry: tuple[Any, ...]) -> None:
        numbers[value] = len(values)
        values.append(entry)

    for value in graph.inputs:
        define(value, ("input", value.shape))
    for value in _read_constants(graph):
        define(value, ("constant", _constant(graph.constants[value])))
    owner = {}
    for value in graph.outputs:
        define(value, ("output", value.shape))
        owner[roots[value]] = value
    for node in graph.nodes:
        if not OPS[node.op].is_alias and node.output in memory.offsets:
            offset = memory.offsets[node.output]
            define(node.output, ("arena", node.output.shape, offset))
    for node in graph.nodes:
        if node.output not in numbers:
            source = owner.get(roots[node.output], roots[node.output])
            if source in numbers:
                define(node.output, ("alias", node.output.shape, numbers[source]))
    calls: list[tuple[Any, ...]] = [
        (
            kernels[node.name],
            [None if value is None else numbers[value] for value in node.inputs],
            numbers[node.output],
            call_attributes(node),
            memory.scratch_offsets.get(node.name, 0),
            node.name,
        )
        for node in graph.nodes
        if node.name in kernels
    ]
    return values, calls


def _stage_arguments(calls: Sequence[OpTime], stages: Sequence[Stage]) -> list[tuple[int, int]]:
    """First call and number of calls of each stage."""
    position = {call.name: index for index, call in enumerate(calls)}
    return [(position[stage[0]], len(stage)) for stage in stages]


def _constant(array: Array) -> Array:
    return np.ascontiguousarray(array, dtype=np.float32).reshape(array.shape)
