"""x * rsqrt(mean(x * x) + eps) * weight -> rms_norm(x, weight, eps): one call, x read twice.

Export writes the mean as a product with a column of 1 / D.

Values: exact for all; a square beyond float32 makes the finite elements of its row 0. An eps that
the kernels do not have, below 0 or NaN, is refused.
"""

from __future__ import annotations

import numpy as np

from ..ir import Graph, Node, Value
from ..rewrite import Match, Pattern, RewriteLog, Rule, apply_rules, pattern


def _other(node: Node, inner: Node) -> Value:
    """The operand of a two-input node that `inner` does not make."""
    value = node.inputs[1] if node.inputs[0] is inner.output else node.inputs[0]
    assert value is not None
    return value


def _check(match: Match) -> str | None:
    editor, mean, squares = match.editor, match["mean"], match["squares"]
    x = _other(match["scaled"], match["inverse"])
    if squares.inputs[0] is not x or squares.inputs[1] is not x:
        return f"the squares are not those of {x.name}"
    size = x.shape[-1]
    column = editor.constant(mean.inputs[1])
    if column is None or column.shape != (size, 1) or np.any(column != np.float32(1 / size)):
        return f"the product is not a mean over the {size} elements of a row"
    if mean.inputs[2:] != [None, None] or mean.attributes:
        return "the mean's product does more than multiply"
    if match["inverse"].output.shape != (*x.shape[:-1], 1):
        return "the mean is not kept as an axis of size 1"
    eps = editor.scalar(_other(match["sum"], match["mean"]))
    if eps is None:
        return "eps is not a scalar constant"
    if not eps >= 0.0:
        return f"eps is {eps:g}, the kernels take a number of at least 0"
    weight = _other(match["output"], match["scaled"])
    if weight.shape != (size,):
        return f"{weight!r} is not a vector of {size} weights"
    return editor.other_readers(match["inverse"].output, match["scaled"]) or editor.other_readers(
        match["scaled"].output, match["output"]
    )


def _rewrite(match: Match) -> None:
    x = _other(match["scaled"], match["inverse"])
    weight = _other(match["output"], match["scaled"])
    eps = match.editor.scalar(_other(match["sum"], match["mean"]))
    match.editor.replace(match["output"], "rms_norm", [x, weight], {"eps": eps})


def _pattern(output: int, scaled: int, added: int) -> Pattern:
    """The norm with its commutative operands in these slots."""
    mean = pattern("mean", "matmul", {0: pattern("squares", "mul")})
    inverse = pattern("inverse", "rsqrt", {0: pattern("sum", "add", {added: mean})})
    return pattern("output", "mul", {output: pattern("scaled", "mul", {scaled: inverse})})


RULES = (
    Rule(
        "rms_norm",
        tuple(
            _pattern(output, scaled, added)
            for output in (0, 1)
            for scaled in (1, 0)
            for added in (0, 1)
        ),
        _check,
        _rewrite,
    ),
)


def fuse_rms_norm(graph: Graph, log: RewriteLog) -> Graph:
    """Join what an RMSNorm that is written out consists of."""
    return apply_rules(graph, "fuse_rms_norm", RULES, log)
