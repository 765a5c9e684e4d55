"""Export a PyTorch module, choose its optimizations one by one, and run it as a native program."""

from __future__ import annotations

from .ir import Graph, GraphBuilder, GraphError, Node, Value, verify
from .ops import CATEGORIES, OPS
from .variants import LARGE_VARIANTS, VARIANTS, Variant

__version__ = "0.1.0"

__all__ = [
    "CATEGORIES",
    "LARGE_VARIANTS",
    "OPS",
    "VARIANTS",
    "Graph",
    "GraphBuilder",
    "GraphError",
    "Node",
    "Value",
    "Variant",
    "verify",
]
