"""Which parts are predicted to gain by running here.

A part saves PyTorch's dispatch of its ops and a share of the time of its products, and costs the
entry of a call. It runs here if it has a product or an attention and saves more than it costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from .coverage import results

# 2 % of the time of a product at 20 GFLOP/s a core: what layouts and fused epilogues save at least.
SAVED_NS_PER_FLOP = 0.02 / 20.0

_INNER = {"linear": 0, "matmul": 0, "mm": 0, "bmm": 0, "mv": 0, "addmm": 1, "baddbmm": 1}
_ATTENTION = "scaled_dot_product_attention"
# PyTorch gives the argument itself, or a view of it, though the schema does not say so.
_SILENT_ALIASES = ("dropout", "feature_dropout", "type_as")


def op_name(node: torch.fx.Node) -> str:
    """The name of a node's op without its namespace and overload, "" for others."""
    target = node.target
    is_aten = isinstance(target, torch._ops.OpOverload) and target.namespace == "aten"
    return target._schema.name.removeprefix("aten::") if is_aten else ""


def is_alias(node: torch.fx.Node) -> bool:
    """Whether PyTorch gives memory of an argument, or may give it: views, and casts to the type
    that a tensor has. An item of a tuple is what the tuple is."""
    if node.op != "call_function":
        return False
    if not isinstance(node.target, torch._ops.OpOverload):
        return bool(node.all_input_nodes) and all(map(is_alias, node.all_input_nodes))
    returns = node.target._schema.returns
    return op_name(node) in _SILENT_ALIASES or any(
        part.alias_info is not None and not part.alias_info.is_write for part in returns
    )


def is_computing(node: torch.fx.Node) -> bool:
    """Whether a node is an op that PyTorch spends time on: no view, no item of a tuple."""
    return isinstance(node.target, torch._ops.OpOverload) and not is_alias(node)


def flops(node: torch.fx.Node) -> int:
    """Two for each multiply-add of a product or attention; 0 for other ops."""
    name = op_name(node)
    size = sum(tensor.numel() for tensor in results(node))
    if name in _INNER:
        return int(2 * size * _first_tensor(node.args[_INNER[name]]).shape[-1])
    if name == _ATTENTION:
        q, k = _first_tensor(node.args[0]), _first_tensor(node.args[1])
        return int(2 * (q.numel() + size) * k.shape[-2])
    if name in ("conv1d", "conv2d", "convolution"):
        weight = _first_tensor(node.args[1])
        return int(2 * size * math.prod(weight.shape[1:]))
    return 0


def _first_tensor(node: Any) -> torch.Tensor:
    return next(iter(results(node)))


@dataclass(frozen=True)
class Costs:
    """Nanoseconds besides computing: of the call of a part, and of an op of PyTorch."""

    entry_ns: float
    dispatch_ns: float


#: Every part with a product gains.
FREE = Costs(0.0, 0.0)


def gains(nodes: Iterable[torch.fx.Node], costs: Costs) -> bool:
    """Whether a part of these nodes is predicted to be faster here than in PyTorch."""
    computing = [node for node in nodes if is_computing(node)]
    n_flops = sum(map(flops, computing))
    saved_ns = len(computing) * costs.dispatch_ns + n_flops * SAVED_NS_PER_FLOP
    return n_flops > 0 and saved_ns > costs.entry_ns
