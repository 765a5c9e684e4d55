"""d * rsqrt(mean(d * d) + eps) * weight + bias, d = x - mean(x) -> layer_norm(x, weight, bias).

One call in place of nine; x is read three times. Weight and bias may each be missing; `_norms` says
which spellings of mean, square and root are taken. A variance that is written E[x^2] - E[x]^2 is
another number where it cancels, and stays.

Values: exact where the squares of the differences from the mean are within float32's range. Where
they are beyond it, the graph as written gives the bias, and layer_norm the normalized row. An eps
that the kernels do not have, below 0 or NaN, is refused.
"""

from __future__ import annotations

from ..ir import Graph
from ..rewrite import Match, RewriteLog, Rule, apply_rules, pattern
from ._norms import ROOTS, Norm, centered, find_norm, squared, take_vector
from ._written_out import shared_constant


def _check(match: Match) -> str | None:
    if centered(match.editor, squared(match.editor, match["root"])) is None:
        return ""
    found = find_norm(match.editor, match["root"])
    return found if isinstance(found, str) else None


def _rewrite(match: Match) -> None:
    editor = match.editor
    norm = find_norm(editor, match["root"])
    assert isinstance(norm, Norm)
    x, output = centered(editor, norm.x), norm.output
    assert x is not None
    vectors = []
    for op, base, number in (("mul", "ones", 1.0), ("add", "zeros", 0.0)):
        taken = take_vector(editor, output, op)
        if taken is None:
            vectors.append(shared_constant(editor, base, x.shape[-1:], number))
        else:
            output, vector = taken
            vectors.append(vector)
    makers = [editor.producers[value] for value in output.inputs if value in editor.producers]
    editor.replace(output, "layer_norm", [x, *vectors], {"eps": norm.eps})
    editor.drop_unread(makers)


RULES = (Rule("layer_norm", (pattern("root", ROOTS),), _check, _rewrite),)


def fuse_layer_norm(graph: Graph, log: RewriteLog) -> Graph:
    """Join what a LayerNorm that is written out consists of."""
    return apply_rules(graph, "fuse_layer_norm", RULES, log)
