"""permute(attention(permute(q), permute(k), permute(v))) -> attention(q, k, v, layout="bshd").

Linear layers leave the heads beside each other, (B, S, H, D), and take them so again. An attention
that strides over them needs no copy in either direction: 4 B S H D elements fewer are read and
written. It takes (B, S, H, D) where fewer copies are left than with (B, H, S, D), however the
movements in front of it and behind it are written. A rotation or a norm in front of it would stand
in between: rotary(permute(x)) -> permute(rotary(x, layout="bshd")), and rms_norm alike.

A slice of few rows, as of the last token, goes before the products, norms and sums that make them,
which then compute these rows alone: slice(matmul(a, b)) -> matmul(slice(a), b).

Values: exact for all; only the places of elements change, and a row of what a slice goes before
depends on the same row of its operands alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ir import Graph, Node, Value
from ..rewrite import Editor, Match, RewriteLog, Rule, apply_rules, pattern
from ._movements import (
    EQUAL_MOVEMENTS,
    SHORTER_MOVEMENTS,
    Cost,
    Movement,
    cheapest,
    cost_of,
    steps_to,
)
from ._views import BROADCASTING, View, moved_slot, movements_of

# (B, S, H, D) <-> (B, H, S, D): its own inverse.
_SWAP = (0, 2, 1, 3)


def _freed(editor: Editor, attention: Node) -> set[Node]:
    """The movements in front of an attention that lead to nothing else."""
    chains = [movements_of(editor, value) for value in attention.inputs[:3] if value is not None]
    freed = {node for chain in chains for node in chain}
    changed = True
    while changed:
        kept = {
            node
            for node in freed
            if node.output not in editor.graph.outputs
            and all(
                reader in freed or reader is attention
                for reader in editor.consumers.get(node.output, ())
            )
        }
        changed, freed = len(kept) < len(freed), kept
    return freed


def _inputs(editor: Editor, attention: Node) -> list[Movement]:
    """q, k and v as (B, S, H, D) by the fewest copies."""
    found = []
    for value in attention.inputs[:3]:
        assert value is not None
        shape = tuple(value.shape[axis] for axis in _SWAP)
        movement = cheapest(editor, value, attention, shape, lambda view: view.permuted(_SWAP))
        assert movement is not None  # a value is a view of itself
        found.append(movement)
    return found


def _behind(editor: Editor, attention: Node) -> list[Node]:
    """The movements behind an attention, each read by the next alone."""
    found: list[Node] = []
    value = attention.output
    while value not in editor.graph.outputs:
        readers = editor.consumers.get(value, [])
        if len(readers) != 1 or readers[0].op not in ("reshape", "permute"):
            break
        found.append(readers[0])
        value = readers[0].output
    return found


def _output_cost(attention: Node, behind: Sequence[Node], is_swapped: bool) -> Cost:
    """Of the movements that the output needs, as (B, H, S, D) or as (B, S, H, D)."""
    output = attention.output
    view: View | None = View.of(output)
    if is_swapped:
        view = View.of(Value(output.name, tuple(output.shape[axis] for axis in _SWAP)))
        view = view.permuted(_SWAP)
    view = view.after([(node.op, node.attributes) for node in behind]) if view else None
    shape = behind[-1].output.shape if behind else output.shape
    steps = None if view is None else steps_to(view, shape)
    if steps is None:  # two axes that cannot be joined: as many as there are
        return len(behind) + is_swapped, 0
    return cost_of(op for op, _ in steps)


def _check(match: Match) -> str | None:
    attention, editor = match["attention"], match.editor
    if attention.attribute("layout") != "bhsd":
        return ""
    inputs = _inputs(editor, attention)
    behind = _behind(editor, attention)
    before, after = (_output_cost(attention, behind, swapped)[0] for swapped in (False, True))
    old = cost_of(node.op for node in _freed(editor, attention))[0] + before
    new = len({step for movement in inputs for step in _copies(movement)}) + after
    if new < old:
        return None
    return f"(B, S, H, D) would leave {new} copies, (B, H, S, D) has {old}" if old else ""


def _copies(movement: Movement) -> list[tuple[Value, str]]:
    """What each copy is, so that those of k and v that are the same count once."""
    copies = []
    for index, (op, _) in enumerate(movement.steps):
        if op != "reshape":
            copies.append((movement.source, repr(movement.steps[: index + 1])))
    return copies


def _rewrite(match: Match) -> None:
    editor, attention = match.editor, match["attention"]
    inputs = _inputs(editor, attention)
    old = [node for value in attention.inputs[:3] if value for node in movements_of(editor, value)]
    made: dict[str, Value] = {}
    values: list[Value | None] = []
    for movement in inputs:
        key = f"{movement.source.name} {movement.steps}"
        made[key] = made[key] if key in made else movement.emit(editor, attention)
        values.append(made[key])
    attributes = attention.attributes | {"layout": "bshd"}
    values.append(attention.inputs[3])
    editor.put_behind(attention, "attention", values, attributes, ("permute", {"perm": _SWAP}))
    editor.drop_unread(old)


# rotary(permute(x), cos, sin) -> permute(rotary(x, cos, sin, layout="bshd"))


def _check_rotary(match: Match) -> str | None:
    rotary, permute = match["rotary"], match["permute"]
    if rotary.attribute("layout") != "bhsd" or permute.attribute("perm") != _SWAP:
        return ""
    return "" if match.editor.other_readers(permute.output, rotary) else None


def _rewrite_rotary(match: Match) -> None:
    rotary, permute, editor = match["rotary"], match["permute"], match.editor
    inputs = [permute.inputs[0], *rotary.inputs[1:]]
    attributes = rotary.attributes | {"layout": "bshd"}
    turned = editor.insert_before(rotary, "rotary", inputs, attributes)
    editor.replace(rotary, "permute", [turned], {"perm": _SWAP})


# rms_norm(permute(x), w) -> permute(rms_norm(x, w)), where a head's elements stay together


def _check_norm(match: Match) -> str | None:
    norm, permute = match["norm"], match["permute"]
    addend = norm.inputs[2] if norm.op == "rms_norm" else None
    if permute.attribute("perm") != _SWAP or addend is not None:
        return ""
    return "" if match.editor.other_readers(permute.output, norm) else None


def _rewrite_norm(match: Match) -> None:
    norm, permute, editor = match["norm"], match["permute"], match.editor
    inputs = [permute.inputs[0], *norm.inputs[1:]]
    normed = editor.insert_before(norm, norm.op, inputs, norm.attributes)
    editor.replace(norm, "permute", [normed], {"perm": _SWAP})


# slice(f(x, y)) -> f(slice(x), slice(y)), for an f that works row by row


def _sliced_slots(node: Node, axis: int) -> dict[int, int] | None:
    """The axis to slice of each slot that has it; None where a row needs more than its own row."""
    rank = len(node.output.shape)
    if node.op in ("layer_norm", "rms_norm"):
        weight, addend = node.inputs[1:3]
        if axis == rank - 1 or (weight is not None and len(weight.shape) > 1):
            return None
        has_addend = node.op == "rms_norm" and addend is not None
        return {0: axis} | ({2: axis} if has_addend else {})
    if node.op == "matmul":
        a, b = node.inputs[:2]
        if axis == rank - 1 or b is None or a is None or len(b.shape) != 2:
            return None
        return {0: axis} | ({3: axis} if node.inputs[3] is not None else {})
    found = {}
    for slot, value in enumerate(node.inputs):
        own = axis - rank + len(value.shape) if value is not None else -1
        if value is not None and own >= 0 and value.shape[own] > 1:
            found[slot] = own
    return found


def _check_slice(match: Match) -> str | None:
    cut, made, editor = match["slice"], match["made"], match.editor
    axis, start, stop = (cut.attribute(name) for name in ("axis", "start", "stop"))
    if 2 * (stop - start) > made.output.shape[axis] or moved_slot(editor, made) is not None:
        return ""
    if _sliced_slots(made, axis) is None or not _depends_on_inputs(editor, made):
        return ""
    return "" if editor.other_readers(made.output, cut) else None


def _depends_on_inputs(editor: Editor, node: Node) -> bool:
    return any(value is not None and editor.constant(value) is None for value in node.inputs)


def _rewrite_slice(match: Match) -> None:
    cut, made, editor = match["slice"], match["made"], match.editor
    slots = _sliced_slots(made, cut.attribute("axis"))
    assert slots is not None
    inputs = list(made.inputs)
    for slot, axis in slots.items():
        attributes = cut.attributes | {"axis": axis}
        inputs[slot] = editor.insert_before(cut, "slice", [made.inputs[slot]], attributes)
    editor.replace(cut, made.op, inputs, made.attributes, like=made)


_ROWWISE = "|".join(("matmul", "layer_norm", "rms_norm", *BROADCASTING))

RULES = (
    Rule(
        "norm_before_permute",
        (pattern("norm", "rms_norm|layer_norm", {0: pattern("permute", "permute")}),),
        _check_norm,
        _rewrite_norm,
    ),
    Rule(
        "rotary_before_permute",
        (pattern("rotary", "rotary", {0: pattern("permute", "permute")}),),
        _check_rotary,
        _rewrite_rotary,
    ),
    Rule("direct_layout", (pattern("attention", "attention"),), _check, _rewrite),
    SHORTER_MOVEMENTS,
    EQUAL_MOVEMENTS,
    Rule(
        "slice_before_rows",
        (pattern("slice", "slice", {0: pattern("made", _ROWWISE)}),),
        _check_slice,
        _rewrite_slice,
    ),
)


def direct_layout(graph: Graph, log: RewriteLog) -> Graph:
    """Let attention read and write (B, S, H, D) where that leaves fewer copies."""
    return apply_rules(graph, "direct_layout", RULES, log)
