"""matmul(softmax(mask(scale * matmul(q, k^T))), v) -> attention(q, k, v, mask, scale, causal).

The S x S scores need no longer exist at once. The scale may be the product's alpha or a scalar mul
or div behind it. A mask that is added stays an added mask, whatever it holds. A `where` with a
constant condition and a scalar becomes a mask that replaces scores (mask_replaces); where it puts
-inf on exactly the keys behind each query, it becomes causal=True. A constant mask of 0 that has
-inf, or a number of at most -1e31, exactly there becomes mask_is_causal: the kernels then leave
hidden keys out where q and k are so moderate that this gives the same.

Values: exact, as the attention is `strict`, where |v| times the number of keys is within float32:
weights are divided by their sum last. NaN and infinity in a key that `where` hides do not reach the
output; in a key that addition hides, and in any value (0 * NaN), they do. A row whose scores are
all -inf is NaN, a row of one finite fill the mean of v. A weight below e^-87 may be 0. The scale
follows the rules of absorb_into_matmul.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..ir import Graph, Node, Value
from ..rewrite import Editor, Match, RewriteLog, Rule, apply_rules, pattern
from ._attention_mask import (
    Masks,
    attributes_of,
    mask_value,
    reason_against,
    take_added,
    take_where,
)
from .absorb_into_matmul import scale_by, swaps_last_two


@dataclass
class _Parts:
    """What was found between the two products, from the softmax upwards."""

    scores: Node
    scale: float = 1.0
    masks: Masks = field(default_factory=Masks)


def _only_reader(editor: Editor, value: Value | None, reader: Node) -> Node | str:
    """The producer of a value that nobody else reads, or the reason."""
    node = editor.producer(value)
    if value is None or node is None:
        return "the softmax is not taken of a product"
    return editor.other_readers(value, reader) or node


def _peel_add(editor: Editor, masks: Masks, node: Node) -> Value | str:
    """add(scores, mask) -> the scores' value, the mask noted."""
    slot = 0 if _leads_to_product(editor, node.inputs[0]) else 1
    scores, mask = node.inputs[slot], node.inputs[1 - slot]
    assert scores is not None and mask is not None
    return take_added(editor, masks, mask) or scores


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
        peel = take_where if found.op == "where" else _peel_add
        inner = peel(editor, parts.masks, found)
        if isinstance(inner, str):
            return inner
        if inner.shape != parts.scores.output.shape:
            return "the mask widens the scores"
        found = _only_reader(editor, inner, reader)
    factors: list[tuple[str, float]] = []
    while not isinstance(found, str) and found.op in ("mul", "div"):
        reader = found
        slot = 0 if editor.scalar(found.inputs[1]) is not None else 1
        number = editor.scalar(found.inputs[1 - slot])
        if number is None or (found.op == "div" and slot == 1):
            return "the scores are not scaled by a scalar constant"
        factors.append((found.op, number))
        found = _only_reader(editor, found.inputs[slot], reader)
    if isinstance(found, str):
        return found
    if found.op != "matmul":
        return f"the softmax is taken of {found.op}, not of a product"
    return _take_product(editor, parts, found, factors)


def _take_product(
    editor: Editor, parts: _Parts, product: Node, factors: list[tuple[str, float]]
) -> _Parts | str:
    """The product q @ k^T, whose bias or addend is a mask that fuse_matmul_add took."""
    if product.attribute("activation") is not None:
        return "the scores have an activation"
    extra = [value for value in product.inputs[2:] if value is not None]
    if extra and factors:
        return "a mask is added before the scores are scaled"
    for mask in extra:
        reason = take_added(editor, parts.masks, mask)
        if reason is not None:
            return reason
    scale = scale_by(product.attribute("alpha"), "mul", 1.0)
    for op, number in reversed(factors):
        if isinstance(scale, str):
            break
        scale = scale_by(scale, op, number)
    if isinstance(scale, str):
        return scale
    parts.scores, parts.scale = product, scale
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
    return reason_against(match.editor, parts.masks, parts.scores.output.shape)


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


def _rewrite(match: Match) -> None:
    editor, output = match.editor, match["output"]
    parts = _take_apart(match)
    assert not isinstance(parts, str)
    q, v = parts.scores.inputs[0], output.inputs[1]
    assert q is not None and v is not None
    shape = output.output.shape
    scores = parts.scores.output.shape
    mask = mask_value(editor, output, parts.masks, scores)
    q4 = _four_axes(editor, output, q)
    k4 = _four_axes(editor, output, _keys(editor, output, parts.scores))
    v4 = _four_axes(editor, output, v)
    attributes: dict[str, object] = {"scale": float(parts.scale)}
    attributes |= attributes_of(editor, parts.masks, scores)
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
