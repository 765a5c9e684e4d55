"""What a program does in a call, counted from its shapes: whole numbers without noise.

The counts depend on the graph, on the kernels that were given and on the instruction set, whose
tiles packed constants fill up; on nothing that is measured. Scratch alone depends on the sizes of
the machine's caches as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import ablation_kernels

from .compiler import ProgramPlan
from .ir import Graph, Node
from .memory import plan_greedy, storage_roots
from .ops import OPS, scores_shape
from .selection import call_attributes, constant_slots


@dataclass(frozen=True)
class Census:
    """Counts of one call of a program.

    `launches`: calls of kernels, those that share a fork-join counted as one. `flops`: two for each
    multiply-add of a product, one for each element that any other arithmetic writes, or that a
    reduction reads, the bias, addend, factor and activation of a product included. `bytes_read` and
    `bytes_written`: the arrays that calls are given and write, each once for each call.
    `packed_bytes`: constants laid out anew. `arena_bytes`: results between calls, without scratch;
    `scratch_bytes`: the most that a call needs. `allocations`: arrays that a call of the program
    makes.
    """

    launches: int
    flops: int
    bytes_read: int
    bytes_written: int
    packed_bytes: int
    arena_bytes: int
    scratch_bytes: int
    allocations: int


def census(plan: ProgramPlan, *, is_loop: bool = False) -> Census:
    """Count what a call of a planned program does; `is_loop` for the same graph as a Python loop,
    which allocates each result and packs nothing ahead."""
    graph = plan.graph
    calls = [node for node in graph.nodes if not OPS[node.op].is_alias]
    joined = sum(len(stage) - 1 for stage in plan.stages)
    arena = 0 if is_loop else plan_greedy(graph, {}, plan.stages).arena_bytes
    return Census(
        launches=len(calls) - joined,
        flops=sum(map(_flops, calls)),
        bytes_read=sum(value.nbytes for node in calls for value in node.inputs if value),
        bytes_written=sum(node.output.nbytes for node in calls),
        packed_bytes=0 if is_loop else _packed_bytes(graph, plan.kernels),
        arena_bytes=arena,
        scratch_bytes=plan.memory.scratch_bytes,
        allocations=len(calls) if is_loop else len(graph.outputs),
    )


def _flops(node: Node) -> int:
    if OPS[node.op].category == "movement" or node.op == "where":
        return 0
    if node.op == "matmul":
        return _product_flops(node)
    if node.op == "attention":
        return _attention_flops(node)
    if node.op in ("sum", "amax") and node.inputs[0] is not None:
        return node.inputs[0].size
    has_addend = node.op == "rms_norm" and node.inputs[2] is not None
    return node.output.size * (2 if has_addend or node.op in ("silu_mul", "bias_relu") else 1)


def _product_flops(node: Node) -> int:
    first = node.inputs[0]
    inner = first.shape[-1] if first is not None else 0
    extras = sum(value is not None for value in node.inputs[2:])
    extras += node.attribute("alpha") != 1
    extras += node.attribute("activation") is not None
    return int(node.output.size * (2 * inner + extras))


def product_flops(graph: Graph) -> int:
    """Count two operations for each multiply-add of the products of a call: matrix products and
    those of attention."""
    total = 0
    for node in graph.nodes:
        if node.op == "matmul" and node.inputs[0] is not None:
            total += 2 * node.output.size * node.inputs[0].shape[-1]
        elif node.op == "attention":
            total += _attention_product_flops(node)
    return total


def _attention_flops(node: Node) -> int:
    """Both products, and for each pair one of the softmax and three of a soft cap; of hidden keys,
    those of causal and window are left out."""
    return _attention_product_flops(node) + _attention_pairs(node) * (
        4 if node.attribute("softcap") else 1
    )


def _attention_product_flops(node: Node) -> int:
    q = node.inputs[0]
    head_dims = (q.shape[-1] if q is not None else 0) + node.output.shape[-1]
    return _attention_pairs(node) * 2 * head_dims


def _attention_pairs(node: Node) -> int:
    """Count the pairs of a query and a key in all heads, without those that causal and window
    hide."""
    batch, heads, queries, keys = scores_shape(node)
    pairs = queries * keys
    if node.attribute("causal"):
        window = node.attribute("window") or queries
        pairs = _causal_pairs(queries, keys) - _causal_pairs(max(queries - window, 0), keys)
    return batch * heads * pairs


def _causal_pairs(queries: int, keys: int) -> int:
    """Count the pairs of a query and a key that is not behind it."""
    seen = min(queries, keys)
    return seen * (seen + 1) // 2 + (queries - seen) * keys


def _packed_bytes(graph: Graph, kernels: Mapping[str, str]) -> int:
    """Count each constant once for each way in which it is laid out: products pack b."""
    roots = storage_roots(graph)
    found: dict[object, int] = {}
    for node in graph.nodes:
        b = node.inputs[1] if node.op == "matmul" else None
        if b is None or roots[b] not in graph.constants:
            continue
        layout = roots[b], b.shape, node.attribute("transpose_b"), kernels[node.name]
        found[layout] = ablation_kernels.packed_bytes(
            kernels[node.name],
            node.shapes,
            call_attributes(node),
            constants=constant_slots(graph, node),
        )
    return sum(found.values())
