"""matmul(softmax(mask(scale * matmul(q, k^T))), v) -> attention(q, k, v, mask, scale, causal).

The S x S scores need no longer exist at once. The scale may be the product's alpha or a scalar mul
or div behind it; reshapes of batch and heads may stand anywhere in between. c * tanh(scores) in
front of all masks becomes softcap=c. A mask that is added
stays an added mask, whatever it holds; several are added up. A `where` with a scalar becomes a mask
that replaces scores (mask_replaces); where it puts -inf on exactly the keys behind each query, it
becomes causal=True, and with those that are too far before it, window as well. A constant mask of 0
that has -inf, or a number of at most -1e31, exactly behind each query becomes mask_is_causal: the
kernels then leave hidden keys out where q and k are so moderate that this gives the same. A mask
that hides nothing is left out.

Keys and values that groups of heads share are not repeated:
attention(q, repeat(k), repeat(v)) -> attention(q, k, v), and a mask is not repeated either. One
head of keys and values may be a matrix that all heads of q are multiplied by.

Values: exact, as the attention is `strict`, where |v| times the number of keys is within float32:
weights are divided by their sum last. NaN and infinity in a key that `where` hides do not reach the
output; in a key that addition hides, and in any value (0 * NaN), they do. A row whose scores are
all -inf is NaN, a row of one finite fill the mean of v. A weight below e^-87 may be 0. Masks that
are added one after another may be added up first. The scale follows the rules of
absorb_into_matmul.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from ..ir import Graph, Node, Shape, Value
from ..rewrite import Editor, Match, RewriteLog, Rule, apply_rules, pattern
from ._attention_mask import (
    Joined,
    Mask,
    join,
    least,
    least_shape,
    mask_value,
    take_where,
)
from ._movements import cheapest
from ._views import View, views_of
from .absorb_into_matmul import scale_by

_MIXED = "a reshape mixes queries and keys"


@dataclass
class _Parts:
    """What was found between the two products, from the softmax upwards."""

    scores: Node
    scale: float = 1.0
    softcap: float = 0.0  # 0: none
    masks: list[Mask] = field(default_factory=list)
    leading: list[Shape] = field(default_factory=list)  # of the scores, as they were reshaped


def _only_reader(editor: Editor, value: Value | None, reader: Node) -> Node | str:
    """The producer of a value that nobody else reads, or the reason."""
    node = editor.producer(value)
    if value is None or node is None:
        return _reason_of_no_product("an input")
    return editor.other_readers(value, reader) or node


def _reason_of_no_product(what: str) -> str:
    return f"the softmax is taken of {what}, not of a product"


def _leads_to_product(editor: Editor, value: Value | None) -> bool:
    node = editor.producer(value)
    if node is None or node.op == "matmul":
        return node is not None
    passed = ("mul", "div", "where", "add", "reshape", "tanh")
    inner = node.inputs if node.op in passed else []
    return any(_leads_to_product(editor, operand) for operand in inner)


def _peel(editor: Editor, parts: _Parts, node: Node) -> Value | str:
    """The scores that a mask or a reshape of batch and heads is applied to."""
    shape = node.output.shape
    if node.op == "reshape":
        scores = node.inputs[0]
        assert scores is not None
        if scores.shape[-2:] != shape[-2:]:
            return _MIXED
        parts.leading.append(scores.shape[:-2])
        return scores
    if node.op == "where":
        found = take_where(editor, node)
        if isinstance(found, str):
            return found
        scores, mask = found
    else:
        slot = 0 if _leads_to_product(editor, node.inputs[0]) else 1
        scores, added = node.inputs[slot], node.inputs[1 - slot]
        assert scores is not None and added is not None
        mask = Mask(added, scores.shape[:-2])
    if scores.shape != shape:
        return ""  # the mask widens the scores
    parts.masks.append(mask)
    return scores


def _take_apart(match: Match) -> _Parts | str:
    """The parts of an attention, or the reason why this is none."""
    editor, reader = match.editor, match["softmax"]
    found = _only_reader(editor, reader.inputs[0], reader)
    if isinstance(found, str):
        return found
    parts = _Parts(found, leading=[reader.output.shape[:-2]])
    factors: list[tuple[str, float]] = []
    passed = ("where", "add", "reshape", "mul", "div", "tanh")
    while not isinstance(found, str) and found.op in passed:
        reader = found
        if found.op in ("mul", "div"):
            inner = _peel_factor(editor, factors, found)
        elif found.op == "tanh":
            inner = _peel_cap(parts, factors, found)
        elif (factors or parts.softcap) and found.op != "reshape":
            return _reason_of_mask_below(factors)
        else:
            inner = _peel(editor, parts, found)
        if isinstance(inner, str):
            return inner
        found = _only_reader(editor, inner, reader)
    if isinstance(found, str):
        return found
    if found.op != "matmul":
        return _reason_of_no_product(found.op)
    return _take_product(parts, found, factors)


def _reason_of_mask_below(factors: list[tuple[str, float]]) -> str:
    return f"a mask is added before the scores are {'scaled' if factors else 'capped'}"


def _peel_factor(editor: Editor, factors: list[tuple[str, float]], node: Node) -> Value | str:
    slot = 0 if editor.scalar(node.inputs[1]) is not None else 1
    number, inner = editor.scalar(node.inputs[1 - slot]), node.inputs[slot]
    if number is None or inner is None or (node.op == "div" and slot == 1):
        return "the scores are not scaled by a scalar constant"
    factors.append((node.op, number))
    return inner


def _peel_cap(parts: _Parts, factors: list[tuple[str, float]], node: Node) -> Value | str:
    """The scores below a tanh, whose factors so far are the cap."""
    inner, cap = node.inputs[0], _product_of(1.0, factors)
    assert inner is not None
    if isinstance(cap, str):
        return cap
    if parts.softcap or cap <= 0.0:
        return _reason_of_no_product("tanh")
    parts.softcap = cap
    factors.clear()
    return inner


def _product_of(alpha: float, factors: list[tuple[str, float]]) -> float | str:
    """alpha with all factors, the outermost first, or the reason why they are not one."""
    scale = scale_by(alpha, "mul", 1.0)
    for op, number in reversed(factors):
        if isinstance(scale, str):
            break
        scale = scale_by(scale, op, number)
    return scale


def _take_product(parts: _Parts, product: Node, factors: list[tuple[str, float]]) -> _Parts | str:
    """The product q @ k^T, whose bias or addend is a mask that fuse_matmul_add took."""
    if product.attribute("activation") is not None:
        return _reason_of_no_product(product.attribute("activation"))
    extra = [value for value in product.inputs[2:] if value is not None]
    if extra and (factors or parts.softcap):
        return _reason_of_mask_below(factors)
    parts.masks += [Mask(value, product.output.shape[:-2]) for value in extra[::-1]]
    scale = _product_of(product.attribute("alpha"), factors)
    if isinstance(scale, str):
        return scale
    # c tanh(s) = c tanh((c s) / c); where c s overflows, tanh(s) is 1 or -1 as it is of infinity.
    parts.scores, parts.scale = product, scale * (parts.softcap or 1.0)
    return parts


def _batch_and_heads(editor: Editor, parts: _Parts) -> Shape:
    """(B, H) of the scores: as they are shaped somewhere, or as q was, else (1, all of them)."""
    for leading in reversed(parts.leading):
        if len(leading) == 2:
            return leading
    leading, q = parts.scores.output.shape[:-2], parts.scores.inputs[0]
    if len(leading) == 1 and q is not None:
        for view, _ in views_of(editor, q, scaled=True):
            if len(view.axes[0]) == 2:
                return view.axes[0][0][0], view.axes[0][1][0]
    return 1, math.prod(leading)


def _scores_shape(editor: Editor, parts: _Parts) -> Shape:
    return (*_batch_and_heads(editor, parts), *parts.scores.output.shape[-2:])


def _joined(match: Match) -> tuple[_Parts, Shape, Joined] | str:
    """The parts, (B, H, Sq, Sk), and the masks as one, or the reason against it."""
    parts = _take_apart(match)
    if isinstance(parts, str):
        return parts
    shape = _scores_shape(match.editor, parts)
    key, known = (tuple(parts.masks), shape), match.editor.known
    if key not in known:  # all layers have the same masks, of many elements
        known[key] = join(match.editor, parts.masks, shape)
    joined: Joined | str = known[key]
    return joined if isinstance(joined, str) else (parts, shape, joined)


def _check(match: Match) -> str | None:
    output, softmax, editor = match["output"], match["softmax"], match.editor
    more = _more_than_product(output)
    if more:
        return f"the product of weights and v also has {more}"
    weights = match.nodes.get("weights", softmax)
    if weights.output.shape[-2:] != softmax.output.shape[-2:]:
        return _MIXED
    reason = editor.other_readers(weights.output, output)
    if weights is not softmax:
        reason = reason or editor.other_readers(softmax.output, weights)
    if reason is not None:
        return reason
    parts = _take_apart(match)
    if isinstance(parts, str):
        return parts
    q, k = parts.scores.inputs[:2]
    v = output.inputs[1]
    assert q is not None and k is not None and v is not None
    is_one = _are_one_head(k, v) and _scores_shape(editor, parts)[0] == 1
    own = q.shape[:-2] == k.shape[:-2] and v.shape[:-2] == weights.output.shape[:-2]
    if not own and not is_one:
        return (
            f"q {list(q.shape)}, k {list(k.shape)} and v {list(v.shape)} differ in batch or heads"
        )
    found = _joined(match)
    if isinstance(found, str):
        return found
    return None


def _more_than_product(output: Node) -> str:
    """What a product does besides a @ b, "" where that is all."""
    for name, value in zip(("a bias", "an addend"), output.inputs[2:], strict=True):
        if value is not None:
            return name
    if output.attribute("alpha") != 1.0:
        return "a factor"
    if output.attribute("activation") is not None:
        return "an activation"
    return "a transposed v" if output.attribute("transpose_b") else ""


def _are_one_head(k: Value, v: Value) -> bool:
    """Whether keys and values are a matrix each, which all heads of q read."""
    return len(k.shape) == len(v.shape) == 2


def _moved(
    editor: Editor, place: Node, value: Value, reader: Node, shape: Shape, swaps: bool = False
) -> Value:
    """A value with four axes, its last two exchanged first if asked for, by the fewest nodes."""
    last = len(value.shape) - 1
    perm = (*range(last - 1), last, last - 1)

    def then(view: View) -> View | None:
        return view.permuted(perm).reshaped(shape) if swaps else view.reshaped(shape)

    found = cheapest(editor, value, reader, shape, then)
    if found is not None:
        return found.emit(editor, place)
    # Repeated keys: no movement that steps_to knows gives them.
    if swaps:
        value = editor.insert_before(place, "permute", [value], {"perm": perm})
    if value.shape == shape:
        return value
    return editor.insert_before(place, "reshape", [value], {"shape": shape})


def _rewrite(match: Match) -> None:
    editor, output = match.editor, match["output"]
    found = _joined(match)
    assert not isinstance(found, str)
    parts, scores, joined = found
    q, k, v = parts.scores.inputs[0], parts.scores.inputs[1], output.inputs[1]
    assert q is not None and k is not None and v is not None
    batch, heads, queries, keys = scores
    mask = mask_value(editor, output, joined, scores)
    swaps = not parts.scores.attribute("transpose_b")
    shared = 1 if _are_one_head(k, v) else heads
    inputs = [
        _moved(editor, output, q, parts.scores, (batch, heads, queries, q.shape[-1])),
        _moved(editor, output, k, parts.scores, (batch, shared, keys, q.shape[-1]), swaps),
        _moved(editor, output, v, output, (batch, shared, keys, v.shape[-1])),
        mask,
    ]
    attributes: dict[str, object] = {"scale": float(parts.scale)}
    attributes |= {"softcap": float(parts.softcap)} if parts.softcap else {}
    attributes |= joined.attributes
    shape, passed = output.output.shape, editor.producer(v)
    if shape == (batch, heads, queries, v.shape[-1]):
        editor.replace(output, "attention", inputs, attributes)
    else:
        out = editor.insert_before(output, "attention", inputs, attributes)
        editor.replace(output, "reshape", [out], {"shape": shape})
    editor.drop_unread([passed] if passed is not None else [])


# attention(q, repeat(k), repeat(v)) -> attention(q, k, v)


def _repeats(editor: Editor, value: Value) -> int:
    """How many heads behind one another are the same in k or v (B, H, S, D)."""
    heads = [view.axes[1] for view, _ in views_of(editor, value)]
    return max((axis[-1][0] for axis in heads if axis and axis[-1][1] == 0), default=1)


def _check_shared(match: Match) -> str | None:
    editor, attention = match.editor, match["attention"]
    k, v = attention.inputs[1:3]
    if attention.attribute("layout") != "bhsd" or k is None or v is None:
        return ""
    repeats = _repeats(editor, k)
    return None if repeats == _repeats(editor, v) > 1 else ""


def _rewrite_shared(match: Match) -> None:
    editor, attention = match.editor, match["attention"]
    k, v = attention.inputs[1:3]
    assert k is not None and v is not None
    repeats = _repeats(editor, k)

    def once(view: View) -> View | None:
        axis = view.axes[1]
        if not axis or axis[-1] != (repeats, 0):
            return None
        return replace(view, axes=(view.axes[0], axis[:-1], *view.axes[2:]))

    passed = [node for value in (k, v) if (node := editor.producer(value)) is not None]
    for slot, value in ((1, k), (2, v)):
        shape = (value.shape[0], value.shape[1] // repeats, *value.shape[2:])
        found = cheapest(editor, value, attention, shape, once)
        assert found is not None
        attention.inputs[slot] = found.emit(editor, attention)
    editor.drop_unread(passed)


# attention(mask=repeat(mask)) -> attention(mask=mask)


def _check_mask(match: Match) -> str | None:
    mask = match["attention"].inputs[3]
    return "" if mask is None or least_shape(match.editor, mask) == mask.shape else None


def _rewrite_mask(match: Match) -> None:
    editor, attention = match.editor, match["attention"]
    mask = attention.inputs[3]
    assert mask is not None
    passed = editor.producer(mask)
    attention.inputs[3] = least(editor, attention, mask)
    editor.drop_unread([passed] if passed is not None else [])


_SOFTMAX = pattern("softmax", "softmax")
_ATTENTION = (pattern("attention", "attention"),)

RULES = (
    Rule(
        "attention",
        (
            pattern("output", "matmul", {0: _SOFTMAX}),
            pattern("output", "matmul", {0: pattern("weights", "reshape", {0: _SOFTMAX})}),
        ),
        _check,
        _rewrite,
    ),
    Rule("shared_heads", _ATTENTION, _check_shared, _rewrite_shared),
    Rule("small_mask", _ATTENTION, _check_mask, _rewrite_mask),
)


def fuse_attention(graph: Graph, log: RewriteLog) -> Graph:
    """Join product, scale, mask, softmax and product into one attention."""
    return apply_rules(graph, "fuse_attention", RULES, log)
