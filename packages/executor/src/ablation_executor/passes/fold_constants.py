"""op(constants) -> constant; a node that no output needs -> nothing.

Each constant is worked out once, when the graph is built, by the op's own reference in float32.
Without `absorb_into_matmul` before it, this turns the transposed weights into constants.
"""

from __future__ import annotations

import numpy as np

from ..interpret import run_node
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
    for node in graph.nodes:
        arrays = [None if value is None else graph.constants.get(value) for value in node.inputs]
        if any(value is not None and value not in graph.constants for value in node.inputs):
            kept.append(node)
            continue
        folded = run_node(node, arrays)
        graph.constants[node.output] = np.asarray(folded, dtype=np.float32, order="C")
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
    graph.constants = {value: array for value, array in graph.constants.items() if value in needed}
    return count
