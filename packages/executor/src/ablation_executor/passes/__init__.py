"""The passes, in the one order in which they run; a variant selects a subset of it.

absorb_into_matmul comes before fold_constants, which would turn the transposed weights into
constants and so destroy its pattern; fuse_attention comes behind those that change a product, since
it takes apart what they have left of a product, a softmax and a product. fuse_gelu and split_gates
come before fuse_silu_mul and fuse_activation, which need their nodes; fuse_silu_mul takes the SiLU
of a gate before fuse_activation gives it to the product. fuse_activation also needs the bias_relu
of fuse_bias_relu. fuse_layer_norm comes before fuse_rms_norm, which would take the larger part of a
LayerNorm for a norm of its own. The last two need what comes before them:
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

from ..ir import Graph, check_graph
from ..rewrite import RewriteLog
from . import (
    absorb_into_matmul,
    direct_layout,
    fold_constants,
    fuse_activation,
    fuse_attention,
    fuse_bias_relu,
    fuse_gelu,
    fuse_layer_norm,
    fuse_matmul_add,
    fuse_rms_norm,
    fuse_rotary,
    fuse_silu_mul,
    merge_qkv,
    split_gates,
)
from ._places import find_places

Pass = Callable[[Graph, RewriteLog], Graph]

# Each module has a function of its name.
PIPELINE: tuple[ModuleType, ...] = (
    absorb_into_matmul,
    fold_constants,
    fuse_matmul_add,
    fuse_bias_relu,
    fuse_attention,
    fuse_gelu,
    split_gates,
    fuse_silu_mul,
    fuse_activation,
    fuse_layer_norm,
    fuse_rms_norm,
    fuse_rotary,
    direct_layout,
    merge_qkv,
)

_MODULES = {module.__name__.rpartition(".")[2]: module for module in PIPELINE}
PASSES: dict[str, Pass] = {name: getattr(module, name) for name, module in _MODULES.items()}
DEFAULT_PASSES: tuple[str, ...] = tuple(PASSES)


def optimize(graph: Graph, passes: Iterable[str] = DEFAULT_PASSES) -> tuple[Graph, RewriteLog]:
    """Run a subset of the passes, always in the pipeline's order, on a copy of the graph.

    Returns the new graph and the log: what fired, and of each attention, norm, gate and linear
    layer how it is fused, or what is left and why. ValueError for an unknown pass.
    """
    check_graph("optimize", graph)
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
    log.places = find_places(graph, [module for name, module in _MODULES.items() if name in chosen])
    return graph, log
