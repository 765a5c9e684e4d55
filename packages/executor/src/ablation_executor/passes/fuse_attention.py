"""matmul(softmax(mask(scale * matmul(q, k^T))), v) -> attention(q, k, v, mask, scale, causal).

The S x S scores need no longer exist at once. The scale may be the product's alpha or a scalar mul
or div behind it. The mask may be an added tensor, or a `where` with a constant condition and -inf;
a constant mask that hides exactly the keys after the query becomes causal=True.

A softmax row whose every key is masked is NaN, the attention op's is 0: a constant mask with such a
row is refused. For an added mask that is not a constant the difference stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..ir import Array, Graph, Node, Value
from ..rewrite import Editor, Match, RewriteLog, Rule, apply_rules, pattern
from .absorb_into_matmul import swaps_last_two

# exp() of a masked score underflows to exactly 0 beside any score above this.
_HIDDEN = -1e30


@dataclass
class _Parts:
    """What was found between the two products, from the softmax upwards."""

    scores: Node
    scale: float = 1.0
    hidden: Array | None = None  # constant: True where a key is masked
    added: Value | None = None  # any tensor that is added to the scores


def _only_reader(editor: Editor, value: Value | None, reader: Node) -> Node | str:
    """The producer of a value that nobody else reads, or the reason."""
    node = editor.producer(value)
    if value is None or node is None:
        return "the softmax is not taken of a product"
    return editor.other_readers(value, reader) or node


def _hide(parts: _Parts, hidden: Array) -> None:
    parts.hidden = hidden if parts.hidden is None else parts.hidden | hidden


def _peel_where(editor: Editor, parts: _Parts, node: Node) -> Value | str:
    """where(condition, scores, -inf) or where(condition, -inf, scores) -> the scores' value."""
    condition = editor.constant(node.inputs[0])
    if condition is None:
        return "the mask's condition is not a constant"
    for slot, shows in ((1, True), (2, False)):
        scores, fill = node.inputs[slot], editor.scalar(node.inputs[3 - slot])
        if scores is None or fill is None:
            continue
        if fill > _HIDDEN:
            return f"masked scores are {fill:g}, not -inf"
        _hide(parts, (condition == 0) if shows else (condition != 0))
        return scores
    return "neither side of the mask is a scalar constant"


def _peel_add(editor: Editor, parts: _Parts, node: Node) -> Value | str:
    """add(scores, mask) -> the scores' value, the mask noted."""
    slot = 0 if _leads_to_product(editor, node.inputs[0]) else 1
    scores, mask = node.inputs[slot], node.inputs[1 - slot]
    assert scores is not None and mask is not None
    array = editor.constant(mask)
    if array is not None and np.all((array == 0) | (array <= _HIDDEN)):
        _hide(parts, array != 0)
        return scores
    if parts.added is not None:
        return "two masks are added"
    parts.added = mask
    return scores


def _leads_to_product(editor: Editor, value: Value | None) -> bool:
    node = editor.producer(value)
    if node is None or node.op == "matmul":
        return node is not None
    inner = node.inputs if node.op in ("mul", "div", "where", "add") else []
    return any(_leads_to_product(editor, operand) for operand in inner)


def _take_apart(match: Match) -> _Parts | str:
    """The parts of an attention, or the reason why this is none."""
    editor, reader = match.editor, match["softmax"]
    found = _only_reader(editor, reader.inputs[0], reader)
    if isinstance(found, str):
        return found
    parts = _Parts(found)
    while not isinstance(found, str) and found.op in ("where", "add"):
        reader = found
        inner = (
            _peel_where(editor, parts, found)
            if found.op == "where"
            else _peel_add(editor, parts, found)
        )
        if isinstance(inner, str):
            return inner
        if inner.shape != parts.scores.output.shape:
            return "the mask widens the scores"
        found = _only_reader(editor, inner, reader)
    scaled = 1.0
    while not isinstance(found, str) and found.op in ("mul", "div"):
        reader = found
        slot = 0 if editor.scalar(found.inputs[1]) is not None else 1
        factor = editor.scalar(found.inputs[1 - slot])
        if factor is None or (found.op == "div" and (slot == 1 or factor == 0.0)):
            return "the scores are not scaled by a scalar constant"
        scaled *= factor if found.op == "mul" else 1.0 / factor
        found = _only_reader(editor, found.inputs[slot], reader)
    if isinstance(found, str):
        return found
    if found.op != "matmul":
        return f"the softmax is taken of {found.op}, not of a product"
    return _take_product(parts, found, scaled)


def _take_product(parts: _Parts, product: Node, scaled: float) -> _Parts | str:
    """The product q @ k^T, whose bias or addend is a mask that fuse_matmul_add took."""
    if product.attribute("activation") is not None:
        return "the scores have an activation"
    extra = [value for value in product.inputs[2:] if value is not None]
    if extra and scaled != 1.0:
        return "a mask is added before the scores are scaled"
    if len(extra) + (parts.added is not None) > 1:
        return "two masks are added"
    parts.added = extra[0] if extra else parts.added
    parts.scores = product
    parts.scale = scaled * product.attribute("alpha")
    return parts


def _check(match: Match) -> str | None:
    output, softmax = match["output"], match["softmax"]
    if output.attribute("transpose_b") or output.attribute("alpha") != 1.0:
        return "the second product transposes v or scales"
    if output.inputs[2] is not None or output.inputs[3] is not None:
        return "the second product already has a bias or an addend"
    if output.attribute("activation") is not None:
        return "the second product already has an activation"
    reason = match.editor.other_readers(softmax.output, output)
    if reason is not None:
        return reason
    parts = _take_apart(match)
    if isinstance(parts, str):
        return parts
    q, k = parts.scores.inputs[:2]
    v = output.inputs[1]
    assert q is not None and k is not None and v is not None
    if not q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
        return (
            f"q {list(q.shape)}, k {list(k.shape)} and v {list(v.shape)} differ in batch or heads"
        )
    if v.shape[-1] != q.shape[-1]:
        return f"v has head size {v.shape[-1]}, q and k have {q.shape[-1]}"
    return _mask_reason(match.editor, parts, q)


def _mask_reason(editor: Editor, parts: _Parts, q: Value) -> str | None:
    """Why the mask cannot be one tensor over (B, H, Sq, Sk), or None."""
    added = editor.constant(parts.added)
    if parts.added is not None and parts.hidden is not None and added is None:
        return "a constant mask and an added tensor cannot be joined ahead of time"
    hidden = np.zeros((), bool) if parts.hidden is None else parts.hidden
    hidden = hidden if added is None else hidden | np.isneginf(added)
    if np.broadcast_to(hidden, np.broadcast_shapes(hidden.shape, (1,))).all(axis=-1).any():
        return "the mask hides every key of a row: softmax gives NaN there, attention 0"
    shape = hidden.shape if parts.added is None else parts.added.shape
    leading = q.shape[:-2]
    if len(leading) != 2 and any(size != 1 for size in shape[:-2]) and shape[:-2] != leading:
        return f"a mask of {list(shape)} cannot be folded to four axes"
    return None


def _is_causal(parts: _Parts) -> bool:
    """Whether the mask hides exactly the keys behind each query, in every batch and head."""
    if parts.hidden is None or parts.added is not None or parts.hidden.ndim < 2:
        return False
    *leading, queries, keys = parts.hidden.shape
    if math.prod(leading) != 1 or (queries, keys) != parts.scores.output.shape[-2:]:
        return False
    return np.array_equal(parts.hidden.reshape(queries, keys), ~np.tri(queries, keys, dtype=bool))


def _four_axes(editor: Editor, place: Node, value: Value) -> Value:
    """(..., S, D) -> (1, product of the leading axes, S, D); (B, H, S, D) stays."""
    if len(value.shape) == 4:
        return value
    shape = (1, math.prod(value.shape[:-2]), *value.shape[-2:])
    return editor.insert_before(place, "reshape", [value], {"shape": shape})


def _keys(editor: Editor, place: Node, product: Node) -> Value:
    """k as (..., Sk, D), undoing the transpose in front of the product."""
    operand = product.inputs[1]
    assert operand is not None
    if product.attribute("transpose_b"):
        return operand
    last = len(operand.shape) - 1
    producer = editor.producer(operand)
    perm = (*range(last - 1), last, last - 1)
    source = operand
    if producer is not None and producer.op == "permute":
        inner = producer.attribute("perm")
        assert producer.inputs[0] is not None
        source = producer.inputs[0]
        if swaps_last_two(inner):
            return source
        perm = tuple(inner[axis] for axis in perm)
    return editor.insert_before(place, "permute", [source], {"perm": perm})


def _mask(editor: Editor, place: Node, parts: _Parts, leading: tuple[int, ...]) -> Value | None:
    """The additive mask as one value, broadcastable to (B, H, Sq, Sk)."""
    if _is_causal(parts):
        return None
    mask = parts.added
    if parts.hidden is not None:
        array = np.where(parts.hidden, -np.inf, 0.0)
        added = editor.constant(mask)
        mask = editor.add_constant("mask", array if added is None else array + added)
    if mask is None or len(leading) == 2 or len(mask.shape) <= 2:
        return mask
    shape = (1, math.prod(mask.shape[:-2]), *mask.shape[-2:])
    return editor.insert_before(place, "reshape", [mask], {"shape": shape})


def _rewrite(match: Match) -> None:
    editor, output = match.editor, match["output"]
    parts = _take_apart(match)
    assert not isinstance(parts, str)
    q, v = parts.scores.inputs[0], output.inputs[1]
    assert q is not None and v is not None
    shape = output.output.shape
    mask = _mask(editor, output, parts, q.shape[:-2])
    q4 = _four_axes(editor, output, q)
    k4 = _four_axes(editor, output, _keys(editor, output, parts.scores))
    v4 = _four_axes(editor, output, v)
    attributes: dict[str, object] = {"scale": float(parts.scale)}
    attributes |= {"causal": True} if _is_causal(parts) else {}
    if len(shape) == 4:
        editor.replace(output, "attention", [q4, k4, v4, mask], attributes)
        return
    out = editor.insert_before(output, "attention", [q4, k4, v4, mask], attributes)
    editor.replace(output, "reshape", [out], {"shape": shape})


RULES = (
    Rule(
        "attention",
        (pattern("output", "matmul", {0: pattern("softmax", "softmax")}),),
        _check,
        _rewrite,
    ),
)


def fuse_attention(graph: Graph, log: RewriteLog) -> Graph:
    """Join product, scale, mask, softmax and product into one attention."""
    return apply_rules(graph, "fuse_attention", RULES, log)
