"""attention(a @ wq, a @ wk, a @ wv) -> attention(a @ [wq wk wv], layout="qkv").

One product of all columns reads `a` once and starts once, and attention reads its result where it
lies, also where k and v have fewer heads than q. The three may come from three products or from
one; that one's columns may be in another order (heads outside of q, k and v), and its rows as well
((S, B, E)). Where the weight is constant its columns are put in order once, when the pass runs; the
graph lets go of the weights it had. A product that lacks the bias that others have gets one of
zeros, and factors that differ go into the weights.

A rotation of q and one of k become one of both, which leaves the heads of v, and so do their norms,
with a weight for each head, or for all heads together where these are as many. Where one product of
heads that share keys cannot stay one, it becomes three, which need no copies of their columns.

Values: exact for all; a column of a product depends on its own column of the weight alone. A factor
goes into a weight if it is at most 1 and leaves no element below the smallest normal number; it is
rounded there, unless it is a power of two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..constants import frozen
from ..ir import Graph, Node, Shape, Value
from ..rewrite import Editor, Match, RewriteLog, Rule, apply_rules, pattern
from ._movements import SHORTER_MOVEMENTS, cheapest, steps_to
from ._qkv_parts import (
    SWAP,
    Part,
    columns_of,
    has_own_order,
    has_own_rows,
    parts_of,
    reason_of,
    reason_of_readers,
    scales_weights,
)


def _check(match: Match) -> str | None:
    parts = parts_of(match)
    return parts if isinstance(parts, str) else None


# The joined constants -----------------------------------------------------------------------------


def _joined(
    editor: Editor, parts: Sequence[Part], slot: int, transpose_b: bool, keeps_alpha: bool
) -> Value | None:
    """The weights (slot 1) or biases (slot 2) of all parts as one constant, made once."""
    values = [part.product.inputs[slot] for part in parts]
    if all(value is None for value in values):
        return None
    key = (
        *values,
        *(part.columns.tobytes() for part in parts),
        *(part.product.attribute("transpose_b") for part in parts),
        *(None if keeps_alpha else (part.alpha, part.factor) for part in parts),
        transpose_b,
    )
    if key not in editor.joined:
        arrays = []
        for part, value in zip(parts, values, strict=True):
            array = editor.constant(value)
            if array is None:
                array = np.zeros(part.product.output.shape[-1], np.float32)
            # The columns become the first axis.
            if slot == 1 and not part.product.attribute("transpose_b"):
                array = array.T
            array = array[part.columns]
            factor = 1.0 if keeps_alpha else part.factor * (part.alpha if slot == 1 else 1.0)
            arrays.append(array if factor == 1.0 else array * np.float32(factor))
        whole = np.concatenate(arrays)
        whole = whole if transpose_b or slot == 2 else np.ascontiguousarray(whole.T)
        names = dict.fromkeys(value.name for value in values if value is not None)
        editor.joined[key] = editor.add_constant("+".join(names), frozen(whole))
    return editor.joined[key]


def _rows(editor: Editor, part: Part) -> Value:
    """`a` with its rows in the order of (B, S), or as it is where they are so already."""
    if has_own_rows(part):
        return part.a
    steps = steps_to(part.rows, part.rows.shape) or []
    found = cheapest(editor, part.a, part.product, part.rows.shape, lambda view: view.after(steps))
    assert found is not None
    return found.emit(editor, part.product)


def _merged(editor: Editor, attention: Node, parts: list[Part]) -> Value:
    """The one product of all parts: the one there is, or a new one."""
    first = parts[0].product
    if has_own_order(parts) and has_own_rows(parts[0]):
        return first.output
    weight, bias = first.inputs[1:3]
    attributes = dict(first.attributes)
    if not has_own_order(parts):
        keeps_alpha = not scales_weights(parts)
        transpose_b = bool(first.attribute("transpose_b"))
        weight, bias = (_joined(editor, parts, slot, transpose_b, keeps_alpha) for slot in (1, 2))
        attributes = attributes if keeps_alpha else attributes | {"alpha": 1.0}
    inputs = [_rows(editor, parts[0]), weight, bias, None]
    return editor.insert_before(attention, "matmul", inputs, attributes)


def _rewrite(match: Match) -> None:
    editor, attention = match.editor, match["attention"]
    parts, q = parts_of(match), attention.inputs[0]
    assert not isinstance(parts, str) and q is not None
    products = [part.product for part in parts]
    product = _merged(editor, attention, parts)
    is_bshd = attention.attribute("layout") == "bshd"
    batch, seq_len, n_heads, head_dim = q.shape if is_bshd else (q.shape[axis] for axis in SWAP)
    all_heads = sum(part.heads for part in parts)
    product = _normed(editor, attention, parts, product)
    heads: Shape = (batch, seq_len, all_heads, head_dim)
    rotary = parts[0].rotary
    if rotary is not None:
        product = _reshaped(editor, attention, product, heads)
        turned = rotary.attributes | {"layout": "bshd", "n_heads": all_heads - parts[2].heads}
        product = editor.insert_before(attention, "rotary", [product, *rotary.inputs[1:]], turned)
    attributes: dict[str, object] = {"layout": "qkv"}
    if all_heads == 3 * n_heads:
        heads = (batch, seq_len, 3, n_heads, head_dim)
    else:
        attributes["n_heads"] = n_heads
    inputs = [_reshaped(editor, attention, product, heads), None, None, attention.inputs[3]]
    attributes = attention.attributes | attributes
    if is_bshd:
        attention.inputs, attention.attributes = inputs, attributes
    else:
        editor.put_behind(attention, "attention", inputs, attributes, ("permute", {"perm": SWAP}))
    editor.drop_unread([node for part in parts for node in part.passed] + products)


def _reshaped(editor: Editor, place: Node, value: Value, shape: Shape) -> Value:
    if value.shape == shape:
        return value
    return editor.insert_before(place, "reshape", [value], {"shape": shape})


def _normed(editor: Editor, attention: Node, parts: list[Part], product: Value) -> Value:
    """The merged product with the heads of q and k normed, each by its own weight."""
    normed = [(part, part.norm) for part in parts if part.norm is not None]
    if not normed:
        return product
    width = normed[0][1].output.shape[-1]
    values = [norm.inputs[1] for _, norm in normed]
    rows = [part.columns.size // width for part, _ in normed]
    key = ("norm", *values, *rows)
    if key not in editor.joined:
        repeated = []
        for value, count in zip(values, rows, strict=True):
            array = editor.constant(value)
            assert array is not None
            repeated.append(np.tile(array, (count, 1)))
        names = "+".join(value.name for value in values if value is not None)
        editor.joined[key] = editor.add_constant(names, frozen(np.concatenate(repeated)))
    batch, seq_len = parts[0].rows.shape[:2]
    shape = (batch, seq_len, product.shape[-1] // width, width)
    inputs = [_reshaped(editor, attention, product, shape), editor.joined[key], None]
    return editor.insert_before(attention, "rms_norm", inputs, normed[0][1].attributes)


# attention of q, k and v cut from one product, with more heads of q -> of three products


def _check_split(match: Match) -> str | None:
    editor, attention = match.editor, match["attention"]
    parts = columns_of(match)
    if isinstance(parts, str) or len({part.columns.size for part in parts}) == 1:
        return ""
    if len({part.product for part in parts}) > 1 or any(part.factor != 1.0 for part in parts):
        return ""
    return reason_of(editor, parts[0], "q, k and v") or reason_of_readers(editor, attention, parts)


def _rewrite_split(match: Match) -> None:
    editor, attention, parts = match.editor, match["attention"], columns_of(match)
    assert not isinstance(parts, str)
    product = parts[0].product
    rows = _rows(editor, parts[0])
    transpose_b = bool(product.attribute("transpose_b"))
    passed = [node for part in parts for node in part.passed]
    for slot, part in enumerate(parts):
        first = part.norm or part.rotary
        reader, place = (attention, slot) if first is None else (first, 0)
        weight, bias = (_joined(editor, [part], each, transpose_b, True) for each in (1, 2))
        inputs = [rows, weight, bias, None]
        value = editor.insert_before(reader, "matmul", inputs, product.attributes)
        old = reader.inputs[place]
        assert old is not None
        is_bshd = reader is part.norm or reader.attribute("layout") == "bshd"
        shape = old.shape if is_bshd else tuple(old.shape[axis] for axis in SWAP)
        value = editor.insert_before(reader, "reshape", [value], {"shape": shape})
        if not is_bshd:
            value = editor.insert_before(reader, "permute", [value], {"perm": SWAP})
        reader.inputs[place] = value
    editor.drop_unread([*passed, product])


RULES = (
    Rule("merge_qkv", (pattern("attention", "attention"),), _check, _rewrite),
    Rule("split_qkv", (pattern("attention", "attention"),), _check_split, _rewrite_split),
    SHORTER_MOVEMENTS,
)


def merge_qkv(graph: Graph, log: RewriteLog) -> Graph:
    """Make the linear layers of queries, keys and values one product."""
    return apply_rules(graph, "merge_qkv", RULES, log)
