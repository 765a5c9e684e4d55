"""matmul(a, permute(b)) -> matmul(a, b, transpose_b); matmul(a, b) * c -> matmul(a, b, alpha=c).

BLAS multiplies by a transposed matrix and by a scalar at no cost of its own, so the transpose's
copy and the scaling's sweep over the product go away.

Values: exact for all. Only a factor behind a sum is taken: (c a) @ b stays, since a @ b may be
beyond float32 where (c a) @ b is not. c is between 2^-24 and 2^24, so that its reciprocal is a
number, and of several factors all are at least 1 or all at most 1, so that they overflow one after
another where their product does. A c of 0 would keep a BLAS from reading NaN. Of a sum of more
than some 300 terms, c may scale the parts.
"""

from __future__ import annotations

from ..ir import Graph
from ..rewrite import Match, RewriteLog, Rule, apply_rules, pattern

_SMALLEST, _LARGEST = 2.0**-24, 2.0**24


def swaps_last_two(perm: tuple[int, ...]) -> bool:
    """Whether a permutation exchanges the last two axes and leaves the others in place."""
    last = len(perm) - 1
    return last >= 1 and perm == (*range(last - 1), last, last - 1)


def scale_by(alpha: float, op: str, number: float) -> float | str:
    """alpha * number or alpha / number, or the reason why one factor is not the same as two."""
    if op == "div" and number == 0.0:
        return "the divisor is zero"
    factor = number if op == "mul" else 1.0 / number
    if min(abs(alpha), abs(factor)) < 1.0 < max(abs(alpha), abs(factor)):
        return f"one of the factors {alpha:g} and {factor:g} is below 1, the other above"
    if not _SMALLEST <= abs(alpha * factor) <= _LARGEST:
        return f"the factor {alpha * factor:g} is not between 2^-24 and 2^24"
    return alpha * factor


def _factor(match: Match) -> float | str:
    """The product's alpha with the scaling, or the reason why that is not a scalar."""
    scale, product = match["scale"], match["product"]
    slot = 0 if scale.inputs[0] is product.output else 1
    other = scale.inputs[1 - slot]
    number = match.editor.scalar(other)
    if other is None or number is None or len(other.shape) > len(scale.output.shape):
        return f"{other.name if other else '?'} is not a scalar constant"
    if scale.op == "div" and slot == 1:
        return "the product is the divisor"
    return scale_by(product.attribute("alpha"), scale.op, number)


# matmul(a, permute(b, swap of the last two axes)) -> matmul(a, b, transpose_b)


def _check_transpose(match: Match) -> str | None:
    perm = match["transpose"].attribute("perm")
    if not swaps_last_two(perm):
        return f"perm {perm} is not a swap of the last two axes"
    return None


def _rewrite_transpose(match: Match) -> None:
    product = match["product"]
    product.inputs[1] = match["transpose"].inputs[0]
    product.attributes["transpose_b"] = not product.attribute("transpose_b")


# mul(matmul(a, b), c) -> matmul(a, b, alpha=c); div(matmul(a, b), c) -> matmul(a, b, alpha=1/c)


def _check_scale(match: Match) -> str | None:
    scale, product = match["scale"], match["product"]
    factor = _factor(match)
    if isinstance(factor, str):
        return factor
    if product.inputs[2] is not None or product.inputs[3] is not None:
        return "the product already has a bias or an addend, which alpha does not scale"
    if product.attribute("activation") is not None:
        return "the product already has an activation"
    if scale.output.shape != product.output.shape:
        return "the scaling changes the shape"
    return match.editor.other_readers(product.output, scale)


def _rewrite_scale(match: Match) -> None:
    product, factor = match["product"], _factor(match)
    assert not isinstance(factor, str)
    attributes = product.attributes | {"alpha": factor}
    match.editor.replace(match["scale"], "matmul", product.inputs, attributes, like=product)


_PRODUCT = pattern("product", "matmul")

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
)


def absorb_into_matmul(graph: Graph, log: RewriteLog) -> Graph:
    """Take transposes of b into transpose_b, and scalar factors into alpha."""
    return apply_rules(graph, "absorb_into_matmul", RULES, log)
