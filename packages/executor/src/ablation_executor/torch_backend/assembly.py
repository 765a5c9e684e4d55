"""A divided graph -> one FX module whose parts are calls of `Part`."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from ..workspace import Workspace
from .captured import Captured
from .coverage import Coverage
from .options import Options
from .part import Part
from .partition import Border, Plan, border_of


def assemble(
    captured: Captured,
    weights: Collection[torch.fx.Node],
    coverage: Coverage,
    plan: Plan,
    options: Options,
    workspace: Workspace | None,
) -> torch.fx.GraphModule:
    """Put the steps of a plan into a module that is called as Dynamo's graph is.

    `weights` are the placeholders that are weights.
    """
    assembly = _Assembly(captured)
    fixed = {*weights, *coverage.constant}
    for number, step in enumerate(plan.steps):
        if isinstance(step, torch.fx.Node):
            assembly.take(step)
        else:
            border = border_of(step, fixed)
            part = _part_of(captured.module, border, weights, coverage.ranges, options, workspace)
            assembly.call(f"part_{number}", part, border)
    return assembly.finish()


@dataclass(frozen=True)
class _Built:
    """A part, and the placeholders of its weights in the order of its arguments."""

    module: Part
    weights: list[torch.fx.Node]


class _Assembly:
    """The graph that is being put together; what PyTorch runs is copied as it is."""

    def __init__(self, captured: Captured) -> None:
        self._source = captured.module
        self._graph = torch.fx.Graph()
        self._copies: dict[torch.fx.Node, torch.fx.Node] = {}
        self._root: dict[str, object] = {}
        for node in captured.arguments:
            self._copies[node] = self._graph.node_copy(node)
        for number, (node, tensor) in enumerate(captured.held.items()):
            self._root[f"held_{number}"] = tensor
            self._copies[node] = self._graph.get_attr(f"held_{number}")

    def take(self, node: torch.fx.Node) -> torch.fx.Node:
        """Copy a node, with what depends on weights alone in front of it."""
        if node not in self._copies:
            if node.op == "get_attr":
                self._root[str(node.target)] = getattr(self._source, str(node.target))
            for source in node.all_input_nodes:
                self.take(source)
            self._copies[node] = self._graph.node_copy(node, self._copies.__getitem__)
        return self._copies[node]

    def call(self, name: str, part: _Built, border: Border) -> None:
        """Append the call of a part, and the views of its results that are read outside."""
        self._root[name] = part.module
        arguments = tuple(map(self.take, [*border.inputs, *part.weights]))
        results = self._graph.call_module(name, arguments)
        for position, node in enumerate(border.outputs):
            item = self._graph.call_function(operator.getitem, (results, position))
            self._copies[node] = item
        for view in border.views:
            self.take(view)

    def finish(self) -> torch.fx.GraphModule:
        """The module, with the results of the source."""
        (output,) = (node for node in self._source.graph.nodes if node.op == "output")
        for node in output.all_input_nodes:
            self.take(node)
        self._graph.node_copy(output, self._copies.__getitem__)
        return torch.fx.GraphModule(self._root, self._graph)


def _part_of(
    source: torch.fx.GraphModule,
    border: Border,
    weights: Collection[torch.fx.Node],
    ranges: Mapping[torch.fx.Node, tuple[int, int]],
    options: Options,
    workspace: Workspace | None,
) -> _Built:
    """Copy the nodes that the results of a part need into a module of their own."""
    needed = _needed(border, weights)
    read = [node for node in needed if node in weights]
    graph = torch.fx.Graph()
    copies: dict[torch.fx.Node, torch.fx.Node] = {}
    for node in (*border.inputs, *read):
        copies[node] = graph.placeholder(node.name)
        copies[node].meta = dict(node.meta)
    for node in source.graph.nodes:
        if node in needed and node not in copies:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    orders = [order_of(node.meta["val"]) for node in border.outputs]
    results = []
    for node, order in zip(border.outputs, orders, strict=True):
        results.append(copies[node] if order is None else _ordered(graph, copies[node], order))
    graph.output(tuple(results))
    module = torch.fx.GraphModule({}, graph)
    named = {copies[node].name: ranges[node] for node in border.inputs if node in ranges}
    return _Built(Part(module, len(border.inputs), named, orders, options, workspace), read)


def _needed(border: Border, weights: Collection[torch.fx.Node]) -> dict[torch.fx.Node, None]:
    """What the results of a part depend on, up to its inputs and weights."""
    found: dict[torch.fx.Node, None] = {}
    waiting = list(reversed(border.outputs))
    while waiting:
        node = waiting.pop()
        if node not in found:
            found[node] = None
            if node not in weights and node not in border.inputs:
                waiting += reversed(node.all_input_nodes)
    return found


def order_of(result: torch.Tensor) -> tuple[int, ...] | None:
    """The order of axes in which a result lies in memory, None where that is their own.

    ValueError where memory has gaps or is read twice: no op of those that run here gives such.
    """
    if result.is_contiguous():
        return None
    strides = result.stride()
    order = tuple(sorted(range(result.ndim), key=lambda axis: -strides[axis]))
    if not result.permute(order).is_contiguous():
        raise ValueError(f"a result has strides {strides} for {list(result.shape)}")
    return order


def _ordered(graph: torch.fx.Graph, node: torch.fx.Node, order: Sequence[int]) -> torch.fx.Node:
    """A result in the order in which it lies in memory."""
    moved = graph.call_function(torch.ops.aten.permute.default, (node, list(order)))
    moved.meta = {**node.meta, "val": node.meta["val"].permute(order)}
    return moved
