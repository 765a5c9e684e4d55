"""matmul(a, permute(b)) -> matmul(a, b, transpose_b); matmul(a, b) * c -> matmul(a, b, alpha=c).

BLAS multiplies by a transposed matrix and by a scalar at no cost of its own, so the transpose's
copy and the scaling's sweep over the product go away. A factor behind a bias, as of scaled queries,
goes before it: (a @ b + v) * c -> (a @ b) * c + v * c; and a factor behind reshapes and
permutations goes before them.

Values: exact for all. Only a factor behind a sum is taken: (c a) @ b stays, since a @ b may be
beyond float32 where (c a) @ b is not. c is between 2^-24 and 2^24, so that its reciprocal is a
number, and of several factors all are at least 1 or all at most 1, so that they overflow one after
another where their product does. A c of 0 would keep a BLAS from reading NaN. Of a sum of more
than some 300 terms, c may scale the parts. Before a bias goes a c of at most 1: a larger one may
overflow in a part where it does not in the sum.
"""

from __future__ import annotations

import math

from ..ir import Graph, Node, Value
from ..rewrite import Match, RewriteLog, Rule, apply_rules, pattern
from ._views import scaled_slot

_SMALLEST, _LARGEST = 2.0**-24, 2.0**24


def swaps_last_two(perm: tuple[int, ...]) -> bool:
    """Whether a permutation exchanges the last two axes and leaves the others in place."""
    last = len(perm) - 1
    return last >= 1 and perm == (*range(last - 1), last, last - 1)


def scale_by(alpha: float, op: str, number: float) -> float | str:
    """alpha * number or alpha / number, or the reason why one factor is not the same as two."""
    factor = number if op == "mul" else 1.0 / number if number else math.inf
    if min(abs(alpha), abs(factor)) < 1.0 < max(abs(alpha), abs(factor)):
        return f"one of the factors {alpha:g} and {factor:g} is below 1, the other above"
    if not _SMALLEST <= abs(alpha * factor) <= _LARGEST:
        return f"the factor {alpha * factor:g} is not between 2^-24 and 2^24"
    return alpha * factor


def _scalar(match: Match, scaled: Node) -> tuple[Value, float] | None:
    """The scalar constant that multiplies or divides the output of `scaled`, or None."""
    scale = match["scale"]
    slot = scaled_slot(match.editor, scale)
    if slot is None or scale.inputs[slot] is not scaled.output:
        return None
    other = scale.inputs[1 - slot]
    number = match.editor.scalar(other)
    assert other is not None and number is not None
    return other, number


def _factor(match: Match, scaled: Node) -> float | str:
    """The product's alpha with the scaling, or why not: "" where that is no scalar."""
    found = _scalar(match, scaled)
    if found is None:
        return ""
    return scale_by(match["product"].attribute("alpha"), match["scale"].op, found[1])


# matmul(a, permute(b, swap of the last two axes)) -> matmul(a, b, transpose_b)


def _check_transpose(match: Match) -> str | None:
    return None if swaps_last_two(match["transpose"].attribute("perm")) else ""


def _rewrite_transpose(match: Match) -> None:
    product = match["product"]
    product.inputs[1] = match["transpose"].inputs[0]
    product.attributes["transpose_b"] = not product.attribute("transpose_b")


# mul(matmul(a, b), c) -> matmul(a, b, alpha=c); div(matmul(a, b), c) -> matmul(a, b, alpha=1/c)


def _check_scale(match: Match) -> str | None:
    scale, product = match["scale"], match["product"]
    factor = _factor(match, product)
    if isinstance(factor, str):
        return factor
    if product.attribute("activation") is not None:
        return "the product already has an activation"
    if product.inputs[3] is not None:
        return "the product already has an addend, which alpha does not scale"
    if product.inputs[2] is not None:
        # scale_before_bias takes the others before the product gets its bias.
        return f"the factor {factor:g} is above 1, which may overflow before the bias is added"
    return match.editor.other_readers(product.output, scale)


def _rewrite_scale(match: Match) -> None:
    product, factor = match["product"], _factor(match, match["product"])
    assert not isinstance(factor, str)
    attributes = product.attributes | {"alpha": factor}
    match.editor.replace(match["scale"], "matmul", product.inputs, attributes, like=product)


# mul|div(add(matmul(a, b), vector), c) -> add(matmul(a, b, alpha=c), mul|div(vector, c))


def _vector(match: Match) -> Value:
    add, product = match["add"], match["product"]
    vector = add.inputs[1] if add.inputs[0] is product.output else add.inputs[0]
    assert vector is not None
    return vector


def _check_scale_of_sum(match: Match) -> str | None:
    scale, add, product, editor = match["scale"], match["add"], match["product"], match.editor
    if _vector(match).shape != product.output.shape[-1:]:
        return ""
    found, factor = _scalar(match, add), _factor(match, add)
    if found is None or isinstance(factor, str) or abs(factor) > 1.0 or len(found[0].shape) > 1:
        return ""
    if product.inputs[2:] != [None, None] or product.attribute("activation") is not None:
        return ""
    is_read = editor.other_readers(product.output, add) or editor.other_readers(add.output, scale)
    return "" if is_read else None


def _rewrite_scale_of_sum(match: Match) -> None:
    editor, scale, product = match.editor, match["scale"], match["product"]
    found, factor = _scalar(match, match["add"]), _factor(match, match["add"])
    assert found is not None and not isinstance(factor, str)
    vector = editor.insert_before(match["add"], scale.op, [_vector(match), found[0]], {})
    attributes = product.attributes | {"alpha": factor}
    scaled = editor.insert_before(match["add"], "matmul", product.inputs, attributes)
    editor.replace(scale, "add", [scaled, vector], {}, like=match["add"])


# mul|div(movement(x), c) -> movement(mul|div(x, c)), for an x that is a sum or a product


def _check_scale_of_movement(match: Match) -> str | None:
    scale, movement, editor = match["scale"], match["movement"], match.editor
    found = _scalar(match, movement)
    if found is None or len(found[0].shape) > 1:
        return ""
    node: Node | None = movement
    reader = scale
    while node is not None and node.op in ("reshape", "permute"):
        if editor.other_readers(node.output, reader) is not None:
            return ""
        reader, node = node, editor.producer(node.inputs[0])
    return None if node is not None and node.op in ("add", "matmul") else ""


def _rewrite_scale_of_movement(match: Match) -> None:
    editor, scale, movement = match.editor, match["scale"], match["movement"]
    found = _scalar(match, movement)
    assert found is not None
    scaled = editor.insert_before(scale, scale.op, [movement.inputs[0], found[0]], {})
    editor.replace(scale, movement.op, [scaled], movement.attributes, like=movement)


_PRODUCT = pattern("product", "matmul")
_SUMS = tuple(pattern("add", "add", {slot: _PRODUCT}) for slot in (0, 1))

RULES = (
    Rule(
        "absorb_transpose",
        (pattern("product", "matmul", {1: pattern("transpose", "permute")}),),
        _check_transpose,
        _rewrite_transpose,
    ),
    Rule(
        "absorb_scale_of_product",
        tuple(pattern("scale", "mul|div", {slot: _PRODUCT}) for slot in (0, 1)),
        _check_scale,
        _rewrite_scale,
    ),
    Rule(
        "scale_before_bias",
        tuple(pattern("scale", "mul|div", {slot: add}) for slot in (0, 1) for add in _SUMS),
        _check_scale_of_sum,
        _rewrite_scale_of_sum,
    ),
    Rule(
        "scale_before_movement",
        tuple(
            pattern("scale", "mul|div", {slot: pattern("movement", "reshape|permute")})
            for slot in (0, 1)
        ),
        _check_scale_of_movement,
        _rewrite_scale_of_movement,
    ),
)


def absorb_into_matmul(graph: Graph, log: RewriteLog) -> Graph:
    """Take transposes of b into transpose_b, and scalar factors into alpha."""
    return apply_rules(graph, "absorb_into_matmul", RULES, log)
