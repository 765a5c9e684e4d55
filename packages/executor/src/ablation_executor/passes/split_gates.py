"""silu(p[..., :n]) * p[..., n:], p = a @ w -> silu(a @ w[:, :n]) * (a @ w[:, n:]).

Models keep the weights of a gate and of what it gates as one. Their product is cut in two, which
copies all of it; two products write each part where it is read. Any element-wise function may stand
before the product of the two parts, or none.

Values: exact for all; a column of a product depends on its own column of the weight alone.
"""

from __future__ import annotations

from ..constants import frozen
from ..ir import Graph, Node, Value
from ..rewrite import Editor, Match, RewriteLog, Rule, apply_rules, pattern
from ._written_out import made_by

_GATES = "silu|gelu|relu|sigmoid|tanh"


def _slice_of_product(editor: Editor, value: Value | None) -> tuple[Node, Node] | None:
    """The slice along the columns that makes a value, behind a gate's function, and its product."""
    gate = made_by(editor, value, _GATES)
    piece = made_by(editor, value if gate is None else gate.inputs[0], "slice")
    product = None if piece is None else made_by(editor, piece.inputs[0], "matmul")
    if piece is None or product is None:
        return None
    is_last = piece.attribute("axis") == len(product.output.shape) - 1
    return (piece, product) if is_last else None


def find_parts(match: Match) -> tuple[Node, list[Node]] | None:
    """The product and its two slices."""
    found = [_slice_of_product(match.editor, value) for value in match["gated"].inputs]
    if found[0] is None or found[1] is None or found[0][1] is not found[1][1]:
        return None
    return found[0][1], [found[0][0], found[1][0]]


def _check(match: Match) -> str | None:
    editor, parts = match.editor, find_parts(match)
    if parts is None:
        return ""
    product, slices = parts
    weight, bias = product.inputs[1:3]
    if slices[0] is slices[1]:
        return ""
    for value in (weight, bias):
        if value is not None and editor.constant(value) is None:
            return f"{value.name} of {product.name} is not a constant"
    if weight is None or len(weight.shape) != 2:
        return ""
    if product.inputs[3] is not None or product.attribute("activation") is not None:
        return "the product has an addend or an activation"
    return editor.other_readers(product.output, *slices)


def _columns(editor: Editor, value: Value, piece: Node, axis: int) -> Value:
    """The part of a weight or bias that makes the columns of a slice."""
    start, stop = piece.attribute("start"), piece.attribute("stop")
    key = (value, axis, start, stop)
    if key not in editor.joined:
        array = editor.graph.constants[value]
        part = array[start:stop] if axis == 0 else array[:, start:stop]
        name = f"{value.name}[{start}:{stop}]"
        editor.joined[key] = editor.add_constant(name, frozen(part.copy()))
    return editor.joined[key]


def _rewrite(match: Match) -> None:
    editor, parts = match.editor, find_parts(match)
    assert parts is not None
    product, slices = parts
    a, weight, bias = product.inputs[:3]
    assert weight is not None
    axis = 0 if product.attribute("transpose_b") else 1
    for piece in slices:
        part = None if bias is None else _columns(editor, bias, piece, 0)
        inputs = [a, _columns(editor, weight, piece, axis), part, None]
        editor.replace(piece, "matmul", inputs, product.attributes)
        piece.module_path = product.module_path
    editor.drop_unread([product])


RULES = (Rule("split_gates", (pattern("gated", "mul|silu_mul"),), _check, _rewrite),)


def split_gates(graph: Graph, log: RewriteLog) -> Graph:
    """Make one product whose halves gate one another two products."""
    return apply_rules(graph, "split_gates", RULES, log)
