"""x * rsqrt(mean(x * x) + eps) * weight -> rms_norm(x, weight, eps): one call, x read twice.

rms_norm(x, weight) + y -> rms_norm(x, weight, addend=y), as of a residual behind a norm.

Export writes the mean as a product with a column of 1 / D; `_norms` says which spellings are taken.
A weight may be missing, and may be what a model makes of its parameter, as 1 + weight.

Values: exact for all; a square beyond float32 makes the finite elements of its row 0. An eps that
the kernels do not have, below 0 or NaN, is refused.
"""

from __future__ import annotations

from ..ir import Graph
from ..rewrite import Match, RewriteLog, Rule, apply_rules, pattern
from ._norms import ROOTS, Norm, centered, find_norm, squared, take_vector
from ._written_out import other_operand, shared_constant


def _check(match: Match) -> str | None:
    found = find_norm(match.editor, match["root"])
    if not isinstance(found, str):
        return None
    is_layer_norm = centered(match.editor, squared(match.editor, match["root"])) is not None
    return "" if is_layer_norm else found


def _rewrite(match: Match) -> None:
    editor = match.editor
    norm = find_norm(editor, match["root"])
    assert isinstance(norm, Norm)
    taken = take_vector(editor, norm.output, "mul")
    if taken is None:
        output, weight = norm.output, shared_constant(editor, "ones", norm.x.shape[-1:], 1.0)
    else:
        output, weight = taken
    makers = [editor.producers[value] for value in output.inputs if value in editor.producers]
    editor.replace(output, "rms_norm", [norm.x, weight, None], {"eps": norm.eps})
    editor.drop_unread(makers)


# add(rms_norm(x, weight), y of x's shape) -> rms_norm(x, weight, addend=y)


def _check_addend(match: Match) -> str | None:
    add, norm = match["add"], match["norm"]
    other = other_operand(add, norm.output)
    if norm.inputs[2] is not None or other is norm.output or other.shape != norm.output.shape:
        return ""
    return "" if match.editor.other_readers(norm.output, add) else None


def _rewrite_addend(match: Match) -> None:
    add, norm = match["add"], match["norm"]
    inputs = [*norm.inputs[:2], other_operand(add, norm.output)]
    match.editor.replace(add, "rms_norm", inputs, norm.attributes, like=norm)


_NORM = pattern("norm", "rms_norm")

RULES = (
    Rule("rms_norm", (pattern("root", ROOTS),), _check, _rewrite),
    Rule(
        "add_to_norm",
        tuple(pattern("add", "add", {slot: _NORM}) for slot in (0, 1)),
        _check_addend,
        _rewrite_addend,
    ),
)


def fuse_rms_norm(graph: Graph, log: RewriteLog) -> Graph:
    """Join what an RMSNorm that is written out consists of."""
    return apply_rules(graph, "fuse_rms_norm", RULES, log)
