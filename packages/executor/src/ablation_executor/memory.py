"""Where each value lies in the arena: plan_naive (the baseline), plan_greedy, verify_plan.

The arena holds what nodes make, except the graph's outputs, and the scratch of each call. Values
joined by reshape share one storage. Offsets are in bytes from the arena's start, multiples of 64.
A value lives from the call that writes it to the last call that reads it; scratch lives for its
call alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from .ir import Graph, Node, Value
from .ops import OPS

ALIGNMENT = 64


class PlanError(ValueError):
    """A plan would let two live values overlap, or breaks another rule."""


@dataclass
class Plan:
    """Offsets of arena values, and of each call's scratch by node name, in bytes.

    `scratch_bytes` and `attention_scratch_bytes` are the largest need of any call and of any
    attention call.
    """

    offsets: dict[Value, int]
    scratch_offsets: dict[str, int]
    arena_bytes: int
    scratch_bytes: int
    attention_scratch_bytes: int


@dataclass(eq=False)
class _Block:
    """One stretch of memory: values that share it, or one call's scratch; alive [first, last]."""

    size: int
    first: int
    last: int
    values: list[Value] = field(default_factory=list)
    scratch_of: str | None = None
    offset: int = -1

    def lives_with(self, other: _Block) -> bool:
        return self.first <= other.last and other.first <= self.last


def align(size: int) -> int:
    """The next multiple of 64."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def storage_roots(graph: Graph) -> dict[Value, Value]:
    """For every value the one whose memory it is: itself, or what it is a reshape of."""
    roots = {value: value for value in graph.values()}
    for node in graph.nodes:
        if OPS[node.op].is_alias and node.inputs[0] is not None:
            roots[node.output] = roots[node.inputs[0]]
    return roots


def _arena_roots(graph: Graph, roots: dict[Value, Value]) -> set[Value]:
    """The storages that are neither an input, nor a constant, nor a graph output's."""
    outside = {*graph.inputs, *graph.constants, *(roots[value] for value in graph.outputs)}
    return {roots[node.output] for node in graph.nodes} - outside


def _lifetimes(graph: Graph, roots: dict[Value, Value]) -> dict[Value, tuple[int, int]]:
    """First and last node index at which each storage is alive."""
    spans: dict[Value, tuple[int, int]] = {}
    for index, node in enumerate(graph.nodes):
        if not OPS[node.op].is_alias:
            spans[node.output] = (index, index)
        for value in node.inputs:
            if value is not None and roots[value] in spans and not OPS[node.op].is_alias:
                spans[roots[value]] = (spans[roots[value]][0], index)
    return spans


def _extend(graph: Graph, blocks: Iterable[_Block], stages: Iterable[Sequence[str]]) -> None:
    """Let what lives in a stage live through all of it: its calls run at different times."""
    index = {node.name: position for position, node in enumerate(graph.nodes)}
    for stage in stages:
        first, last = index[stage[0]], index[stage[-1]]
        for block in blocks:
            if block.first <= last and first <= block.last:
                block.first, block.last = min(block.first, first), max(block.last, last)


def _blocks(graph: Graph, scratch_bytes: Mapping[str, int]) -> tuple[list[_Block], list[_Block]]:
    """One block per arena storage, and one per call that needs scratch."""
    roots = storage_roots(graph)
    arena = _arena_roots(graph, roots)
    spans = _lifetimes(graph, roots)
    blocks: dict[Value, _Block] = {}
    for value in graph.values():
        root = roots[value]
        if root in arena:
            blocks.setdefault(root, _Block(align(root.nbytes), *spans[root])).values.append(value)
    scratch = [
        _Block(align(scratch_bytes[node.name]), index, index, scratch_of=node.name)
        for index, node in enumerate(graph.nodes)
        if scratch_bytes.get(node.name, 0) > 0
    ]
    return list(blocks.values()), scratch


def _plan(graph: Graph, blocks: list[_Block], scratch_bytes: Mapping[str, int]) -> Plan:
    attention = {node.name for node in graph.nodes if node.op == "attention"}
    return Plan(
        {value: block.offset for block in blocks for value in block.values},
        {block.scratch_of: block.offset for block in blocks if block.scratch_of is not None},
        max((block.offset + block.size for block in blocks), default=0),
        max(scratch_bytes.values(), default=0),
        max((scratch_bytes.get(name, 0) for name in attention), default=0),
    )


def plan_naive(
    graph: Graph,
    scratch_bytes: Mapping[str, int] | None = None,
    stages: Iterable[Sequence[str]] = (),
) -> Plan:
    """Memory of its own for every value and every call's scratch, one behind the other.

    `scratch_bytes` is the need of each node by name; a node that is not in it needs none. `stages`
    change nothing, as nothing is shared.
    """
    values, scratch = _blocks(graph, scratch_bytes or {})
    top = 0
    for block in [*values, *scratch]:
        block.offset, top = top, top + block.size
    return _plan(graph, [*values, *scratch], scratch_bytes or {})


def _in_place_inputs(node: Node, roots: Mapping[Value, Value], dying: Set[Value]) -> list[Value]:
    """The storages that die at this node whose whole place its output may take.

    An input fits when the op works in place in its slot, it is as large as the output and the node
    reads its storage through no other slot.
    """
    read = [roots[value] for value in node.inputs if value is not None]
    fitting = []
    for slot in OPS[node.op].in_place_slots:
        value = node.inputs[slot]
        if value is None or value.size != node.output.size or roots[value] not in dying:
            continue
        if read.count(roots[value]) == 1:
            fitting.append(roots[value])
    return fitting


def _join_in_place(graph: Graph, blocks: list[_Block]) -> list[_Block]:
    """Let each output take the memory of an input that dies there, where the op allows it."""
    roots = storage_roots(graph)
    spans = _lifetimes(graph, roots)
    holder = {value: block for block in blocks for value in block.values}
    for index, node in enumerate(graph.nodes):
        mine = holder.get(node.output)
        if mine is None or OPS[node.op].is_alias:
            continue
        dying = {root for root, (_, last) in spans.items() if last == index and root in holder}
        for root in _in_place_inputs(node, roots, dying - {node.output}):
            theirs = holder[root]
            theirs.values += mine.values
            theirs.last = mine.last
            holder |= dict.fromkeys(mine.values, theirs)
            blocks.remove(mine)
            break
    return blocks


def _best_gap(block: _Block, placed: list[_Block]) -> int:
    """The start of the smallest gap that takes the block among those alive with it."""
    neighbors = sorted(
        (other for other in placed if other.lives_with(block)), key=lambda other: other.offset
    )
    best: tuple[int, int] | None = None
    top = 0
    for other in neighbors:
        gap = other.offset - top
        if gap >= block.size and (best is None or gap < best[0]):
            best = (gap, top)
        top = max(top, other.offset + other.size)
    return top if best is None else best[1]


def plan_greedy(
    graph: Graph,
    scratch_bytes: Mapping[str, int] | None = None,
    stages: Iterable[Sequence[str]] = (),
) -> Plan:
    """Largest block first, each into the smallest gap free for all of its life.

    Outputs take the place of an input that dies with the call, where the op allows it.
    `scratch_bytes` is the need of each node by name; a node that is not in it needs none. `stages`
    are names of consecutive calls whose rows run apart: what lives in one lives through all of it.
    """
    values, scratch = _blocks(graph, scratch_bytes or {})
    blocks = [*_join_in_place(graph, values), *scratch]
    _extend(graph, blocks, stages)
    placed: list[_Block] = []
    for block in sorted(blocks, key=lambda block: (-block.size, block.first)):
        block.offset = _best_gap(block, placed)
        placed.append(block)
    return _plan(graph, blocks, scratch_bytes or {})


def _check_offsets(graph: Graph, plan: Plan, scratch_bytes: Mapping[str, int]) -> None:
    roots = storage_roots(graph)
    arena = _arena_roots(graph, roots)
    placed = []
    for value in graph.values():
        if roots[value] in arena:
            if value not in plan.offsets:
                raise PlanError(f"%{value.name} has no offset")
            if plan.offsets[value] != plan.offsets.get(roots[value]):
                raise PlanError(f"%{value.name} does not lie where %{roots[value].name} does")
            placed.append((f"%{value.name}", plan.offsets[value], value.nbytes))
    for name, size in scratch_bytes.items():
        if size > 0 and name not in plan.scratch_offsets:
            raise PlanError(f"the scratch of {name!r} has no offset")
        placed.append((f"the scratch of {name!r}", plan.scratch_offsets.get(name, 0), size))
    for what, offset, size in placed:
        if offset % ALIGNMENT or offset < 0:
            raise PlanError(f"{what} lies at {offset}, which is no multiple of {ALIGNMENT}")
        if offset + size > plan.arena_bytes:
            raise PlanError(f"{what} ends at {offset + size}, the arena at {plan.arena_bytes}")


def verify_plan(graph: Graph, plan: Plan, scratch_bytes: Mapping[str, int] | None = None) -> None:
    """Check at every call that no two live stretches of memory overlap; PlanError where they do.

    The one overlap allowed is an output that takes the whole place of an input that dies there, in
    a slot in which the op works in place.
    """
    needs = dict(scratch_bytes or {})
    _check_offsets(graph, plan, needs)
    roots = storage_roots(graph)
    arena = _arena_roots(graph, roots)
    readers = dict.fromkeys(arena, 0)  # reads still to come
    calls = [node for node in graph.nodes if not OPS[node.op].is_alias]
    for node in calls:
        for root in {roots[value] for value in node.inputs if value is not None} & arena:
            readers[root] += 1
    live: set[Value] = set()
    for node in calls:
        reads = {roots[value] for value in node.inputs if value is not None} & arena
        for root in reads:
            readers[root] -= 1
        dying = {root for root in reads if readers[root] == 0}
        _check_call(node, plan, needs.get(node.name, 0), live, roots, dying)
        if node.output in arena:
            live.add(node.output)
        live = {root for root in live if readers[root] > 0}


def _check_call(
    node: Node,
    plan: Plan,
    scratch: int,
    live: set[Value],
    roots: dict[Value, Value],
    dying: Set[Value],
) -> None:
    """What the call writes, its output and its scratch, must lie apart from all that is alive."""
    allowed = _in_place_inputs(node, roots, dying)
    spans = [(f"%{value.name}", plan.offsets[value], value.nbytes, value) for value in live]
    written: list[tuple[str, int, int, Value | None]] = []
    if node.output in plan.offsets:
        written.append(
            (f"%{node.output.name}", plan.offsets[node.output], node.output.nbytes, node.output)
        )
    if scratch > 0:
        offset = plan.scratch_offsets[node.name]
        written.append((f"the scratch of {node.name!r}", offset, scratch, None))
    for position, (what, start, size, value) in enumerate(written):
        for other, begin, length, root in [*spans, *written[:position]]:
            if start >= begin + length or begin >= start + size:
                continue
            if value is not None and root in allowed and start == begin:
                continue
            raise PlanError(
                f"call {node.name!r}: {what} [{start}, {start + size}) overlaps"
                f" {other} [{begin}, {begin + length})"
            )
