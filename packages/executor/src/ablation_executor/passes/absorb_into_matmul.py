"""matmul(a, permute(b)) -> matmul(a, b, transpose_b); matmul(a, b) * c -> matmul(a, b, alpha=c).

BLAS multiplies by a transposed matrix and by a scalar at no cost of its own, so the transpose's
copy and the scaling's sweep over the product go away.
"""

from __future__ import annotations

from ..ir import Graph, Node
from ..rewrite import Match, RewriteLog, Rule, apply_rules, pattern


def swaps_last_two(perm: tuple[int, ...]) -> bool:
    """Whether a permutation exchanges the last two axes and leaves the others in place."""
    last = len(perm) - 1
    return last >= 1 and perm == (*range(last - 1), last, last - 1)


def _factor(match: Match, node: Node, product_slot: int) -> float | str:
    """What `mul` or `div` multiplies its product by, or the reason why that is not a scalar."""
    other = node.inputs[1 - product_slot]
    number = match.editor.scalar(other)
    if other is None or number is None or len(other.shape) > len(node.output.shape):
        return f"{other.name if other else '?'} is not a scalar constant"
    if node.op == "mul":
        return number
    if product_slot == 1:
        return "the product is the divisor"
    return 1.0 / number if number != 0.0 else "the divisor is zero"


def _slot_of(node: Node, inner: Node) -> int:
    return 0 if node.inputs[0] is inner.output else 1


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


def _check_scale_after(match: Match) -> str | None:
    scale, product = match["scale"], match["product"]
    factor = _factor(match, scale, _slot_of(scale, product))
    if isinstance(factor, str):
        return factor
    if product.inputs[2] is not None or product.inputs[3] is not None:
        return "the product already has a bias or an addend, which alpha does not scale"
    if product.attribute("activation") is not None:
        return "the product already has an activation"
    if scale.output.shape != product.output.shape:
        return "the scaling changes the shape"
    return match.editor.other_readers(product.output, scale)


def _rewrite_scale_after(match: Match) -> None:
    scale, product = match["scale"], match["product"]
    factor = _factor(match, scale, _slot_of(scale, product))
    assert not isinstance(factor, str)
    attributes = product.attributes | {"alpha": product.attribute("alpha") * factor}
    match.editor.replace(scale, "matmul", product.inputs, attributes, like=product)


# matmul(mul(a, c), b) -> matmul(a, b, alpha=c), and the same for b and for div


def _before_parts(match: Match) -> tuple[int, float | str]:
    """Which operand of the scaling is the tensor, and the factor."""
    scale = match["scale"]
    reasons = [_factor(match, scale, slot) for slot in (0, 1)]
    slot = 0 if not isinstance(reasons[0], str) else 1
    return slot, reasons[slot] if not isinstance(reasons[slot], str) else reasons[0]


def _check_scale_before(match: Match) -> str | None:
    scale, product = match["scale"], match["product"]
    slot, factor = _before_parts(match)
    if isinstance(factor, str):
        return factor
    operand = scale.inputs[slot]
    if operand is None or operand.shape != scale.output.shape:
        return "the scaling changes the shape"
    return match.editor.other_readers(scale.output, product)


def _rewrite_scale_before(match: Match) -> None:
    scale, product = match["scale"], match["product"]
    slot, factor = _before_parts(match)
    assert not isinstance(factor, str)
    side = 0 if product.inputs[0] is scale.output else 1
    product.inputs[side] = scale.inputs[slot]
    product.attributes["alpha"] = product.attribute("alpha") * factor


_PRODUCT = pattern("product", "matmul")
_SCALE = pattern("scale", "mul|div")

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
        _check_scale_after,
        _rewrite_scale_after,
    ),
    Rule(
        "absorb_scale_of_operand",
        tuple(pattern("product", "matmul", {slot: _SCALE}) for slot in (0, 1)),
        _check_scale_before,
        _rewrite_scale_before,
    ),
)


def absorb_into_matmul(graph: Graph, log: RewriteLog) -> Graph:
    """Take transposes of b into transpose_b, and scalar factors into alpha."""
    return apply_rules(graph, "absorb_into_matmul", RULES, log)
