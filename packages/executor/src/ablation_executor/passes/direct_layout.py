"""permute(attention(permute(q), permute(k), permute(v))) -> attention(q, k, v, layout="bshd").

Linear layers leave the heads beside each other, (B, S, H, D), and take them so again. An attention
that strides over them needs no copy in either direction: 4 B S H D elements fewer are read and
written. A rotation in front of it would stand in between:
rotary(permute(x)) -> permute(rotary(x, layout="bshd")).

Values: exact for all; only the places of elements change.
"""

from __future__ import annotations

from ..ir import Graph
from ..rewrite import Match, RewriteLog, Rule, apply_rules, pattern

# (B, S, H, D) <-> (B, H, S, D): its own inverse.
_SWAP = (0, 2, 1, 3)


def _check(match: Match) -> str | None:
    output, attention, editor = match["output"], match["attention"], match.editor
    if output.attribute("perm") != _SWAP:
        return f"perm {output.attribute('perm')} of the output is not {_SWAP}"
    if attention.attribute("layout") != "bhsd":
        return f"the attention's layout is {attention.attribute('layout')} already"
    for slot, name in enumerate("qkv"):
        permute = editor.producer(attention.inputs[slot])
        if permute is None or permute.op != "permute":
            return f"{name} does not come from a permute"
        if permute.attribute("perm") != _SWAP:
            return f"perm {permute.attribute('perm')} of {name} is not {_SWAP}"
    return editor.other_readers(attention.output, output)


def _rewrite(match: Match) -> None:
    attention, editor = match["attention"], match.editor
    permutes = [editor.producers[value] for value in attention.inputs[:3] if value is not None]
    inputs = [*(permute.inputs[0] for permute in permutes), attention.inputs[3]]
    attributes = attention.attributes | {"layout": "bshd"}
    editor.replace(match["output"], "attention", inputs, attributes, like=attention)


# rotary(permute(x), cos, sin) -> permute(rotary(x, cos, sin, layout="bshd"))


def _check_rotary(match: Match) -> str | None:
    rotary, permute = match["rotary"], match["permute"]
    if permute.attribute("perm") != _SWAP:
        return f"perm {permute.attribute('perm')} of x is not {_SWAP}"
    if rotary.attribute("layout") != "bhsd":
        return f"the rotary's layout is {rotary.attribute('layout')} already"
    return match.editor.other_readers(permute.output, rotary)


def _rewrite_rotary(match: Match) -> None:
    rotary, permute, editor = match["rotary"], match["permute"], match.editor
    inputs = [permute.inputs[0], *rotary.inputs[1:]]
    turned = editor.insert_before(rotary, "rotary", inputs, {"layout": "bshd"})
    editor.replace(rotary, "permute", [turned], {"perm": _SWAP})


RULES = (
    Rule(
        "rotary_before_permute",
        (pattern("rotary", "rotary", {0: pattern("permute", "permute")}),),
        _check_rotary,
        _rewrite_rotary,
    ),
    Rule(
        "direct_layout",
        (pattern("output", "permute", {0: pattern("attention", "attention")}),),
        _check,
        _rewrite,
    ),
)


def direct_layout(graph: Graph, log: RewriteLog) -> Graph:
    """Let attention read and write (B, S, H, D) where only permutes stand in between."""
    return apply_rules(graph, "direct_layout", RULES, log)
