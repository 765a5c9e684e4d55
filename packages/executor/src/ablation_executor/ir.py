"""The graph: values, nodes in running order, constants; printed one node a line.

A value is one contiguous tensor of a fixed shape. Every value is an input of the graph, a constant
or the output of exactly one node, and nodes are kept in an order in which they can be run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import ops
from .constants import Constants
from .integers import Integers

Shape = tuple[int, ...]
Array = NDArray[Any]


class GraphError(ValueError):
    """A graph breaks a rule of the intermediate representation."""


@dataclass(eq=False, slots=True)
class Value:
    """One tensor of the graph; two values are equal only when they are the same object.

    `dtype` is that of its memory. `integers` is set for an input of whole numbers, which callers
    give in a type of their own and the graph carries in float32.
    """

    name: str
    shape: Shape
    dtype: str = "float32"
    integers: Integers | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.size * np.dtype(self.dtype).itemsize

    def __repr__(self) -> str:
        if self.integers is None:
            return f"%{self.name}: {self.dtype}{list(self.shape)}"
        return f"%{self.name}: {self.integers.dtype}{list(self.shape)} of {self.integers.range}"


@dataclass(frozen=True, slots=True)
class Result:
    """What a caller gets of an output: its name, and for whole numbers their type and range."""

    name: str
    integers: Integers | None = None


@dataclass(eq=False, slots=True)
class Node:
    """One operation: `inputs` has one entry per slot of the op, None for an empty optional slot."""

    name: str
    op: str
    inputs: list[Value | None]
    output: Value
    attributes: dict[str, Any] = field(default_factory=dict)
    module_path: str = ""

    def attribute(self, name: str) -> Any:
        """Return the attribute's value, or the op's default where the node does not set it."""
        if name in self.attributes:
            return self.attributes[name]
        return ops.OPS[self.op].attributes[name].default

    @property
    def shapes(self) -> list[Shape | None]:
        """The shape of each input slot, None for an empty one."""
        return [None if value is None else value.shape for value in self.inputs]

    def __str__(self) -> str:
        spec = ops.OPS.get(self.op)
        arguments = []
        for position, value in enumerate(self.inputs):
            if value is None:
                continue
            slot = spec.slots[position] if spec and position < len(spec.slots) else None
            prefix = f"{slot.name}=" if slot and slot.optional else ""
            arguments.append(f"{prefix}%{value.name}")
        for key, setting in self.attributes.items():
            default = spec.attributes[key].default if spec and key in spec.attributes else None
            if setting != default:
                arguments.append(f"{key}={setting}")
        shape = ", ".join(map(str, self.output.shape))
        return f"%{self.output.name} = {self.op}({', '.join(arguments)})  # [{shape}]"

    def __repr__(self) -> str:
        return f"<Node {self.name}: {self}>"


@dataclass(eq=False)
class Graph:
    """A function from `inputs` to `outputs`: nodes in running order and the constants they read.

    A graph owns its constants: an array is copied when it is stored, unless it is read-only and
    owns its memory (see `constants.owned`). So what is changed later, as a module's weights, does
    not change the graph or a program made of it.

    `results` has one entry for each output, in their order; it is empty where the outputs have no
    names and are all float32.
    """

    inputs: list[Value]
    outputs: list[Value]
    nodes: list[Node] = field(default_factory=list)
    constants: Constants = field(default_factory=Constants)
    results: tuple[Result, ...] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "constants" and not isinstance(value, Constants):
            value = Constants(value)
        object.__setattr__(self, name, value)

    @property
    def input_names(self) -> list[str]:
        """The names of the inputs, in their order: those of forward's parameters."""
        return [value.name for value in self.inputs]

    @property
    def output_names(self) -> list[str]:
        """The names of the outputs, in their order; their numbers where they have none."""
        if self.results:
            return [result.name for result in self.results]
        return [str(number) for number in range(len(self.outputs))]

    def producers(self) -> dict[Value, Node]:
        """Return the node that makes each value; inputs and constants have none."""
        return {node.output: node for node in self.nodes}

    def consumers(self) -> dict[Value, list[Node]]:
        """Return the nodes that read each value, in running order, once per node."""
        found: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                if value is not None:
                    found.setdefault(value, []).append(node)
        return found

    def values(self) -> list[Value]:
        """Return every value: inputs, constants, then node outputs in running order."""
        return [*self.inputs, *self.constants, *(node.output for node in self.nodes)]

    def replace_uses(self, old: Value, new: Value) -> None:
        """Make every reader of `old`, the graph's outputs included, read `new`."""
        for node in self.nodes:
            node.inputs = [new if value is old else value for value in node.inputs]
        self.outputs = [new if value is old else value for value in self.outputs]

    def unique_name(self, base: str) -> str:
        """Return a value and node name that is free: `base`, or `base_2`, `base_3` and so on."""
        taken = {value.name for value in self.values()} | {node.name for node in self.nodes}
        name, count = base, 1
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        return name

    def copy(self) -> Graph:
        """Return a graph with its own values and nodes; the constants' arrays are shared."""
        twin = {
            value: Value(value.name, value.shape, value.dtype, value.integers)
            for value in self.values()
        }
        nodes = [
            Node(
                node.name,
                node.op,
                [None if value is None else twin[value] for value in node.inputs],
                twin[node.output],
                dict(node.attributes),
                node.module_path,
            )
            for node in self.nodes
        ]
        return Graph(
            [twin[value] for value in self.inputs],
            [twin[value] for value in self.outputs],
            nodes,
            Constants({twin[value]: array for value, array in self.constants.items()}),
            self.results,
        )

    def __str__(self) -> str:
        lines = [f"graph({', '.join(map(repr, self.inputs))}):"]
        lines += [f"  constant {value!r}" for value in self.constants]
        lines += [f"  {node}" for node in self.nodes]
        lines.append(f"  return {', '.join(map(self._output_text, range(len(self.outputs))))}")
        return "\n".join(lines)

    def _output_text(self, position: int) -> str:
        """%value, with its name where it is no number, and its type where it is of integers."""
        text = f"%{self.outputs[position].name}"
        if not self.results:
            return text
        result = self.results[position]
        name = "" if result.name.isdecimal() or result.name == "output" else f"{result.name}="
        return f"{name}{text}{f': {result.integers}' if result.integers else ''}"


class GraphBuilder:
    """Appends nodes to a graph, choosing free names and working out shapes."""

    def __init__(self, graph: Graph | None = None) -> None:
        self.graph = graph if graph is not None else Graph([], [])
        self._names = {value.name for value in self.graph.values()}

    def _claim(self, base: str) -> str:
        name, count = base, 1
        while name in self._names:
            count += 1
            name = f"{base}_{count}"
        self._names.add(name)
        return name

    def input(self, name: str, shape: Iterable[int], integers: Integers | None = None) -> Value:
        """Add an input of the graph: float32, or whole numbers of a type and range."""
        value = Value(self._claim(name), tuple(shape), integers=integers)
        self.graph.inputs.append(value)
        return value

    def constant(self, name: str, array: Any) -> Value:
        """Add a constant; it is stored as C-contiguous float32, owned by the graph."""
        data = np.asarray(array, dtype=np.float32, order="C")
        value = Value(self._claim(name), data.shape)
        self.graph.constants[value] = data
        return value

    def node(
        self,
        op: str,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        module_path: str = "",
    ) -> Value:
        """Append a node and return its output; empty trailing slots may be left out of `inputs`."""
        spec = ops.OPS[op]
        slots = [*inputs, *[None] * (len(spec.slots) - len(inputs))]
        given = dict(attributes or {})
        shapes = [None if value is None else value.shape for value in slots]
        chosen = self._claim(name or op)
        output = Value(chosen, spec.infer_shape(shapes, spec.complete(given)))
        self.graph.nodes.append(Node(chosen, op, slots, output, given, module_path))
        return output

    def finish(self, *outputs: Value, results: Iterable[Result] = ()) -> Graph:
        """Set the graph's outputs, check it and return it."""
        self.graph.outputs = list(outputs)
        self.graph.results = tuple(results)
        verify(self.graph)
        return self.graph


def _verify_node(node: Node, defined: set[Value]) -> None:
    spec = ops.OPS.get(node.op)
    if spec is None:
        raise GraphError(f"node {node.name!r}: unknown op {node.op!r}")
    if len(node.inputs) != len(spec.slots):
        raise GraphError(
            f"node {node.name!r}: {node.op} has {len(spec.slots)} slots, {len(node.inputs)} given"
        )
    for slot, value in zip(spec.slots, node.inputs, strict=True):
        if value is None:
            if not slot.optional:
                raise GraphError(f"node {node.name!r}: slot {slot.name!r} of {node.op} is empty")
        elif value not in defined:
            raise GraphError(f"node {node.name!r}: %{value.name} is read before it is defined")
    try:
        shape = spec.infer_shape(node.shapes, spec.complete(node.attributes))
    except ValueError as error:
        raise GraphError(f"node {node.name!r}: {error}") from error
    if shape != node.output.shape:
        raise GraphError(
            f"node {node.name!r}: the output is declared {list(node.output.shape)},"
            f" {node.op} gives {list(shape)}"
        )


def check_graph(function: str, graph: object) -> None:
    """Raise TypeError that names `function` and what it was given, where that is no Graph."""
    if isinstance(graph, Graph):
        return
    hint = ": `optimize` returns a graph and a log" if isinstance(graph, tuple) else ""
    hint = ": `export` makes one of a module" if hasattr(graph, "forward") else hint
    raise TypeError(
        f"{function}: argument 'graph' is {type(graph).__name__}; accepted: a Graph{hint}"
    )


def verify(graph: Graph) -> None:
    """Check every rule of the representation; a broken one raises GraphError naming the place."""
    check_graph("verify", graph)
    inputs = set(graph.inputs)
    defined: set[Value] = set()
    names: set[str] = set()

    def define(value: Value) -> None:
        if value in defined:
            raise GraphError(f"%{value.name} is defined twice")
        if value.name in names:
            raise GraphError(f"two values are named %{value.name}")
        if value.dtype != "float32":
            raise GraphError(f"%{value.name} is {value.dtype}; only float32 is supported")
        if value.integers is not None and value not in inputs:
            raise GraphError(f"%{value.name} is declared {value.integers}, and is no input")
        defined.add(value)
        names.add(value.name)

    for value in graph.inputs:
        define(value)
    for value, array in graph.constants.items():
        define(value)
        if array.shape != value.shape or array.dtype != np.float32 or not array.flags.c_contiguous:
            raise GraphError(
                f"constant %{value.name} is declared {value.dtype}{list(value.shape)}, its array is"
                f" {array.dtype}{list(array.shape)} (it must match and be C-contiguous)"
            )
    node_names: set[str] = set()
    for node in graph.nodes:
        if node.name in node_names:
            raise GraphError(f"two nodes are named {node.name!r}")
        node_names.add(node.name)
        _verify_node(node, defined)
        define(node.output)
    for value in graph.outputs:
        if value not in defined:
            raise GraphError(f"graph output %{value.name} is not defined")
    if graph.results and len(graph.results) != len(graph.outputs):
        raise GraphError(
            f"the graph has {len(graph.outputs)} outputs and {len(graph.results)} results"
        )
    for name in graph.output_names:
        if graph.output_names.count(name) > 1:
            raise GraphError(f"two outputs are named {name!r}")
