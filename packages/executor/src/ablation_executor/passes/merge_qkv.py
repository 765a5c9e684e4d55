"""attention(a @ wq, a @ wk, a @ wv) -> attention(a @ [wq wk wv], layout="qkv").

One product of three times the columns reads `a` once and starts once. The weights are joined when
the pass runs; the graph lets go of the three it had.

Values: exact for all; a column of a product depends on its own column of the weight alone.
"""

from __future__ import annotations

import numpy as np

from ..constants import frozen
from ..ir import Graph, Node, Value
from ..rewrite import Editor, Match, RewriteLog, Rule, apply_rules, pattern

_NAMES = ("q", "k", "v")


def _products(match: Match) -> list[Node]:
    return [match[f"{name}_product"] for name in _NAMES]


def _reason_of(match: Match, name: str) -> str | None:
    """Why the product of q, k or v cannot be a part of a larger one, or None."""
    editor, reshape, product = match.editor, match[f"{name}_heads"], match[f"{name}_product"]
    heads, columns = reshape.output, product.output
    if columns.shape[-1] != heads.shape[2] * heads.shape[3]:
        return f"the reshape of {name} does more than split the columns into heads"
    if product.attribute("activation") is not None:
        return f"the product of {name} has an activation"
    if product.inputs[3] is not None:
        return f"the product of {name} has an addend"
    weight, bias = product.inputs[1:3]
    if weight is None or editor.constant(weight) is None or len(weight.shape) != 2:
        return f"the weight of {name} is not a constant matrix"
    if bias is not None and editor.constant(bias) is None:
        return f"the bias of {name} is not a constant"
    reason = editor.other_readers(heads, match["attention"])
    return reason or editor.other_readers(columns, reshape)


def _check(match: Match) -> str | None:
    layout = match["attention"].attribute("layout")
    if layout != "bshd":
        return f"the attention's layout is {layout}, not bshd"
    for name in _NAMES:
        reason = _reason_of(match, name)
        if reason is not None:
            return reason
    products = _products(match)
    if len(set(products)) != 3:
        return "q, k and v are not three products"
    first = products[0]
    for name, other in zip(_NAMES, products, strict=True):
        if other.inputs[0] is not first.inputs[0]:
            return f"{name} is not made from what q is made from"
        if (other.inputs[2] is None) != (first.inputs[2] is None):
            return f"of q and {name}, only one has a bias"
        for attribute in ("transpose_b", "alpha"):
            if other.attribute(attribute) != first.attribute(attribute):
                return f"{attribute} differs between q and {name}"
    return None


def _join(editor: Editor, values: list[Value], axis: int) -> Value:
    """The constants behind one another as one, named after all of them; made once."""
    key = (*values, axis)
    if key not in editor.joined:
        arrays = [editor.graph.constants[value] for value in values]
        name = "+".join(value.name for value in values)
        editor.joined[key] = editor.add_constant(name, frozen(np.concatenate(arrays, axis)))
    return editor.joined[key]


def _rewrite(match: Match) -> None:
    editor, attention, products = match.editor, match["attention"], _products(match)
    first = products[0]
    weights, biases = (
        [value for product in products if (value := product.inputs[slot]) is not None]
        for slot in (1, 2)
    )
    weight = _join(editor, weights, axis=0 if first.attribute("transpose_b") else 1)
    bias = _join(editor, biases, axis=0) if biases else None
    batch, seq_len, n_heads, head_dim = match["q_heads"].output.shape
    product = editor.insert_before(
        attention, "matmul", [first.inputs[0], weight, bias, None], first.attributes
    )
    qkv = editor.insert_before(
        attention, "reshape", [product], {"shape": (batch, seq_len, 3, n_heads, head_dim)}
    )
    attention.inputs = [qkv, None, None, attention.inputs[3]]
    attention.attributes["layout"] = "qkv"
    editor.drop_unread([match[f"{name}_heads"] for name in _NAMES])
    _drop_unread_constants(editor.graph, [*weights, *biases])


def _drop_unread_constants(graph: Graph, candidates: list[Value]) -> None:
    read = {value for node in graph.nodes for value in node.inputs} | {*graph.outputs}
    for value in candidates:
        if value not in read:
            graph.constants.pop(value, None)


RULES = (
    Rule(
        "merge_qkv",
        (
            pattern(
                "attention",
                "attention",
                {
                    slot: pattern(
                        f"{name}_heads", "reshape", {0: pattern(f"{name}_product", "matmul")}
                    )
                    for slot, name in enumerate(_NAMES)
                },
            ),
        ),
        _check,
        _rewrite,
    ),
)


def merge_qkv(graph: Graph, log: RewriteLog) -> Graph:
    """Make the linear layers of queries, keys and values one product."""
    return apply_rules(graph, "merge_qkv", RULES, log)
