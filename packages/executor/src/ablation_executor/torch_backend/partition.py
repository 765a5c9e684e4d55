"""A graph -> parts that run here and the ops between them, without cycles.

Each node gets a depth: the number of changes between what runs here and what PyTorch runs on the
longest path to it. Nodes of one depth that run here are a part. An edge never leads to a lesser
depth, and one between the two kinds always to a greater, so that the parts and the ops between them
can run in the order of depths. (`torch.fx.passes.infra.partitioner` finds such parts too; it leaves
the order of random ops to chance, and takes time that grows by the square of the nodes.)
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from .cost import is_alias
from .coverage import Coverage


@dataclass(frozen=True)
class Plan:
    """What runs in which order: a step is a node that PyTorch runs, or a part. `too_small` are the
    nodes that could run here, in parts that would not gain."""

    steps: list[torch.fx.Node | list[torch.fx.Node]]
    too_small: frozenset[torch.fx.Node]


def divide(
    graph: torch.fx.Graph, coverage: Coverage, gains: Callable[[Collection[torch.fx.Node]], bool]
) -> Plan:
    """Divide a graph into parts that gain and nodes that PyTorch runs."""
    nodes = [node for node in graph.nodes if node in coverage.here or node in coverage.reasons]
    here = set(coverage.here)
    while True:
        depths = _depths(nodes, here)
        parts: dict[int, list[torch.fx.Node]] = {}
        for node in nodes:
            if node in here:
                parts.setdefault(depths[node], []).append(node)
        losing = [part for part in parts.values() if not gains(part)]
        if not losing:
            break
        here.difference_update(*losing)
    order: dict[tuple[int, int], torch.fx.Node | list[torch.fx.Node]] = {}
    for position, node in enumerate(nodes):
        if node not in here:
            order[depths[node], position] = node
        elif parts[depths[node]][0] is node:
            order[depths[node], position] = parts[depths[node]]
    return Plan([order[key] for key in sorted(order)], coverage.here - here)


def _depths(
    nodes: Sequence[torch.fx.Node], here: Collection[torch.fx.Node]
) -> Mapping[torch.fx.Node, int]:
    """The depth of each node; nodes that have effects or draw keep their order."""
    depths: dict[torch.fx.Node, int] = {}
    ordered: list[torch.fx.Node] = []
    for node in nodes:
        keeps_order = node not in here and node.is_impure()
        before = [*node.all_input_nodes, *(ordered[-1:] if keeps_order else [])]
        depths[node] = max(
            (
                depths[part] + ((part in here) != (node in here))
                for part in before
                if part in depths
            ),
            default=0,
        )
        if keeps_order:
            ordered.append(node)
    # A node whose readers all run here runs with the first of them; items stay with their tuple.
    for node in reversed(nodes):
        is_tensor = isinstance(node.meta.get("val"), torch.Tensor)
        is_read_here = node.users and all(reader in here for reader in node.users)
        if node in here and is_read_here and is_tensor and node.target is not operator.getitem:
            depths[node] = min(depths[reader] for reader in node.users)
    return depths


@dataclass(frozen=True)
class Border:
    """What crosses the border of a part: nodes that it reads, nodes that it gives, and views of
    these that PyTorch makes behind it, in running order."""

    inputs: list[torch.fx.Node]
    outputs: list[torch.fx.Node]
    views: list[torch.fx.Node]


def border_of(part: Sequence[torch.fx.Node], constant: Collection[torch.fx.Node]) -> Border:
    """The border of a part. A view that is read outside is made outside, from what it is a view of:
    so it shares memory with what it shares memory with in PyTorch, and has the same strides."""
    inside = set(part)
    waiting = [node for node in part if any(user not in inside for user in node.users)]
    outputs: set[torch.fx.Node] = set()
    views: set[torch.fx.Node] = set()
    while waiting:
        node = waiting.pop()
        if node in outputs or node in views:
            continue
        (views if is_alias(node) else outputs).add(node)
        if is_alias(node):
            waiting += [source for source in node.all_input_nodes if source in inside]
    needed = _reached(outputs, inside)
    inputs = {
        source: None
        for node in part
        if node in needed
        for source in node.all_input_nodes
        if source not in inside and source not in constant
    }
    return Border(list(inputs), [n for n in part if n in outputs], [n for n in part if n in views])


def _reached(
    outputs: Collection[torch.fx.Node], inside: Collection[torch.fx.Node]
) -> set[torch.fx.Node]:
    """The nodes of a part that its outputs depend on."""
    found, waiting = set(outputs), list(outputs)
    while waiting:
        new = {source for source in waiting.pop().all_input_nodes if source in inside} - found
        found |= new
        waiting += new
    return found
