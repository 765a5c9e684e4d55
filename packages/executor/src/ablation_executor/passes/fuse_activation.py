"""relu|gelu|silu(matmul(a, b)) -> matmul(a, b, activation); bias_relu's vector becomes the bias.

The activation is applied to a tile of the product before it leaves the cache, instead of in a sweep
of its own over the whole product.

Values: exact for all; NaN stays NaN, and gelu and silu of -inf are NaN in the epilogue as in the
op.
"""

from __future__ import annotations

from ..ir import Graph, Node, Value
from ..rewrite import Match, RewriteLog, Rule, apply_rules, pattern


def _name(node: Node) -> str:
    """The matmul's word for what an activation node computes."""
    if node.op != "gelu":
        return "relu" if node.op == "bias_relu" else node.op
    form: str = node.attribute("approximate")
    return "gelu" if form == "none" else f"gelu_{form}"


def _product_reason(match: Match, reader: Node) -> str | None:
    product = match["product"]
    if product.attribute("activation") is not None:
        return "the product already has an activation"
    return match.editor.other_readers(product.output, reader)


def _activate(match: Match, bias: Value | None) -> None:
    activation, product = match["activation"], match["product"]
    a, b, _, addend = product.inputs
    attributes = product.attributes | {"activation": _name(activation)}
    match.editor.replace(activation, "matmul", [a, b, bias, addend], attributes, like=product)


# relu|gelu|silu(matmul(a, b)) -> matmul(a, b, activation)


def _check(match: Match) -> str | None:
    return _product_reason(match, match["activation"])


def _rewrite(match: Match) -> None:
    _activate(match, match["product"].inputs[2])


# bias_relu(matmul(a, b), vector) -> matmul(a, b, bias=vector, activation=relu)
# relu|gelu|silu(add(matmul(a, b), vector)) -> matmul(a, b, bias=vector, activation), for the
# addition that fuse_matmul_add leaves to fuse_bias_relu, where that did not run


def _biased(match: Match) -> Node:
    return match.nodes.get("add", match["activation"])


def _vector(match: Match) -> Value:
    a, b = _biased(match).inputs
    vector = b if a is match["product"].output else a
    assert vector is not None
    return vector


def _check_biased(match: Match) -> str | None:
    product, biased, vector = match["product"], _biased(match), _vector(match)
    if vector.shape != product.output.shape[-1:]:
        return ""
    if product.inputs[2] is not None:
        return "the product already has a bias"
    if biased is not match["activation"]:
        reason = match.editor.other_readers(biased.output, match["activation"])
        if reason is not None:
            return reason
    return _product_reason(match, biased)


def _rewrite_biased(match: Match) -> None:
    _activate(match, _vector(match))


_ACTIVATIONS = "relu|gelu|silu"
_PRODUCT = pattern("product", "matmul")

RULES = (
    Rule("activation", (pattern("activation", _ACTIVATIONS, {0: _PRODUCT}),), _check, _rewrite),
    Rule(
        "bias_and_activation",
        (
            pattern("activation", "bias_relu", {0: _PRODUCT}),
            *(
                pattern("activation", _ACTIVATIONS, {0: pattern("add", "add", {slot: _PRODUCT})})
                for slot in (0, 1)
            ),
        ),
        _check_biased,
        _rewrite_biased,
    ),
)


def fuse_activation(graph: Graph, log: RewriteLog) -> Graph:
    """Give a product the activation, and the bias in front of it, that is all it is made for."""
    return apply_rules(graph, "fuse_activation", RULES, log)
