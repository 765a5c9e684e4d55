"""Runs a graph with NumPy, op by op: the oracle for every pass and for compiled programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import arguments
from .ir import Array, Graph, Node, Value, check_graph
from .ops import OPS


def run_node(node: Node, inputs: Sequence[Array | None]) -> Array:
    """The output of one node, by its op's reference, in the dtype of the inputs."""
    spec = OPS[node.op]
    return np.asarray(spec.reference(inputs, spec.complete(node.attributes)))


def interpret(
    graph: Graph, inputs: Sequence[Any] | Mapping[str, Any], dtype: Any = np.float32
) -> list[Array]:
    """Return the outputs for `inputs`, with each constant and step in `dtype` (float32, float64).

    Takes arrays or CPU tensors, in the graph's order or by name; ValueError when their number, a
    shape or a whole number does not fit. Outputs of whole numbers have the type of the module's.
    """
    check_graph("interpret", graph)
    if isinstance(inputs, Mapping):
        inputs = arguments.bound(graph.input_names, (), inputs)
    if len(inputs) != len(graph.inputs):
        raise ValueError(f"{len(inputs)} inputs given, the graph has {len(graph.inputs)}")
    known: dict[Value, Array] = {}
    for value, given in zip(graph.inputs, inputs, strict=True):
        if value.integers is not None:
            given = arguments.carried(value, value.integers, given)
        array = np.asarray(given, dtype=dtype)
        if array.shape != value.shape:
            raise ValueError(f"input {value!r} was given as {list(array.shape)}")
        known[value] = array
    for value, array in graph.constants.items():
        known[value] = np.asarray(array, dtype=dtype)
    for node in graph.nodes:
        known[node.output] = run_node(
            node, [None if value is None else known[value] for value in node.inputs]
        )
    return arguments.given_back(graph.results, [known[value] for value in graph.outputs])
