"""Compiled programs and the per-op loop against the interpreter, their errors, their profiles."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from small_graphs import attention_graph, inputs_of, random

import ablation_kernels
from ablation_executor.bench.suites.block.ladder import VARIANTS, Rung
from ablation_executor.compiler import CompiledProgram, compile, own_outputs
from ablation_executor.interpreter import interpret
from ablation_executor.ir import Graph, GraphBuilder, Value, verify
from ablation_executor.memory import verify_plan
from ablation_executor.ops import CATEGORIES, OPS
from ablation_executor.passes import optimize
from ablation_executor.per_op import PerOp
from ablation_executor.selection import scratch_requirements


@pytest.fixture(autouse=True)
def keep_thread_count() -> Iterator[None]:
    before = ablation_kernels.get_num_threads()
    yield
    ablation_kernels.set_num_threads(before)


def block_graph(seq_len: int = 7, width: int = 16, heads: int = 2) -> Graph:
    """A pre-norm block as export writes it."""
    builder = GraphBuilder()
    x = builder.input("x", (1, seq_len, width))

    def norm(value: Value) -> Value:
        return builder.node(
            "layer_norm",
            [value, builder.constant("w", random(width)), builder.constant("b", random(width))],
        )

    def linear(value: Value, rows: int, columns: int) -> Value:
        weight = builder.constant("weight", random(columns, rows) * 0.3)
        weight = builder.node("permute", [weight], {"perm": (1, 0)})
        product = builder.node("matmul", [value, weight])
        return builder.node("add", [product, builder.constant("bias", random(columns))])

    def split(value: Value) -> Value:
        shape = (1, seq_len, heads, width // heads)
        value = builder.node("reshape", [value], {"shape": shape})
        return builder.node("permute", [value], {"perm": (0, 2, 1, 3)})

    normed = norm(x)
    q, k, v = (split(linear(normed, width, width)) for _ in range(3))
    scores = builder.node("matmul", [q, builder.node("permute", [k], {"perm": (0, 1, 3, 2)})])
    scores = builder.node("div", [scores, builder.constant("root", 2.0)])
    context = builder.node("matmul", [builder.node("softmax", [scores]), v])
    context = builder.node("permute", [context], {"perm": (0, 2, 1, 3)})
    context = builder.node("reshape", [context], {"shape": (1, seq_len, width)})
    x = builder.node("add", [x, linear(context, width, width)])
    hidden = builder.node("relu", [linear(norm(x), width, 4 * width)])
    return builder.finish(builder.node("add", [x, linear(hidden, 4 * width, width)]))


def assert_close(got: Any, want: Any) -> None:
    want = np.asarray(want)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())


OURS = [variant for variant in VARIANTS if variant.runtime != "torch"]


@pytest.mark.parametrize("variant", OURS, ids=lambda variant: variant.name)
def test_every_variant_computes_the_block(variant: Rung) -> None:
    source = block_graph()
    inputs = inputs_of(source)
    want = interpret(source, inputs, np.float64)[0]
    graph, _ = optimize(source, variant.passes)
    if variant.executor == "per_op":
        looped = PerOp(graph, variant.runtime, variant.kernels, threads=2)
        assert_close(looped(*inputs), want)
        return
    for plan in ("greedy", "naive"):
        program = compile(
            graph,
            kernels=variant.kernels,
            threads=2,
            plan=plan,
            share_rows=variant.share_rows,
        )
        assert_close(program(*inputs), want)
        np.testing.assert_array_equal(program(*inputs), program(*inputs))
        needs = scratch_requirements(program.graph, program.kernels, 2)
        verify_plan(program.graph, program.memory, needs)
        for node in program.graph.nodes:
            if not OPS[node.op].is_alias:
                chosen = program.kernels[node.name]
                assert chosen == variant.kernels.get(node.op, chosen)
                assert chosen.startswith(node.op)


def test_no_passes_run_the_transposes_of_the_weights() -> None:
    program = compile(block_graph())
    weights = [node for node in program.graph.nodes if node.op == "permute"]
    assert len(weights) == len([call for call in program.calls if call.op == "permute"]) == 6 + 5


def test_greedy_takes_less_memory_than_naive() -> None:
    graph, _ = optimize(block_graph())
    greedy, naive = compile(graph), compile(graph, plan="naive")
    assert greedy.arena_bytes < naive.arena_bytes
    assert greedy.arena_bytes == greedy.memory.arena_bytes


def test_sizes_that_a_program_reports() -> None:
    graph, _ = optimize(block_graph())
    program = compile(graph, kernels={"attention": "flash_simd_parallel"}, threads=2)
    (attention,) = [node for node in program.graph.nodes if node.op == "attention"]
    assert program.attention_scratch_bytes == ablation_kernels.scratch_bytes(
        "attention_flash_simd_parallel", attention.shapes, {"scale": 0.5, "layout": "qkv"}, 2
    )
    assert program.constant_bytes == 4 * (12 * 16 * 16 + 13 * 16)
    assert compile(block_graph()).attention_scratch_bytes == 0


def test_a_kernel_is_named_in_full_or_without_its_op() -> None:
    graph = attention_graph()
    for name in ("softmax_scalar", "scalar"):
        program = compile(graph, kernels={"softmax": name})
        assert program.kernels["softmax"] == "softmax_scalar"
    assert PerOp(graph, "kernels", {"softmax": "scalar"}).kernels["softmax"] == "softmax_scalar"


@pytest.mark.parametrize(
    ("kernels", "message"),
    [
        ({"softmax": "simt"}, "softmax has no kernel 'simt'; did you mean 'softmax_simd'?"),
        ({"soft_max": "simd"}, "unknown op 'soft_max'; did you mean 'softmax'?"),
        ({"softmax": "layer_norm_simd"}, "softmax has no kernel 'layer_norm_simd'"),
        ({"reshape": "scalar"}, "unknown op 'reshape'"),
    ],
)
def test_a_wrong_kernel_is_refused(kernels: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compile(attention_graph(), kernels=kernels)
    with pytest.raises(ValueError, match=message):
        PerOp(attention_graph(), "kernels", kernels)


def test_a_wrong_plan_or_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown plan 'gready'; did you mean 'greedy'"):
        compile(attention_graph(), plan="gready")
    with pytest.raises(ValueError, match="backend is 'torch'"):
        PerOp(attention_graph(), "torch")
    with pytest.raises(ValueError, match="numpy backend"):
        PerOp(attention_graph(), "numpy", {"softmax": "simd"})


def awkward_outputs() -> Graph:
    """Outputs that are an input, a constant, reshapes, twice the same, and read further on."""
    builder = GraphBuilder()
    x = builder.input("x", (2, 3))
    constant = builder.constant("c", random(4))
    scalar = builder.constant("s", 3.0)
    made = builder.node("relu", [x])
    flat = builder.node("reshape", [made], {"shape": (6,)})
    back = builder.node("reshape", [flat], {"shape": (3, 2)})
    given = builder.node("reshape", [x], {"shape": (3, 2)})
    further = builder.node("add", [back, back])
    tail = builder.node("reshape", [builder.node("gelu", [further])], {"shape": (1, 6)})
    return builder.finish(x, constant, scalar, made, back, given, back, further, tail, tail, x)


def test_outputs_of_every_kind() -> None:
    graph = awkward_outputs()
    inputs = inputs_of(graph)
    want = interpret(graph, inputs)
    program = compile(graph)
    verify(program.graph)
    for results in (program(*inputs), PerOp(graph)(*inputs), PerOp(graph, "kernels")(*inputs)):
        assert len(results) == len(want)
        for got, expected in zip(results, want, strict=True):
            assert got.shape == expected.shape
            np.testing.assert_allclose(got, expected, rtol=1e-5)
    results = program(*inputs)
    assert len({result.ctypes.data for result in results}) == len(results)
    assert not any(np.shares_memory(result, inputs[0]) for result in results)


def test_own_outputs_copies_only_where_it_must() -> None:
    graph = attention_graph()
    assert str(own_outputs(graph)) == str(graph)
    copies = [node for node in own_outputs(awkward_outputs()).nodes if node.name.count("copy")]
    assert len(copies) == 8


def test_inputs_may_be_torch_tensors_and_out_is_written() -> None:
    graph, _ = optimize(block_graph())
    inputs = inputs_of(graph)
    program, looped = compile(graph), PerOp(graph)
    want = program(*inputs)
    tensors = [torch.from_numpy(array) for array in inputs]
    np.testing.assert_array_equal(program(*tensors), want)
    for each in (program, looped):
        out = np.full(want.shape, np.nan, np.float32)
        assert each(*inputs, out=out) is out or np.shares_memory(each(*inputs, out=out), out)
        assert_close(out, want)
        target = torch.full(want.shape, torch.nan)
        each(*tensors, out=target)
        assert_close(target.numpy(), want)


def test_tensors_whose_storage_was_made_smaller_are_refused() -> None:
    builder = GraphBuilder()
    x = builder.input("x", (1000,))
    program = compile(builder.finish(builder.node("relu", [x])))
    tensor = torch.ones(1000, requires_grad=True)
    assert program(tensor).tolist() == [1.0] * 1000
    tensor.detach().untyped_storage().resize_(8)
    for call in (program, program.profile):
        with pytest.raises(ValueError, match="storage of 8 bytes"):
            call(tensor)


def test_out_of_several_outputs_is_a_list() -> None:
    builder = GraphBuilder()
    x = builder.input("x", (3,))
    graph = builder.finish(builder.node("relu", [x]), builder.node("add", [x, x]))
    inputs = inputs_of(graph)
    for each in (compile(graph), PerOp(graph)):
        outs = [np.empty(3, np.float32), np.empty(3, np.float32)]
        each(*inputs, out=outs)
        for got, want in zip(outs, interpret(graph, inputs), strict=True):
            np.testing.assert_array_equal(got, want)


def test_results_of_two_calls_do_not_share_memory() -> None:
    program = compile(attention_graph())
    first = program(*inputs_of(program.graph))
    kept = first.copy()
    program(*inputs_of(program.graph))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    ("inputs", "error"),
    [
        ((), ValueError),
        ((random(2, 3), random(2, 3)), ValueError),
        ((random(3, 2),), ValueError),
        ((random(2, 3).astype(np.float64),), (TypeError, ValueError)),
    ],
)
def test_wrong_inputs_are_refused(inputs: tuple[Any, ...], error: Any) -> None:
    builder = GraphBuilder()
    graph = builder.finish(builder.node("relu", [builder.input("x", (2, 3))]))
    for each in (compile(graph), PerOp(graph), PerOp(graph, "kernels")):
        with pytest.raises(error):
            each(*inputs)


def test_a_strided_output_is_refused_by_the_program() -> None:
    builder = GraphBuilder()
    graph = builder.finish(builder.node("relu", [builder.input("x", (2, 3))]))
    with pytest.raises(ValueError, match="C-contiguous"):
        compile(graph)(random(2, 3), out=random(2, 6)[:, ::2])


def test_a_profile_closes() -> None:
    graph, _ = optimize(block_graph())
    inputs = inputs_of(graph)
    for each in (compile(graph), PerOp(graph), PerOp(graph, "kernels")):
        profile = each.profile(*inputs, repeat=4)
        calls = [node for node in graph.nodes if not OPS[node.op].is_alias]
        assert [op.name for op in profile.ops] == [node.name for node in calls]
        assert [op.op for op in profile.ops] == [node.op for node in calls]
        assert [op.kernel for op in profile.ops] == [each.kernels[node.name] for node in calls]
        assert profile.times_ns.shape == (4, len(calls)) and profile.total_ns.shape == (4,)
        assert profile.times_ns.dtype == profile.total_ns.dtype == np.int64
        parts = profile.category_ns()
        assert set(parts) == {*CATEGORIES, "dispatch"}
        np.testing.assert_array_equal(sum(parts.values()), profile.total_ns)
        assert (profile.times_ns >= 0).all() and (parts["dispatch"] > 0).all()
        assert "the whole call" in str(profile) and calls[0].name in str(profile)


def test_the_program_keeps_its_constants_alive() -> None:
    graph, _ = optimize(block_graph())
    inputs = inputs_of(graph)
    want = interpret(graph, inputs, np.float64)[0]
    program = compile(graph)
    graph_reference = weakref.ref(graph)
    del graph
    gc.collect()
    assert graph_reference() is None
    garbage = [np.full((64, 64), 9.0, np.float32) for _ in range(200)]
    assert_close(program(*inputs), want)
    assert len(garbage) == 200


def test_packed_constants_live_no_longer_than_the_caller_keeps_them() -> None:
    """The joined weight of queries, keys and values is the graph's own: packed, it is freed."""
    graph, _ = optimize(block_graph())
    inputs = inputs_of(graph)
    want = interpret(graph, inputs, np.float64)[0]
    program = compile(graph, kernels={"matmul": "packed_simd_parallel"})
    weights = [weakref.ref(array) for array in graph.constants.values() if array.ndim == 2]
    del graph
    gc.collect()
    assert len(weights) == 4 and all(array() is None for array in weights)
    assert program.packed_weights_bytes >= 4 * 12 * 16 * 16
    assert_close(program(*inputs), want)
    matmul = next(node for node in program.graph.nodes if node.op == "matmul")
    assert matmul.inputs[1] is not None
    assert program.graph.constants.is_released(matmul.inputs[1])


def test_the_per_op_loop_frees_values_after_their_last_reader() -> None:
    builder = GraphBuilder()
    value = builder.input("x", (3,))
    for _ in range(4):
        value = builder.node("relu", [value])
    looped = PerOp(builder.finish(value))
    released = [number for step in looped._steps for number in step.release]
    assert sorted(released) == [0, 1, 2, 3]


def test_threads_are_the_process_setting() -> None:
    program = compile(attention_graph(), threads=2)
    assert isinstance(program, CompiledProgram) and program.threads == 2
    assert ablation_kernels.get_num_threads() == 2
    assert compile(attention_graph(), threads=None).threads == 2
    assert compile(attention_graph(), threads=1).threads == 1


def test_attention_of_each_kernel_with_mask_and_causal() -> None:
    names = [info.name for info in ablation_kernels.op_table() if info.op == "attention"]
    assert len(names) == 5
    for mask in (random(4, 5), None):
        where = None if mask is not None else (np.tri(4, 5, dtype=np.float32), -np.inf)
        source = attention_graph(mask=mask, where=where)
        graph, log = optimize(source)
        assert log.fired("attention") == 1
        inputs = inputs_of(source)
        want = interpret(source, inputs, np.float64)[0]
        for name in names:
            assert_close(compile(graph, kernels={"attention": name}, threads=2)(*inputs), want)
            assert_close(PerOp(graph, "kernels", {"attention": name})(*inputs), want)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(
    ("layout", "shapes"),
    [
        ("bshd", [(2, 4, 3, 8), (2, 5, 3, 8), (2, 5, 3, 8)]),
        ("qkv", [(2, 5, 3, 3, 8)]),
    ],
)
def test_attention_layouts_of_each_kernel(
    layout: str, shapes: list[tuple[int, ...]], masked: bool
) -> None:
    builder = GraphBuilder()
    slots: list[Value | None] = [builder.input("x", shape) for shape in shapes]
    slots += [None] * (3 - len(slots))
    slots.append(builder.constant("mask", random(shapes[0][1], 5)) if masked else None)
    graph = builder.finish(builder.node("attention", slots, {"layout": layout, "causal": True}))
    inputs = inputs_of(graph)
    want = interpret(graph, inputs, np.float64)[0]
    for name in [info.name for info in ablation_kernels.op_table() if info.op == "attention"]:
        assert_close(compile(graph, kernels={"attention": name}, threads=2)(*inputs), want)
        assert_close(PerOp(graph, "kernels", {"attention": name})(*inputs), want)
    assert_close(PerOp(graph)(*inputs), want)
