"""Small graphs and inputs that several test files share."""

from __future__ import annotations

import numpy as np

from ablation_executor.interpreter import interpret
from ablation_executor.ir import Array, Graph, GraphBuilder, Value, verify
from ablation_executor.passes import PASSES
from ablation_executor.rewrite import RewriteLog

GENERATOR = np.random.default_rng(7)


def random(*shape: int) -> Array:
    """Float32 numbers around 0, other ones in each call."""
    return GENERATOR.standard_normal(shape).astype(np.float32)


def inputs_of(graph: Graph) -> list[Array]:
    """Random inputs that fit a graph."""
    return [random(*value.shape) for value in graph.inputs]


def run_pass(name: str, graph: Graph, tolerance: float = 1e-12) -> tuple[Graph, RewriteLog]:
    """Run one pass; the graph stays valid and computes the same, in float64."""
    before = str(graph)
    log = RewriteLog()
    after = PASSES[name](graph, log)
    verify(after)
    assert str(graph) == before, "a pass must not change the graph it is given"
    inputs = inputs_of(graph)
    for want, got in zip(
        interpret(graph, inputs, np.float64), interpret(after, inputs, np.float64), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
    return after, log


def ops_of(graph: Graph) -> list[str]:
    """The ops in running order."""
    return [node.op for node in graph.nodes]


def nodes_of(graph: Graph) -> list[str]:
    """The printed nodes alone."""
    return [line.strip() for line in str(graph).splitlines() if " = " in line]


def attention_graph(
    *,
    batch: tuple[int, ...] = (2, 3),
    queries: int = 4,
    keys: int = 5,
    head_dim: int = 8,
    scale_op: str | None = "div",
    mask: Array | None = None,
    where: tuple[Array, float] | None = None,
    transpose_b: bool = False,
) -> Graph:
    """Attention written out; an added mask or a `where` with its fill come behind the scale."""
    builder = GraphBuilder()
    q = builder.input("q", (*batch, queries, head_dim))
    k = builder.input("k", (*batch, keys, head_dim))
    v = builder.input("v", (*batch, keys, head_dim))
    if transpose_b:
        scores = builder.node("matmul", [q, k], {"transpose_b": True, "alpha": 0.25})
    else:
        axes = tuple(range(len(batch)))
        last = len(batch)
        k = builder.node("permute", [k], {"perm": (*axes, last + 1, last)})
        scores = builder.node("matmul", [q, k])
    if scale_op is not None:
        number = 0.5 if scale_op == "mul" else 4.0
        scores = builder.node(scale_op, [scores, builder.constant("scale", number)])
    if mask is not None:
        scores = builder.node("add", [scores, builder.constant("mask", mask)])
    if where is not None:
        keep, fill = where
        hidden: Value = builder.constant("fill", fill)
        scores = builder.node("where", [builder.constant("keep", keep), scores, hidden])
    weights = builder.node("softmax", [scores])
    return builder.finish(builder.node("matmul", [weights, v]))
