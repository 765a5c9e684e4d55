"""Which kernel each node runs on, and how much scratch that takes; asked from the kernel table."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any

import ablation_kernels
from ablation_kernels import strassen

from .ir import Graph, Node
from .memory import align, storage_roots
from .ops import OPS

# The kernel table this executor was written for; its ops and attributes are the contract.
TABLE_VERSION = 7


def check_table_version() -> None:
    """ImportError when the installed kernels speak another version of the table."""
    found = ablation_kernels.build_info()["table_version"]
    if found != TABLE_VERSION:
        raise ImportError(
            f"ablation-kernels {ablation_kernels.__version__} has table version {found}, this"
            f" ablation-executor needs {TABLE_VERSION}"
        )


def _near(name: str, names: list[str]) -> str:
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    return f"; did you mean {found[0]!r}?" if found else ""


@cache
def ops_with(kind: str) -> tuple[str, ...]:
    """The ops that have a kernel whose name is the op's and `kind`, as in `add_simd_parallel`."""
    table = ablation_kernels.op_table()
    return tuple(info.op for info in table if info.name == f"{info.op}_{kind}")


def resolve_kernels(kernels: Mapping[str, str] | None) -> dict[str, str]:
    """The full kernel name of each op that was given one.

    A kernel is given by its full name or by the part after its op. ValueError for an unknown op or
    for a kernel that this machine's table does not have.
    """
    resolved = {}
    table: dict[str, list[str]] = {}
    for info in ablation_kernels.op_table():
        table.setdefault(info.op, []).append(info.name)
    for op, name in (kernels or {}).items():
        if op not in table:
            raise ValueError(f"kernels: unknown op {op!r}{_near(op, list(table))}")
        matches = [full for full in table[op] if name in (full, full.removeprefix(f"{op}_"))]
        if not matches:
            listed = ", ".join(table[op])
            raise ValueError(
                f"kernels: {op} has no kernel {name!r}{_near(name, table[op])} It has: {listed}"
            )
        resolved[op] = matches[0]
    return resolved


def call_attributes(node: Node) -> dict[str, Any]:
    """A node's attributes, without those at their default: the kernels' defaults are the same."""
    known = OPS[node.op].attributes
    complete = OPS[node.op].complete(node.attributes)
    return {name: setting for name, setting in complete.items() if setting != known[name].default}


def constant_slots(graph: Graph, node: Node) -> list[str]:
    """The slots of a node that get a constant of the graph, or a reshape of one."""
    roots = storage_roots(graph)
    return [
        slot.name
        for slot, value in zip(OPS[node.op].slots, node.inputs, strict=False)
        if value is not None and roots[value] in graph.constants
    ]


def _other_product(graph: Graph, node: Node) -> str | None:
    """The kernel of another arithmetic that is expected to be faster for a product with a constant
    matrix; None for all else."""
    if node.op != "matmul" or "b" not in constant_slots(graph, node):
        return None
    a, b = node.shapes[0], node.shapes[1]
    if a is None or b is None or len(b) != 2:
        return None
    return strassen.kernel_for(math.prod(a[:-1]), node.output.shape[-1], a[-1])


def select_kernels(
    graph: Graph, kernels: Mapping[str, str] | None, other_arithmetic: bool = False
) -> dict[str, str]:
    """The kernel of every node by name: the op's given one, else the best for the node's shapes.

    With `other_arithmetic` that may be one of another arithmetic: see `compile`.
    """
    resolved = resolve_kernels(kernels)
    return {
        node.name: resolved.get(node.op)
        or (_other_product(graph, node) if other_arithmetic else None)
        or ablation_kernels.best_kernel(
            node.op, node.shapes, call_attributes(node), constants=constant_slots(graph, node)
        )
        for node in graph.nodes
        if not OPS[node.op].is_alias
    }


def scratch_requirements(
    graph: Graph,
    selected: Mapping[str, str],
    threads: int,
    stages: Iterable[Sequence[str]] = (),
) -> dict[str, int]:
    """Bytes of scratch of every node that is a call, by name: enough for the whole call, and for
    the rows of all threads where it is in one of `stages`."""
    staged = {name for stage in stages for name in stage}
    needs = {}
    for node in graph.nodes:
        if node.name in selected:
            asked = partial(
                ablation_kernels.scratch_bytes,
                selected[node.name],
                attributes=call_attributes(node),
                constants=constant_slots(graph, node),
            )
            needs[node.name] = asked(node.shapes, threads=threads)
            if node.name in staged:
                parts = [align(asked(part, threads=1)) for part in _rows_of_threads(node, threads)]
                needs[node.name] = max(needs[node.name], sum(parts))
    return needs


def _rows_of_threads(node: Node, threads: int) -> Iterator[list[Any]]:
    """The shapes of a call in a stage, for each thread with its part of the rows."""
    rows = math.prod(node.output.shape[:-1])
    slots = ablation_kernels.ops()[node.op].rows
    workers = min(threads, rows)
    for worker in range(workers):
        count = rows * (worker + 1) // workers - rows * worker // workers
        yield [
            (count, shape[-1])
            if shape and slot.name in slots and math.prod(shape[:-1]) == rows
            else shape
            for slot, shape in zip(OPS[node.op].slots, node.shapes, strict=False)
        ]
