"""The passes, in the one order in which they run; a variant selects a subset of it.

absorb_into_matmul comes before fold_constants, which would turn the transposed weights into
constants and so destroy its pattern; fuse_attention comes behind those that change a product, since
it takes apart what they have left of a product, a softmax and a product. fuse_activation follows,
so that it finds the bias_relu of fuse_bias_relu. What language models write out (fuse_rms_norm,
fuse_rotary, fuse_silu_mul) is no part of these patterns. The last two need what comes before them:
direct_layout an attention and the rotations in front of it, merge_qkv an attention that
direct_layout has turned to (B, S, H, D).

Each pass says under "Values" for which values it is exact: the results are NaN where the graph as
written has NaN, infinite where it is infinite, and else the same up to rounding. A sum whose terms
are together beyond float32 depends on its order, with and without passes, and so does the sign of a
zero. What could differ elsewhere is refused, with the reason in the log.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from types import ModuleType

from ..ir import Graph
from ..rewrite import RewriteLog
from . import (
    absorb_into_matmul,
    direct_layout,
    fold_constants,
    fuse_activation,
    fuse_attention,
    fuse_bias_relu,
    fuse_matmul_add,
    fuse_rms_norm,
    fuse_rotary,
    fuse_silu_mul,
    merge_qkv,
)

Pass = Callable[[Graph, RewriteLog], Graph]

# Each module has a function of its name.
PIPELINE: tuple[ModuleType, ...] = (
    absorb_into_matmul,
    fold_constants,
    fuse_matmul_add,
    fuse_bias_relu,
    fuse_attention,
    fuse_activation,
    fuse_rms_norm,
    fuse_rotary,
    fuse_silu_mul,
    direct_layout,
    merge_qkv,
)

PASSES: dict[str, Pass] = {
    name: getattr(module, name)
    for module in PIPELINE
    for name in [module.__name__.rpartition(".")[2]]
}
DEFAULT_PASSES: tuple[str, ...] = tuple(PASSES)


def optimize(graph: Graph, passes: Iterable[str] = DEFAULT_PASSES) -> tuple[Graph, RewriteLog]:
    """Run a subset of the passes, always in the pipeline's order, on a copy of the graph.

    Returns the new graph and the log of what fired; ValueError for an unknown pass.
    """
    chosen = [passes] if isinstance(passes, str) else list(passes)
    for name in chosen:
        if name not in PASSES:
            near = difflib.get_close_matches(name, PASSES, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"unknown pass {name!r}; did you mean {near!r}? Passes: {', '.join(PASSES)}"
            )
    log = RewriteLog()
    graph = graph.copy()
    for name, function in PASSES.items():
        if name in chosen:
            graph = function(graph, log)
    return graph, log
