"""The graph: printing, copying, and each rule that verify checks."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small_graphs import inputs_of, random

from ablation_executor import PerOp, compile, optimize
from ablation_executor.constants import frozen
from ablation_executor.interpreter import interpret
from ablation_executor.ir import Graph, GraphBuilder, GraphError, Node, Value, verify


def linear_graph() -> Graph:
    builder = GraphBuilder()
    x = builder.input("x", (2, 3))
    weight = builder.constant("weight", random(4, 3))
    bias = builder.constant("bias", random(4))
    y = builder.node("matmul", [x, weight, bias], {"transpose_b": True}, name="y")
    return builder.finish(builder.node("relu", [y]))


def test_prints_one_node_a_line() -> None:
    assert str(linear_graph()).splitlines() == [
        "graph(%x: float32[2, 3]):",
        "  constant %weight: float32[4, 3]",
        "  constant %bias: float32[4]",
        "  %y = matmul(%x, %weight, bias=%bias, transpose_b=True)  # [2, 4]",
        "  %relu = relu(%y)  # [2, 4]",
        "  return %relu",
    ]


def test_copy_is_independent_and_equal() -> None:
    graph = linear_graph()
    twin = graph.copy()
    verify(twin)
    assert str(twin) == str(graph)
    assert not set(twin.values()) & set(graph.values())
    twin.nodes[0].attributes["alpha"] = 2.0
    twin.nodes.pop()
    assert len(graph.nodes) == 2 and "alpha" not in graph.nodes[0].attributes


def test_a_pickled_graph_computes_the_same() -> None:
    graph = linear_graph()
    restored = pickle.loads(pickle.dumps(graph))
    verify(restored)
    inputs = inputs_of(graph)
    np.testing.assert_array_equal(interpret(restored, inputs)[0], interpret(graph, inputs)[0])


def test_consumers_lists_a_node_once() -> None:
    builder = GraphBuilder()
    x = builder.input("x", (2,))
    y = builder.node("add", [x, x])
    graph = builder.finish(y)
    assert graph.consumers()[x] == graph.nodes
    assert graph.producers() == {y: graph.nodes[0]}


def test_replace_uses_reaches_the_outputs() -> None:
    graph = linear_graph()
    first, second = graph.nodes
    graph.replace_uses(second.output, first.output)
    graph.nodes.pop()
    verify(graph)
    assert graph.outputs == [first.output]


def _read_before_defined(graph: Graph) -> None:
    graph.nodes.reverse()


def _unknown_op(graph: Graph) -> None:
    graph.nodes[1].op = "sing"


def _empty_slot(graph: Graph) -> None:
    graph.nodes[1].inputs = [None]


def _too_many_slots(graph: Graph) -> None:
    graph.nodes[1].inputs = [graph.inputs[0], None]


def _wrong_shape(graph: Graph) -> None:
    graph.nodes[1].output.shape = (4, 2)


def _unknown_attribute(graph: Graph) -> None:
    graph.nodes[1].attributes["slope"] = 0.1


def _attribute_type(graph: Graph) -> None:
    graph.nodes[0].attributes["alpha"] = 2


def _attribute_choice(graph: Graph) -> None:
    graph.nodes[0].attributes["activation"] = "sing"


def _same_value_name(graph: Graph) -> None:
    graph.nodes[1].output.name = "x"


def _same_node_name(graph: Graph) -> None:
    graph.nodes[1].name = "y"


def _defined_twice(graph: Graph) -> None:
    graph.nodes.append(Node("again", "relu", [graph.inputs[0]], graph.nodes[0].output))
    graph.nodes[-1].output = graph.nodes[0].output
    graph.nodes[0].output.shape = (2, 4)
    graph.nodes[-1].inputs = [graph.nodes[0].output]


def _constant_dtype(graph: Graph) -> None:
    bias = next(value for value in graph.constants if value.name == "bias")
    graph.constants[bias] = graph.constants[bias].astype(np.float64)


def _constant_layout(graph: Graph) -> None:
    weight = next(value for value in graph.constants if value.name == "weight")
    graph.constants[weight] = frozen(np.array(graph.constants[weight], order="F"))


def _value_dtype(graph: Graph) -> None:
    graph.inputs[0].dtype = "float16"


def _foreign_output(graph: Graph) -> None:
    graph.outputs.append(Value("elsewhere", (2,)))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (_read_before_defined, "node 'relu': %y is read before it is defined"),
        (_unknown_op, "node 'relu': unknown op 'sing'"),
        (_empty_slot, "slot 'x' of relu is empty"),
        (_too_many_slots, "relu has 1 slots, 2 given"),
        (_wrong_shape, r"declared \[4, 2\], relu gives \[2, 4\]"),
        (_unknown_attribute, "relu has no attribute 'slope'"),
        (_attribute_type, "alpha is 2, expected float"),
        (_attribute_choice, "activation is 'sing'"),
        (_same_value_name, "two values are named %x"),
        (_same_node_name, "two nodes are named 'y'"),
        (_defined_twice, "%y is defined twice"),
        (_constant_dtype, "constant %bias"),
        (_constant_layout, "constant %weight"),
        (_value_dtype, "%x is float16; only float32"),
        (_foreign_output, "graph output %elsewhere is not defined"),
    ],
)
def test_verify_names_what_is_broken(break_it: Callable[[Graph], None], message: str) -> None:
    graph = linear_graph()
    break_it(graph)
    with pytest.raises(GraphError, match=message):
        verify(graph)


@pytest.mark.parametrize("function", [optimize, compile, PerOp, verify, lambda g: interpret(g, ())])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((linear_graph(), None), "is tuple; accepted: a Graph: `optimize` returns"),
        (torch.nn.Linear(2, 2), "is Linear; accepted: a Graph: `export` makes one"),
        (None, "is NoneType; accepted: a Graph$"),
    ],
)
def test_what_is_no_graph_is_refused(function: Any, given: Any, words: str) -> None:
    with pytest.raises(TypeError, match=f"argument 'graph' {words}"):
        function(given)
