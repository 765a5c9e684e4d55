"""add(matmul(a, b), vector) -> matmul(a, b, bias); add(matmul(a, b), x) -> matmul(a, b, addend=x).

One sgemm with beta = 1 over an output that starts as the addend, instead of a product and a sweep.
A product can take both: its bias first, then a residual as its addend.

Values: exact for all; bias and addend may be added up before the product is.
"""

from __future__ import annotations

from ..ir import Graph, Node, Value
from ..rewrite import Match, RewriteLog, Rule, apply_rules, pattern


def _other(match: Match) -> Value:
    add, product = match["add"], match["product"]
    other = add.inputs[1] if add.inputs[0] is product.output else add.inputs[0]
    assert other is not None
    return other


def _common_reason(match: Match) -> str | None:
    add, product = match["add"], match["product"]
    if product.attribute("activation") is not None:
        return "the product already has an activation"
    if _other(match) is product.output:
        return "the product is added to itself"
    return match.editor.other_readers(product.output, add)


def _is_left_to_bias_relu(match: Match) -> bool:
    readers: list[Node] = match.editor.consumers.get(match["add"].output, [])
    is_output = match["add"].output in match.editor.graph.outputs
    return len(readers) == 1 and readers[0].op == "relu" and not is_output


# add(matmul(a, b), vector (N,)) -> matmul(a, b, bias=vector)


def _is_vector(match: Match) -> bool:
    return _other(match).shape == match["product"].output.shape[-1:]


def _check_bias(match: Match) -> str | None:
    if not _is_vector(match):
        product = match["product"].output
        return f"{_other(match)!r} is not a vector of the product's {product.shape[-1]} columns"
    if match["product"].inputs[2] is not None:
        return "the product already has a bias"
    if _is_left_to_bias_relu(match):
        return "left to fuse_bias_relu"
    return _common_reason(match)


def _rewrite_bias(match: Match) -> None:
    product = match["product"]
    a, b, _, addend = product.inputs
    inputs = [a, b, _other(match), addend]
    match.editor.replace(match["add"], "matmul", inputs, product.attributes, like=product)


# add(matmul(a, b), x of the product's shape) -> matmul(a, b, addend=x)


def _check_addend(match: Match) -> str | None:
    product = match["product"]
    if _other(match).shape != product.output.shape:
        return f"{_other(match)!r} has not the product's shape {list(product.output.shape)}"
    if product.inputs[3] is not None:
        return "the product already has an addend"
    if _is_left_to_bias_relu(match) and _is_vector(match):
        return "left to fuse_bias_relu"
    return _common_reason(match)


def _rewrite_addend(match: Match) -> None:
    product = match["product"]
    a, b, bias, _ = product.inputs
    inputs = [a, b, bias, _other(match)]
    match.editor.replace(match["add"], "matmul", inputs, product.attributes, like=product)


_PATTERNS = tuple(pattern("add", "add", {slot: pattern("product", "matmul")}) for slot in (0, 1))

RULES = (
    Rule("add_to_bias", _PATTERNS, _check_bias, _rewrite_bias),
    Rule("add_to_addend", _PATTERNS, _check_addend, _rewrite_addend),
)


def fuse_matmul_add(graph: Graph, log: RewriteLog) -> Graph:
    """Give a product the bias and the residual that are added to it."""
    return apply_rules(graph, "fuse_matmul_add", RULES, log)
