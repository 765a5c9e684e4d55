"""Which consecutive calls share one fork-join, each thread with rows of its own.

Between two calls of a stage no thread waits, and each finds its rows of the call before in its own
cache. It pays where the work between two joins is short; where it is long, threads that take blocks
of each call as they come balance better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import ablation_kernels

from .ir import Graph, Node, Value
from .memory import storage_roots
from .ops import OPS

Stage = tuple[str, ...]

# Multiply-adds of a stage above which its calls are shared out one by one: some 10 ms on one core.
# What sharing is worth is the rung `beyond-rows`: much at Toy and Small (0.1e9), within the noise
# from Medium (0.6e9) up, where it leaves a thread that was held up without help for longer.
LONGEST_STAGE = 10**9


def _rows(shape: tuple[int, ...]) -> int:
    return math.prod(shape[:-1])


def _rows_run_apart(graph: Graph, roots: Mapping[Value, Value], node: Node) -> bool:
    """Whether a row of the node's output needs only that row of its inputs, and constants."""
    weight = node.inputs[1] if node.op == "rms_norm" else None
    if weight is not None and len(weight.shape) > 1:
        return False  # which weight a row takes depends on its place
    slots = ablation_kernels.ops()[node.op].rows
    rows = _rows(node.output.shape)
    is_cut = False
    for slot, value in zip(OPS[node.op].slots, node.inputs, strict=False):
        if value is None:
            continue
        if slot.name in slots and value.shape and _rows(value.shape) == rows:
            is_cut = True
        else:
            is_one_row = slot.name not in slots or _rows(value.shape) == 1
            if roots[value] not in graph.constants or len(value.shape) > 2 or not is_one_row:
                return False
    return is_cut


def _multiply_adds(node: Node) -> int:
    if node.op != "matmul" or node.inputs[0] is None:
        return 0
    return node.output.size * node.inputs[0].shape[-1]


def row_stages(graph: Graph, kernels: Mapping[str, str]) -> list[Stage]:
    """The names of the calls of each stage, in order; `kernels` has the nodes that are calls.

    A call joins the stage before it if its rows are as many and need only the same rows of what
    was computed before, beside constants.
    """
    roots = storage_roots(graph)
    stages: list[list[Node]] = [[]]
    for node in graph.nodes:
        if node.name not in kernels:
            continue
        if not _rows_run_apart(graph, roots, node):
            stages.append([])
        elif stages[-1] and _rows(stages[-1][0].output.shape) == _rows(node.output.shape):
            stages[-1].append(node)
        else:
            stages.append([node])
    return [
        tuple(node.name for node in stage)
        for stage in stages
        if len(stage) > 1 and sum(map(_multiply_adds, stage)) <= LONGEST_STAGE
    ]
