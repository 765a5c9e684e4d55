"""Compiled programs that share a workspace: same results, constants once, memory given back."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from small_graphs import inputs_of, random
from test_compile import block_graph

import ablation_kernels
from ablation_executor import Workspace
from ablation_executor.compiler import CompiledProgram, compile
from ablation_executor.constants import ReleasedConstantError
from ablation_executor.interpreter import interpret
from ablation_executor.ir import Array, Graph, GraphBuilder
from ablation_executor.passes import DEFAULT_PASSES, optimize
from ablation_executor.per_op import PerOp

PACKED = {"matmul": "packed_simd_parallel"}
UNPACKED = {"matmul": "blas_parallel"}
FOLDED = ("absorb_into_matmul", "fold_constants")


@pytest.fixture(autouse=True)
def keep_thread_count() -> Iterator[None]:
    before = ablation_kernels.get_num_threads()
    yield
    ablation_kernels.set_num_threads(before)


def lattice(seed: int) -> list[tuple[tuple[str, ...], dict[str, str], int, bool, str]]:
    """Passes, kernels, threads, shared rows and plan of programs that are unlike, shuffled."""
    generator = np.random.default_rng(seed)
    found = []
    for passes in ((), FOLDED, DEFAULT_PASSES[:-1], DEFAULT_PASSES):
        for kernels in (PACKED, UNPACKED, {**PACKED, "softmax": "scalar"}):
            for threads, share_rows in ((1, False), (2, False), (2, True)):
                plan = str(generator.choice(["greedy", "naive"]))
                found.append((passes, kernels, threads, share_rows, plan))
    return [found[index] for index in generator.permutation(len(found))]


@pytest.mark.parametrize("seed", range(3))
def test_programs_that_share_give_the_bits_of_programs_apart(seed: int) -> None:
    source, workspace = block_graph(seq_len=13 + seed, width=32, heads=4), Workspace()
    (x,) = inputs_of(source)
    generator = np.random.default_rng(seed)
    built: list[tuple[CompiledProgram, Array]] = []
    for passes, kernels, threads, share_rows, plan in lattice(seed):
        graph, _ = optimize(source, passes)
        options: dict[str, Any] = {"kernels": kernels, "threads": threads, "plan": plan}
        alone = compile(graph, share_rows=share_rows, **options)
        program = compile(graph, share_rows=share_rows, workspace=workspace, **options)
        assert program.arena_bytes == alone.arena_bytes
        assert program.packed_weights_bytes == alone.packed_weights_bytes
        built.append((program, alone(x)))
        for index in generator.permutation(len(built))[:5]:
            program, expected = built[index]
            ablation_kernels.set_num_threads(program.threads)
            np.testing.assert_array_equal(program(x), expected)
    assert workspace.arena_bytes == max(program.arena_bytes for program, _ in built)


def arrays_of(graph: Graph) -> dict[int, Array]:
    return {id(array): array for array in graph.constants.values()}


@pytest.mark.parametrize("passes", [(), FOLDED, DEFAULT_PASSES], ids=["none", "folded", "all"])
def test_constants_of_graphs_that_were_optimized_apart_are_one(passes: tuple[str, ...]) -> None:
    """Folded, absorbed and joined weights are new arrays in every optimize, with equal bits."""
    source, workspace = block_graph(), Workspace()
    graphs = [optimize(source, passes)[0] for _ in range(3)]
    programs = [compile(graph, kernels=PACKED, workspace=workspace) for graph in graphs]
    first = arrays_of(programs[0].graph)
    assert all(arrays_of(program.graph).keys() == first.keys() for program in programs)
    assert workspace.constant_bytes == sum(array.nbytes for array in first.values())
    assert workspace.packed_bytes == programs[0].packed_weights_bytes
    if passes == DEFAULT_PASSES:
        assert not arrays_of(graphs[1]).keys() >= first.keys(), "optimize joins weights anew"
        assert workspace.packed_bytes > 0


def constant_graph(array: Array) -> Graph:
    builder = GraphBuilder()
    x = builder.input("x", array.shape)
    return builder.finish(builder.node("add", [x, builder.constant("c", array)]))


def shares(one: Array, other: Array) -> bool:
    workspace = Workspace()
    graphs = [constant_graph(one), constant_graph(other)]
    for graph in graphs:
        workspace.share_constants(graph)
    kept = [arrays_of(graph) for graph in graphs]
    for given, graph in zip((one, other), graphs, strict=True):
        (held,) = graph.constants.values()
        assert held.shape == given.shape and held.tobytes() == given.tobytes()
    return kept[0].keys() == kept[1].keys()


@pytest.mark.parametrize("size", [1, 63, 64, 65, 5000])
def test_constants_are_shared_if_every_bit_is_equal(size: int) -> None:
    array = random(size)
    assert shares(array, array.copy())
    for index in {0, size // 2, size - 1}:
        other = array.copy()
        other[index] = np.nextafter(other[index], np.float32(9))
        assert not shares(array, other)
    assert shares(np.full(size, np.nan, np.float32), np.full(size, np.nan, np.float32))
    assert not shares(np.zeros(size, np.float32), np.full(size, -0.0, np.float32))
    assert not shares(array.reshape(1, size), array)


def test_one_graph_is_compiled_with_many_kernels() -> None:
    source, workspace = block_graph(), Workspace()
    graph, _ = optimize(source)
    workspace.share_constants(graph)
    inputs = inputs_of(source)
    want = interpret(source, inputs, np.float64)[0]
    held = arrays_of(graph)
    programs: list[Any] = [
        compile(graph, kernels=kernels, workspace=workspace)
        for kernels in (PACKED, UNPACKED, {**PACKED, "layer_norm": "scalar"}, None)
    ]
    programs.append(PerOp(graph, "kernels", UNPACKED))
    for program in programs:
        np.testing.assert_allclose(program(*inputs), want, rtol=1e-4, atol=1e-5)
        assert arrays_of(program.graph).keys() == held.keys()
    assert workspace.constant_bytes == sum(array.nbytes for array in held.values())


def test_the_graph_of_a_program_has_all_constants() -> None:
    graph, _ = optimize(block_graph())
    (x,) = inputs_of(graph)
    alone = compile(graph, kernels=PACKED)
    with pytest.raises(ReleasedConstantError):
        interpret(alone.graph, [x])
    program = compile(graph, kernels=PACKED, workspace=Workspace())
    np.testing.assert_array_equal(interpret(program.graph, [x])[0], interpret(graph, [x])[0])
    np.testing.assert_array_equal(compile(program.graph, kernels=PACKED)(x), alone(x))


def test_memory_goes_with_the_last_program_and_graph() -> None:
    source, workspace = block_graph(), Workspace()
    graph, _ = optimize(source)
    workspace.share_constants(graph)
    programs = [compile(graph, kernels=PACKED, workspace=workspace) for _ in range(3)]
    constants, packed = workspace.constant_bytes, workspace.packed_bytes
    assert constants > 0 and packed > 0
    del graph, source, programs[1:]
    gc.collect()
    assert (workspace.constant_bytes, workspace.packed_bytes) == (constants, packed)
    programs.clear()
    gc.collect()
    assert (workspace.constant_bytes, workspace.packed_bytes) == (0, 0)


@pytest.mark.parametrize("given", [3, ablation_kernels.Workspace(), "greedy"])
def test_what_is_no_workspace(given: Any) -> None:
    with pytest.raises(TypeError, match=r"compile: argument 'workspace' .*accepted: a Workspace"):
        compile(block_graph(), workspace=given)
