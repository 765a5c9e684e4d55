"""mul(silu(a), b) -> silu_mul(a, b): the middle of SwiGLU in one sweep, not two.

12 bytes an element are read and written instead of 20.

Values: exact for all; silu(-inf) is NaN in both.
"""

from __future__ import annotations

from ..ir import Graph, Value
from ..rewrite import Match, RewriteLog, Rule, apply_rules, pattern


def _other(match: Match) -> Value:
    product, silu = match["product"], match["silu"]
    value = product.inputs[1] if product.inputs[0] is silu.output else product.inputs[0]
    assert value is not None
    return value


def _check(match: Match) -> str | None:
    other, silu = _other(match), match["silu"]
    if other is silu.output or other.shape != silu.output.shape:
        return ""
    return match.editor.other_readers(silu.output, match["product"])


def _rewrite(match: Match) -> None:
    inputs = [match["silu"].inputs[0], _other(match)]
    match.editor.replace(match["product"], "silu_mul", inputs, {})


RULES = (
    Rule(
        "silu_mul",
        tuple(pattern("product", "mul", {slot: pattern("silu", "silu")}) for slot in (0, 1)),
        _check,
        _rewrite,
    ),
)


def fuse_silu_mul(graph: Graph, log: RewriteLog) -> Graph:
    """Join a SiLU and the product that it gates."""
    return apply_rules(graph, "fuse_silu_mul", RULES, log)
