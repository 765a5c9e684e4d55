"""op(constants) -> constant; a node that no output needs -> nothing.

Each constant is worked out once, when the graph is built, by the op's own reference in float32;
equal nodes of equal constants become one.
Without `absorb_into_matmul` before it, this turns the transposed weights into constants.

Values: exact for all, with the op's own overflow, NaN and denormals in float32.
"""

from __future__ import annotations

import numpy as np

from ..constants import Constants, frozen
from ..interpreter import run_node
from ..ir import Graph, Node, Value
from ..rewrite import RewriteLog, RuleEntry


def fold_constants(graph: Graph, log: RewriteLog) -> Graph:
    """Evaluate what depends on constants alone, then drop unread nodes and constants."""
    graph = graph.copy()
    log.entries.append(RuleEntry("fold_constants", "fold", _fold(graph)))
    log.entries.append(RuleEntry("fold_constants", "remove_dead_code", _remove_dead_code(graph)))
    return graph


def _fold(graph: Graph) -> int:
    kept: list[Node] = []
    folded: dict[tuple[object, ...], Value] = {}
    same: dict[Value, Value] = {}
    for node in graph.nodes:
        node.inputs = [same.get(value, value) if value else None for value in node.inputs]
        if any(value is not None and value not in graph.constants for value in node.inputs):
            kept.append(node)
            continue
        # What a layer that is used several times computes from its weights is one constant.
        key = (node.op, *node.inputs, repr(sorted(node.attributes.items())))
        if key in folded:
            same[node.output] = folded[key]
            continue
        arrays = [None if value is None else graph.constants[value] for value in node.inputs]
        with np.errstate(all="ignore"):
            result = np.asarray(run_node(node, arrays), dtype=np.float32, order="C")
        graph.constants[node.output] = frozen(result)
        folded[key] = node.output
    graph.outputs = [same.get(value, value) for value in graph.outputs]
    count = len(graph.nodes) - len(kept)
    graph.nodes = kept
    return count


def _remove_dead_code(graph: Graph) -> int:
    needed: set[Value] = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.output in needed:
            needed.update(value for value in node.inputs if value is not None)
            kept.append(node)
    count = len(graph.nodes) - len(kept)
    graph.nodes = kept[::-1]
    graph.constants = Constants(
        {value: array for value, array in graph.constants.items() if value in needed}
    )
    return count
