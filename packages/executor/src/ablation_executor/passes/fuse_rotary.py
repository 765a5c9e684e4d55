"""stack(e * cos - o * sin, e * sin + o * cos) -> rotary(x, cos, sin), for e, o the pairs of x.

x (B, H, S, D) is read as pairs (B, H, S, D / 2, 2) and taken apart; cos and sin are (S, D / 2).
Export writes the stack as a `where` between its two parts. One sweep over x instead of ten.

Values: exact for all; each product is rounded before the sum, and overflows as written.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..ir import Graph, Node, Value
from ..rewrite import Editor, Match, RewriteLog, Rule, apply_rules, pattern


@dataclass(frozen=True)
class _Parts:
    x: Value
    cos: Value
    sin: Value


def _made_by(editor: Editor, value: Value | None, op: str) -> Node | None:
    node = editor.producer(value)
    return node if node is not None and node.op == op else None


def _part(editor: Editor, value: Value | None, op: str) -> Node | None:
    """The node of this op behind the reshape that gives a part of the stack its axis."""
    reshape = _made_by(editor, value, "reshape")
    return None if reshape is None else _made_by(editor, reshape.inputs[0], op)


def _terms(editor: Editor, node: Node) -> list[tuple[Value, Value]] | None:
    """The (numbers, table) of both products of a sum or difference."""
    terms = []
    for value in node.inputs:
        product = _made_by(editor, value, "mul")
        if product is None:
            return None
        a, b = product.inputs
        assert a is not None and b is not None
        terms.append((b, a) if len(a.shape) == 2 else (a, b))
    return terms


def _pairs_of(editor: Editor, value: Value, index: int) -> Value | None:
    """x, of whose pairs a value is the element `index`."""
    piece = _part(editor, value, "slice")
    if piece is None:
        return None
    pairs = _made_by(editor, piece.inputs[0], "reshape")
    if pairs is None or pairs.inputs[0] is None:
        return None
    x = pairs.inputs[0]
    if len(x.shape) != 4 or pairs.output.shape != (*x.shape[:3], x.shape[3] // 2, 2):
        return None
    place = tuple(piece.attribute(name) for name in ("axis", "start", "stop"))
    return x if place == (4, index, index + 1) else None


def _take_apart(match: Match) -> _Parts | str:
    """The parts of a rotation, or the reason why this is none."""
    editor, joined = match.editor, match["joined"]
    condition = editor.constant(joined.inputs[0])
    if condition is None or not np.array_equal(condition, [1, 0]):
        return "the where does not stack two parts along a last axis"
    difference = _part(editor, joined.inputs[1], "sub")
    total = _part(editor, joined.inputs[2], "add")
    if difference is None or total is None:
        return "the stacked parts are not a difference and a sum"
    first, second = _terms(editor, difference), _terms(editor, total)
    if first is None or second is None:
        return "the stacked parts are not made of products"
    (even, cos), (odd, sin) = first
    if {(even, sin), (odd, cos)} != set(second):
        return "the sum does not turn what the difference turns"
    x = _pairs_of(editor, even, 0)
    if x is None or _pairs_of(editor, odd, 1) is not x:
        return "the products are not taken of the pairs of one (B, H, S, D)"
    if not cos.shape == sin.shape == (x.shape[2], x.shape[3] // 2):
        return f"cos {list(cos.shape)} and sin {list(sin.shape)} are not (S, D / 2) of {x!r}"
    return _Parts(x, cos, sin)


def _check(match: Match) -> str | None:
    parts = _take_apart(match)
    if isinstance(parts, str):
        return parts
    if match["flat"].output.shape != parts.x.shape:
        return f"the pairs are not put back to {list(parts.x.shape)}"
    return match.editor.other_readers(match["joined"].output, match["flat"])


def _rewrite(match: Match) -> None:
    parts = _take_apart(match)
    assert not isinstance(parts, str)
    match.editor.replace(match["flat"], "rotary", [parts.x, parts.cos, parts.sin], {})


RULES = (
    Rule(
        "rotary",
        (pattern("flat", "reshape", {0: pattern("joined", "where")}),),
        _check,
        _rewrite,
    ),
)


def fuse_rotary(graph: Graph, log: RewriteLog) -> Graph:
    """Join what a rotary embedding that is written out consists of."""
    return apply_rules(graph, "fuse_rotary", RULES, log)
