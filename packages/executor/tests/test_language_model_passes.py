"""The passes for what language models write out, and a whole decoder through all of them.

`run_pass` also checks that the result is valid and computes the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_graphs import inputs_of, nodes_of, ops_of, random, run_pass
from torch import Tensor, nn

from ablation_executor.bench.suites.lm_step.model import LanguageModel, make_model
from ablation_executor.bench.suites.lm_step.sizes import ModelShape
from ablation_executor.compiler import compile
from ablation_executor.exporter import export
from ablation_executor.interpreter import interpret
from ablation_executor.ir import Graph, GraphBuilder, Value, verify
from ablation_executor.ops import OPS
from ablation_executor.passes import optimize

SWAP = (0, 2, 1, 3)

# fuse_rms_norm


def norm_graph(
    *,
    swapped: bool = False,
    column: Any = 0.125,
    squared: str = "x",
    weight: tuple[int, ...] = (8,),
    eps: Any = 0.001,
    rows: tuple[int, ...] = (2, 3),
) -> Graph:
    """weight * (x * rsqrt(mean(x * x) + eps)), the operands of each product and sum in one order or
    the other."""
    builder = GraphBuilder()
    x = builder.input("x", (*rows, 8))
    given = builder.input("y", (*rows, 8)) if squared == "y" else x

    def commuted(op: str, a: Value, b: Value, name: str) -> Value:
        return builder.node(op, [b, a] if swapped else [a, b], name=name)

    squares = builder.node("mul", [given, given], name="squares")
    mean = builder.constant("column", np.broadcast_to(column, (8, 1)))
    kept = builder.node("matmul", [squares, mean], name="mean")
    total = commuted("add", kept, builder.constant("eps", eps), "sum")
    inverse = builder.node("rsqrt", [total], name="inverse")
    scaled = commuted("mul", x, inverse, "scaled")
    return builder.finish(commuted("mul", scaled, builder.constant("w", random(*weight)), "norm"))


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("rows", [(3,), (2, 3)])
def test_a_norm_that_is_written_out_becomes_one_node(rows: tuple[int, ...], swapped: bool) -> None:
    graph = norm_graph(rows=rows, swapped=swapped)
    assert ops_of(graph) == ["mul", "matmul", "add", "rsqrt", "mul", "mul"]
    after, log = run_pass("fuse_rms_norm", graph)
    assert log.fired("rms_norm") == log.fired("fuse_rms_norm") == 1
    shape = ", ".join(map(str, (*rows, 8)))
    eps = float(np.float32(0.001))
    assert nodes_of(after) == [f"%rms_norm = rms_norm(%x, %w, eps={eps})  # [{shape}]"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"column": 0.25}, "what the root is taken of is not a mean over the elements of a row"),
        ({"squared": "y"}, "the squares are those of y, which is not what is scaled"),
        ({"eps": random(3, 1)}, "eps is not a scalar constant"),
        ({"column": random(8, 1)}, None),
    ],
)
def test_what_is_no_norm_is_refused(changes: dict[str, Any], reason: str | None) -> None:
    """A root that is taken of no sum is nothing to speak of."""
    graph = norm_graph(**changes)
    after, log = run_pass("fuse_rms_norm", graph)
    assert log.fired("fuse_rms_norm") == 0 and ops_of(after) == ops_of(graph)
    assert log.refused("fuse_rms_norm") == ([("inverse", reason)] if reason else [])


def normed_and_added(change: str = "") -> Graph:
    """rms_norm(x, weight) + y; `change` says what is wrong with the sum."""
    builder = GraphBuilder()
    x, y = builder.input("x", (2, 3, 8)), builder.input("y", (8,) if change == "row" else (2, 3, 8))
    taken = [builder.input("z", (2, 3, 8))] if change == "taken" else []
    normed = builder.node("rms_norm", [x, builder.constant("weight", random(8)), *taken])
    operands = {"swapped": [y, normed], "twice": [normed, normed]}.get(change, [normed, y])
    out = builder.node("add", operands)
    return builder.finish(out, *[normed] * (change == "read"))


@pytest.mark.parametrize("change", ["", "swapped"])
def test_a_residual_behind_a_norm_is_its_addend(change: str) -> None:
    after, log = run_pass("fuse_rms_norm", normed_and_added(change))
    assert log.fired("add_to_norm") == 1
    assert nodes_of(after) == ["%rms_norm = rms_norm(%x, %weight, addend=%y)  # [2, 3, 8]"]


@pytest.mark.parametrize("change", ["row", "twice", "taken", "read"])
def test_other_sums_stay_behind_a_norm(change: str) -> None:
    graph = normed_and_added(change)
    after, _ = run_pass("fuse_rms_norm", graph)
    assert ops_of(after) == ops_of(graph)


def test_a_norm_whose_root_is_read_is_refused() -> None:
    graph = norm_graph()
    graph.outputs += [node.output for node in graph.nodes if node.name == "inverse"]
    _, log = run_pass("fuse_rms_norm", graph)
    assert log.refused("fuse_rms_norm") == [
        ("inverse", "inverse is also read by the graph's output")
    ]


def test_a_norm_without_a_vector_of_weights_gets_ones() -> None:
    read = norm_graph()
    read.outputs += [node.output for node in read.nodes if node.name == "scaled"]
    for graph in (read, norm_graph(weight=(3, 8))):
        after, log = run_pass("fuse_rms_norm", graph)
        assert log.fired("fuse_rms_norm") == 1
        assert ops_of(after) == ["rms_norm", "mul"]
        assert nodes_of(after)[0].startswith("%rms_norm = rms_norm(%x, %ones")


# fuse_rotary


def rotary_graph(
    *,
    halves: tuple[int, int] = (0, 1),
    parts: tuple[int, ...] = (1, 0),
    signs: tuple[str, str] = ("sub", "add"),
    tables: tuple[str, str, str, str] = ("cos", "sin", "sin", "cos"),
    table_shape: tuple[int, ...] = (3, 4),
    swapped: bool = False,
    permuted: tuple[int, ...] | None = None,
) -> Graph:
    """stack(e * cos - o * sin, e * sin + o * cos) over x (2, 3, 3, 8), as export writes it."""
    builder = GraphBuilder()
    x = builder.input("x", (2, 3, 3, 8))
    if permuted is not None:
        x = builder.node("permute", [x], {"perm": permuted}, name="permuted")
    pairs = builder.node("reshape", [x], {"shape": (2, 3, 3, 4, 2)})
    turned = []
    for half in halves:
        piece = builder.node("slice", [pairs], {"axis": 4, "start": half, "stop": half + 1})
        turned.append(builder.node("reshape", [piece], {"shape": (2, 3, 3, 4)}))
    angles = {name: builder.constant(name, random(*table_shape)) for name in ("cos", "sin")}
    products = []
    for numbers, table in zip((*turned, *turned), tables, strict=True):
        operands = [numbers, angles[table]]
        products.append(builder.node("mul", operands[::-1] if swapped else operands))
    first = builder.node(signs[0], products[:2], name="first")
    second = builder.node(signs[1], products[:1:-1] if swapped else products[2:], name="second")
    stacked = [
        builder.node("reshape", [part], {"shape": (2, 3, 3, 4, 1)}) for part in (first, second)
    ]
    condition = builder.constant("is_part", np.array(parts))
    joined = builder.node("where", [condition, *stacked], name="joined")
    return builder.finish(builder.node("reshape", [joined], {"shape": (2, 3, 3, 8)}, name="flat"))


@pytest.mark.parametrize("swapped", [False, True])
def test_a_rotation_that_is_written_out_becomes_one_node(swapped: bool) -> None:
    graph = rotary_graph(swapped=swapped)
    assert len(graph.nodes) == 15
    after, log = run_pass("fuse_rotary", graph)
    assert log.fired("rotary") == log.fired("fuse_rotary") == 1
    assert nodes_of(after) == ["%rotary = rotary(%x, %cos, %sin)  # [2, 3, 3, 8]"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"parts": (0, 1)}, "the cosines are no table"),
        ({"signs": ("add", "add")}, "the sines are no table"),
        ({"signs": ("sub", "sub")}, "the cosines are no table"),
        ({"tables": ("cos", "sin", "cos", "sin")}, "the cosines are no table"),
        ({"halves": (1, 0)}, "the cosines are no table"),
        ({"halves": (0, 0)}, "the elements are not turned in pairs"),
    ],
)
def test_what_is_no_rotation_is_refused(changes: dict[str, Any], reason: str) -> None:
    graph = rotary_graph(**changes)
    after, log = run_pass("fuse_rotary", graph)
    assert log.fired("fuse_rotary") == 0 and ops_of(after) == ops_of(graph)
    ((name, given),) = log.refused("fuse_rotary")
    assert name == "flat" and given.startswith(reason)


def test_angles_of_all_positions_alike_get_a_row_each() -> None:
    after, log = run_pass("fuse_rotary", rotary_graph(table_shape=(1, 4)))
    assert log.fired("fuse_rotary") == 1 and ops_of(after) == ["rotary"]
    assert [value.shape for value in after.constants] == [(3, 4), (3, 4)]


# fuse_silu_mul


def gated(
    *, swapped: bool = False, shape: tuple[int, ...] = (2, 3, 4), twice: bool = False
) -> Graph:
    builder = GraphBuilder()
    a, b = builder.input("a", (2, 3, 4)), builder.input("b", shape)
    gate = builder.node("silu", [a], name="gate")
    operands = [gate, gate if twice else b]
    return builder.finish(builder.node("mul", operands[::-1] if swapped else operands, name="out"))


@pytest.mark.parametrize("swapped", [False, True])
def test_a_gate_joins_its_product(swapped: bool) -> None:
    after, log = run_pass("fuse_silu_mul", gated(swapped=swapped))
    assert log.fired("silu_mul") == log.fired("fuse_silu_mul") == 1
    assert nodes_of(after) == ["%silu_mul = silu_mul(%a, %b)  # [2, 3, 4]"]


@pytest.mark.parametrize("changes", [{"shape": (4,)}, {"twice": True}])
def test_other_products_of_a_silu_stay(changes: dict[str, Any]) -> None:
    _, log = run_pass("fuse_silu_mul", gated(**changes))
    assert log.fired("fuse_silu_mul") == 0 and not log.refused("fuse_silu_mul")


def test_a_gate_that_is_read_is_refused() -> None:
    graph = gated()
    graph.outputs.append(graph.nodes[0].output)
    _, log = run_pass("fuse_silu_mul", graph)
    assert log.refused("fuse_silu_mul") == [("out", "gate is also read by the graph's output")]


# direct_layout


def turned_and_permuted(perm: tuple[int, ...] = SWAP, layout: str = "bhsd") -> Graph:
    """rotary(permute(x))."""
    builder = GraphBuilder()
    x = builder.node("permute", [builder.input("x", (2, 3, 3, 4))], {"perm": perm}, name="permuted")
    tables = [builder.constant(name, random(3, 2)) for name in ("cos", "sin")]
    how = {"layout": layout, "pairs": "halves"}
    return builder.finish(builder.node("rotary", [x, *tables], how, name="turned"))


def test_a_rotation_goes_before_its_permute() -> None:
    after, log = run_pass("direct_layout", turned_and_permuted())
    assert log.fired("rotary_before_permute") == 1
    assert nodes_of(after) == [
        "%rotary = rotary(%x, %cos, %sin, layout=bshd, pairs=halves)  # [2, 3, 3, 4]",
        "%permute = permute(%rotary, perm=(0, 2, 1, 3))  # [2, 3, 3, 4]",
    ]


def test_a_norm_of_heads_goes_before_its_permute() -> None:
    builder = GraphBuilder()
    x = builder.node("permute", [builder.input("x", (2, 3, 3, 4))], {"perm": SWAP})
    normed = builder.node("rms_norm", [x, builder.constant("w", random(4))], {"eps": 0.5})
    after, log = run_pass("direct_layout", builder.finish(normed))
    assert log.fired("norm_before_permute") == 1
    assert ops_of(after) == ["rms_norm", "permute"]


@pytest.mark.parametrize(("perm", "layout"), [((1, 0, 2, 3), "bhsd"), (SWAP, "bshd")])
def test_other_rotations_stay_behind_their_permute(perm: tuple[int, ...], layout: str) -> None:
    _, log = run_pass("direct_layout", turned_and_permuted(perm, layout))
    assert log.fired("direct_layout") == 0


def test_a_permute_that_is_read_keeps_its_rotation() -> None:
    graph = turned_and_permuted()
    graph.outputs.append(graph.nodes[0].output)
    _, log = run_pass("direct_layout", graph)
    assert log.fired("rotary_before_permute") == 0


# A whole decoder

SHAPE = ModelShape(d_model=32, d_ff=48, n_layers=2, n_heads=2, vocab=41, context=13)
BLOCK = ["rms_norm", "matmul", "rotary", "attention", "matmul"]
BLOCK += ["rms_norm", *["matmul"] * 2, "silu_mul", "matmul"]


class Decoder(nn.Module):
    """All of a language model behind its embedding."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.decode(x)


def decoder_graph() -> tuple[Decoder, Graph, Tensor]:
    module = Decoder(make_model(SHAPE, "sdpa", 3)).eval()
    x = torch.randn(2, SHAPE.context, SHAPE.d_model, generator=torch.Generator().manual_seed(1))
    return module, export(module, (x,)), x


def test_a_language_model_becomes_ten_calls_a_block() -> None:
    module, graph, x = decoder_graph()
    after, log = optimize(graph)
    verify(after)
    assert log.fired("fuse_rms_norm") == 5 and log.fired("fuse_silu_mul") == 2
    assert log.fired("fuse_rotary") == log.fired("rotary_before_permute") == 4
    calls = [node for node in after.nodes if not OPS[node.op].is_alias]
    assert [node.op for node in calls] == [*BLOCK, *BLOCK, "rms_norm", "matmul"]
    for node in calls:
        if node.op == "attention":
            assert node.attribute("layout") == "qkv"
        if node.op == "rotary":
            assert node.attribute("layout") == "bshd" and node.attribute("n_heads") == 4
    with torch.no_grad():
        want = module.double()(x.double()).numpy()
    # Scalars and the columns of means are float32: 1e-7 of the largest element.
    for each in (graph, after):
        got = interpret(each, [x], np.float64)[0]
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-7 * np.abs(want).max())
        for threads in (1, 2):
            got = compile(each, threads=threads)(x)
            np.testing.assert_allclose(got, want, rtol=0, atol=3e-6 * np.abs(want).max())


def test_every_subset_of_these_passes_computes_the_same() -> None:
    _, graph, _ = decoder_graph()
    inputs = inputs_of(graph)
    want = interpret(graph, inputs, np.float64)[0]
    names = ("fuse_rms_norm", "fuse_rotary", "fuse_silu_mul", "fuse_attention", "direct_layout")
    sizes = set()
    for chosen in range(2 ** len(names)):
        passes = [name for bit, name in enumerate(names) if chosen >> bit & 1]
        after, _ = optimize(graph, passes)
        verify(after)
        got = interpret(after, inputs, np.float64)[0]
        np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-8)
        sizes.add(len(after.nodes))
    assert max(sizes) == len(graph.nodes) and min(sizes) < len(graph.nodes) / 2
