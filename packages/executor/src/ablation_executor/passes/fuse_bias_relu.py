"""relu(add(x, vector)) -> bias_relu(x, vector): one sweep over the activations instead of two.

Values: exact for all; the ReLU of NaN stays NaN.
"""

from __future__ import annotations

from ..ir import Graph, Value
from ..rewrite import Match, RewriteLog, Rule, apply_rules, pattern


def _operands(match: Match) -> tuple[Value, Value] | None:
    """The tensor and the vector of an addition, or None when it has no vector."""
    a, b = match["add"].inputs
    assert a is not None and b is not None
    shape = match["add"].output.shape
    for x, vector in ((a, b), (b, a)):
        if x.shape == shape and vector.shape == shape[-1:]:
            return x, vector
    return None


def _check(match: Match) -> str | None:
    if _operands(match) is None:
        return ""
    return match.editor.other_readers(match["add"].output, match["relu"])


def _rewrite(match: Match) -> None:
    operands = _operands(match)
    assert operands is not None
    match.editor.replace(match["relu"], "bias_relu", operands, {})


RULES = (
    Rule(
        "bias_relu",
        (pattern("relu", "relu", {0: pattern("add", "add")}),),
        _check,
        _rewrite,
    ),
)


def fuse_bias_relu(graph: Graph, log: RewriteLog) -> Graph:
    """Join the addition of a bias and the ReLU behind it."""
    return apply_rules(graph, "fuse_bias_relu", RULES, log)
